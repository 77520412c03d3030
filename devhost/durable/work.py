"""What episodes ask for: activities (at least once), durable timers, HTTP calls, entity messages."""

from __future__ import annotations

import asyncio
import heapq
import json
import traceback
from collections import deque
from datetime import datetime
from functools import partial
from typing import Any

import aiohttp

from devhost.background import Background
from devhost.durable.entities import Deliver
from devhost.durable.history import Event, Kind, compact, event, now, parse_time, wire_time
from devhost.durable.program import HTTP_ACTIVITY
from devhost.durable.store import Store
from devhost.invocation import ActivityDone, Invoker

_LONGEST_SLEEP = 3600.0  # wake at least hourly: the wall clock may be set meanwhile
Key = tuple[str, str, int]  # instance, execution, task


class Work:
    """The hub's outbox; every row is written in the transaction of the episode that asked for the work."""

    def __init__(self, store: Store, invoker: Invoker, deliver: Deliver, background: Background,
                 parallel: int) -> None:  # fmt: skip
        self._store = store
        self._invoker = invoker
        self._deliver = deliver
        self._background = background
        self._parallel = parallel
        self._waiting: deque[tuple[Key, str, str]] = deque()
        self._running = 0
        self._heap: list[tuple[datetime, Key]] = []
        self._alarm: asyncio.TimerHandle | None = None

    def recover(self) -> None:
        """Take up stored activities and timers."""
        for *key, name, text in self._store.rows("SELECT instance, execution, task, name, input FROM activities"):
            self._queue((tuple(key), name, text))
        for *key, fire_at in self._store.rows("SELECT instance, execution, task, fire_at FROM timers"):
            self._wait(parse_time(fire_at), tuple(key))

    # -- timers -------------------------------------------------------------------------------------
    def add_timer(self, key: Key, fire_at: datetime) -> None:
        """Wake the instance at a time (at once if that is past)."""
        self._store.write("INSERT OR REPLACE INTO timers VALUES (?,?,?,?)", *key, wire_time(fire_at))
        self._store.after_commit(lambda: self._wait(fire_at, key))

    def drop_timer(self, *key: Any) -> bool:
        """Forget a timer; says whether it was still to fire."""
        found = self._store.row("SELECT 1 FROM timers WHERE instance=? AND execution=? AND task=?", *key)
        self._store.write("DELETE FROM timers WHERE instance=? AND execution=? AND task=?", *key)
        return found is not None

    def _wait(self, fire_at: datetime, key: Key) -> None:
        heapq.heappush(self._heap, (fire_at, key))
        if self._heap[0][1] == key:
            self._set_alarm()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        if self._heap:
            seconds = min((self._heap[0][0] - now()).total_seconds(), _LONGEST_SLEEP)
            self._alarm = asyncio.get_running_loop().call_later(seconds, self._ring)

    def _ring(self) -> None:
        moment = now()
        while self._heap and self._heap[0][0] <= moment:
            fire_at, key = heapq.heappop(self._heap)
            if self.drop_timer(*key):
                fired = event(Kind.TIMER_FIRED, TimerId=key[2], FireAt=wire_time(fire_at))
                self._deliver(key[0], key[1], fired, at_once=True)
        self._set_alarm()

    # -- activities ---------------------------------------------------------------------------------
    def add_activity(self, key: Key, name: str, input_text: str) -> None:
        """Run an activity at least once."""
        self._store.write("INSERT OR REPLACE INTO activities VALUES (?,?,?,?,?)", *key, name, input_text)
        self._store.after_commit(lambda: self._queue((key, name, input_text)))

    def drop_activities(self, instance_id: str) -> None:
        """Forget an instance's activities that have not begun."""
        self._waiting = deque(item for item in self._waiting if item[0][0] != instance_id)
        self._store.write("DELETE FROM activities WHERE instance=?", instance_id)

    def _queue(self, item: tuple[Key, str, str]) -> None:
        self._waiting.append(item)
        self._pump()

    def _pump(self) -> None:
        while self._waiting and self._running < self._parallel and not self._invoker.closing:
            key, name, input_text = self._waiting.popleft()
            self._running += 1
            argument = json.loads(input_text)[0]
            done = partial(self._done, key, name)
            if name == HTTP_ACTIVITY:
                self._background.start(_call_http(argument, done))
            else:
                self._invoker.start_activity(name, key[0], argument, done)

    def _done(self, key: Key, name: str, outcome: str | BaseException) -> None:
        self._running -= 1
        if isinstance(outcome, str):
            result = None if outcome == "null" else outcome
            answer = event(Kind.TASK_COMPLETED, TaskScheduledId=key[2], Result=result)
        else:
            answer = _failure(name, key[2], outcome)
        self._store.write("DELETE FROM activities WHERE instance=? AND execution=? AND task=?", *key)
        self._deliver(key[0], key[1], answer, at_once=True)
        self._pump()


async def _call_http(request: dict[str, Any], done: ActivityDone) -> None:
    """The built-in HTTP activity: any answer is a success, a request that cannot be sent a failure."""
    headers = {str(k): str(v) for k, v in (request.get("headers") or {}).items()}
    content = request.get("content")
    if content is not None and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = "text/plain; charset=utf-8"
    outcome: str | BaseException
    try:
        async with aiohttp.request(request["method"], request["uri"], data=content, headers=headers) as response:
            text = await response.text(errors="replace")
            found = {name: response.headers.getall(name) for name in response.headers}
            shown = {name: values if len(values) > 1 else values[0] for name, values in found.items()}
            outcome = compact({"statusCode": response.status, "headers": shown, "content": text})
    except Exception as problem:
        outcome = problem
    done(outcome)


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
