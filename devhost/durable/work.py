"""What episodes ask for: activities (at least once), durable timers, HTTP calls, entity messages."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections import deque
from datetime import datetime
from typing import Any

import aiohttp
from azure.functions.meta import Datum

from devhost.background import Background
from devhost.bindings import Bindings
from devhost.durable.entities import Deliver
from devhost.durable.history import Event, Kind, compact, event, now, parse_time, wire_time
from devhost.durable.program import HTTP_ACTIVITY
from devhost.durable.store import Store
from devhost.logs import of_user

_LONGEST_SLEEP = 3600.0  # wake at least hourly: the wall clock may be set meanwhile
Key = tuple[str, str, int]  # instance, execution, task


class Work:
    """The hub's outbox; every row is written in the transaction of the episode that asked for the work."""

    def __init__(self, store: Store, bindings: Bindings, deliver: Deliver, background: Background) -> None:
        self._store, self._bindings, self._deliver, self._background = store, bindings, deliver, background
        self._waiting: deque[tuple[Key, str, str]] = deque()
        self._running = 0

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
        return self._store.write("DELETE FROM timers WHERE instance=? AND execution=? AND task=?", *key).rowcount > 0

    def _wait(self, fire_at: datetime, key: Key) -> None:
        seconds = (fire_at - now()).total_seconds()
        if seconds > 0:
            asyncio.get_running_loop().call_later(min(seconds, _LONGEST_SLEEP), self._wait, fire_at, key)
        elif self.drop_timer(*key):
            fired = event(Kind.TIMER_FIRED, TimerId=key[2], FireAt=wire_time(fire_at))
            self._deliver(key[0], key[1], fired)

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
        bindings = self._bindings
        while self._waiting and self._running < bindings.config.max_activities and not bindings.invoker.closing:
            self._running += 1
            self._background.start(self._run(*self._waiting.popleft()))

    async def _run(self, key: Key, name: str, input_text: str) -> None:
        argument = json.loads(input_text)[0]
        try:
            if name == HTTP_ACTIVITY:
                result = await _call_http(argument)
            else:
                function, values = self._bindings.index.durable("activity", name), {"instanceId": key[0]}
                done = await self._bindings.run(function, Datum(argument, "string"), {}, values, instance=key[0])
                given = done["$return"]
                result = compact(json.loads(given)) if given[:1] in "{[" else given
            answer = event(Kind.TASK_COMPLETED, TaskScheduledId=key[2], Result=None if result == "null" else result)
        except Exception as problem:
            answer = _failure(name, key[2], problem)
        self._running -= 1
        self._store.write("DELETE FROM activities WHERE instance=? AND execution=? AND task=?", *key)
        self._deliver(key[0], key[1], answer)
        self._pump()


async def _call_http(request: dict[str, Any]) -> str:
    """The built-in HTTP activity: any answer is a success, a request that cannot be sent a failure."""
    headers = {str(k): str(v) for k, v in (request.get("headers") or {}).items()}
    content = request.get("content")
    if content is not None and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = "text/plain; charset=utf-8"
    async with aiohttp.request(request["method"], request["uri"], data=content, headers=headers) as response:
        text = await response.text(errors="replace")
        found = {name: response.headers.getall(name) for name in response.headers}
        shown = {name: values if len(values) > 1 else values[0] for name, values in found.items()}
        return compact({"statusCode": response.status, "headers": shown, "content": text})


def _failure(name: str, task_id: int, problem: BaseException) -> Event:
    """TaskFailed as the host words it; the stack holds frames only: text after a label would be read as a state."""
    text = f"{type(problem).__name__}: {problem}"
    trace = traceback.extract_tb(of_user(problem.__traceback__))
    frames = "".join(f"   at {f.name} in {f.filename}:line {f.lineno}\n" for f in trace)
    reason = f"Activity function '{name}' failed:  {text}"
    if name == HTTP_ACTIVITY:
        reason = str(problem) or type(problem).__name__
    details = compact({
        "ClassName": "System.Exception", "Message": text, "Data": None, "InnerException": None, "HelpURL": None,
        "StackTraceString": frames, "RemoteStackTraceString": None, "RemoteStackIndex": 0, "ExceptionMethod": None,
        "HResult": -2146233088, "Source": None,
    })  # fmt: skip
    return event(Kind.TASK_FAILED, TaskScheduledId=task_id, Reason=reason, Details=details)
