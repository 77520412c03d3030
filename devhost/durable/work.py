"""What episodes ask for: activities (at least once), durable timers, HTTP calls, entity messages."""

from __future__ import annotations

import asyncio
import heapq
import json
import traceback
from collections import deque
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Protocol

import aiohttp

from devhost.durable.entities import EntityHub
from devhost.durable.history import Event, Kind, compact, event, now, parse_time, wire_time
from devhost.durable.hub import TaskHub
from devhost.durable.program import HTTP_ACTIVITY
from devhost.durable.store import Store

_LONGEST_SLEEP = 3600.0  # wake at least hourly: the wall clock may be set meanwhile
_ActivityKey = tuple[str, str, int]
ActivityDone = Callable[[str | BaseException], None]


class ActivityFunctions(Protocol):
    """Runs activity functions off the loop."""

    def start_activity(self, name: str, instance_id: str, input_text: str, done: ActivityDone) -> None:
        """Run an activity on the JSON text of its input; `done` gets the JSON text of its result, or what it raised."""


class Work:
    """The hub's outbox."""

    def __init__(self, store: Store, hub: TaskHub, entities: EntityHub, functions: ActivityFunctions,
                 parallel: int) -> None:  # fmt: skip
        self._store = store
        self._hub = hub
        self._entities = entities
        self._functions = functions
        self._parallel = parallel
        self._waiting: deque[tuple[_ActivityKey, str, str]] = deque()
        self._running = 0
        self._calls: set[asyncio.Task[None]] = set()
        self._heap: list[tuple[datetime, _ActivityKey]] = []
        self._alarm: asyncio.TimerHandle | None = None
        self._http: aiohttp.ClientSession | None = None
        self.closing = False

    def recover(self) -> None:
        """Take up stored activities and timers."""
        for instance_id, execution, task_id, name, text in self._store.rows(
            "SELECT instance, execution, task, name, input FROM activities"
        ):
            self.activity(instance_id, execution, task_id, name, text)
        for instance_id, execution, task_id, fire_at in self._store.rows(
            "SELECT instance, execution, task, fire_at FROM timers"
        ):
            self.timer(instance_id, execution, task_id, parse_time(fire_at))

    async def close(self) -> None:
        """Stop handing out work; what runs is repeated by the next host."""
        self.closing = True
        if self._alarm is not None:
            self._alarm.cancel()
        for task in list(self._calls):
            task.cancel()
        if self._http is not None:
            await self._http.close()

    def entity(self, entity_id: str, request: str) -> None:
        """Store a request for an entity."""
        self._entities.send(entity_id, request)

    # -- timers -------------------------------------------------------------------------------------
    def timer(self, instance_id: str, execution: str, task_id: int, fire_at: datetime) -> None:
        """Wake the instance at a time (at once if that is past)."""
        key = (instance_id, execution, task_id)
        heapq.heappush(self._heap, (fire_at, key))
        if self._heap[0][1] == key:
            self._set_alarm()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._heap and not self.closing:
            seconds = min(max((self._heap[0][0] - now()).total_seconds(), 0.0), _LONGEST_SLEEP)
            self._alarm = asyncio.get_running_loop().call_later(seconds, self._ring)

    def _ring(self) -> None:
        moment = now()
        while self._heap and self._heap[0][0] <= moment:
            fire_at, key = heapq.heappop(self._heap)
            instance_id, execution, task_id = key
            found = self._store.row("SELECT 1 FROM timers WHERE instance=? AND execution=? AND task=?", *key)
            if found is not None:
                self._store.write("DELETE FROM timers WHERE instance=? AND execution=? AND task=?", *key)
                fired = event(Kind.TIMER_FIRED, TimerId=task_id, FireAt=wire_time(fire_at))
                self._hub.deliver(instance_id, execution, fired, at_once=True)
        self._set_alarm()

    # -- activities ---------------------------------------------------------------------------------
    def activity(self, instance_id: str, execution: str, task_id: int, name: str, input_text: str) -> None:
        """Queue an activity."""
        self._waiting.append(((instance_id, execution, task_id), name, input_text))
        self._pump()

    def drop_activities(self, instance_id: str) -> None:
        """Forget an instance's activities that have not begun."""
        self._waiting = deque(item for item in self._waiting if item[0][0] != instance_id)
        self._store.write("DELETE FROM activities WHERE instance=?", instance_id)

    def _pump(self) -> None:
        while self._waiting and self._running < self._parallel and not self.closing:
            key, name, input_text = self._waiting.popleft()
            self._running += 1
            argument = json.loads(input_text)[0]
            done = partial(self._done, key, name)
            if name == HTTP_ACTIVITY:
                task = asyncio.get_running_loop().create_task(self._call_http(argument, done))
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)
            else:
                self._functions.start_activity(name, key[0], argument, done)

    def _done(self, key: _ActivityKey, name: str, outcome: str | BaseException) -> None:
        self._running -= 1
        if self.closing:
            return
        instance_id, execution, task_id = key
        if isinstance(outcome, str):
            result = None if outcome == "null" else outcome
            answer = event(Kind.TASK_COMPLETED, TaskScheduledId=task_id, Result=result)
        else:
            answer = _failure(name, task_id, outcome)
        self._store.write("DELETE FROM activities WHERE instance=? AND execution=? AND task=?", *key)
        self._hub.deliver(instance_id, execution, answer, at_once=True)
        self._pump()

    async def _call_http(self, request: dict[str, Any], done: ActivityDone) -> None:
        try:
            outcome: str | BaseException = await self._send(request)
        except Exception as problem:
            outcome = problem
        done(outcome)

    async def _send(self, request: dict[str, Any]) -> str:
        if self._http is None:
            self._http = aiohttp.ClientSession(auto_decompress=True)
        headers = {str(k): str(v) for k, v in (request.get("headers") or {}).items()}
        content = request.get("content")
        if content is not None and not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = "text/plain; charset=utf-8"
        async with self._http.request(
            request["method"], request["uri"], data=content, headers=headers, allow_redirects=True
        ) as response:
            text = await response.text(errors="replace")
            found: dict[str, Any] = {}
            for name in response.headers:
                values = response.headers.getall(name)
                found[name] = values[0] if len(values) == 1 else values
            return compact({"statusCode": response.status, "headers": found, "content": text})


def _failure(name: str, task_id: int, problem: BaseException) -> Event:
    """TaskFailed as the host words it; the stack holds frames only: text after a label would be read as a state."""
    text = f"{type(problem).__name__}: {problem}"
    trace = traceback.extract_tb(problem.__traceback__)
    frames = "".join(f"   at {f.name} in {f.filename}:line {f.lineno}\n" for f in trace)
    if name == HTTP_ACTIVITY:
        reason = str(problem) or type(problem).__name__
    else:
        reason = f"Activity function '{name}' failed:  {text}"
    details = compact({
        "ClassName": "System.Exception", "Message": text, "Data": None, "InnerException": None, "HelpURL": None,
        "StackTraceString": frames, "RemoteStackTraceString": None, "RemoteStackIndex": 0, "ExceptionMethod": None,
        "HResult": -2146233088, "Source": None,
    })  # fmt: skip
    return event(Kind.TASK_FAILED, TaskScheduledId=task_id, Reason=reason, Details=details)
