"""Timer triggers: fire on schedule; one that was missed while the host was down fires once at the start, past due."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from azure.functions.meta import Datum

from devhost.app_settings import resolve, seconds
from devhost.bindings import Bindings
from devhost.durable.history import now, parse_time, wire_time
from devhost.durable.store import Store
from devhost.function_index import Function
from devhost.logs import EventLog
from devhost.triggers.ncrontab import Schedule

log = EventLog("devhost.timers")
_LONGEST_SLEEP = 600.0  # seconds; the wall clock may be set meanwhile
_MONITORED_GAP = timedelta(minutes=1)  # the real host does not monitor schedules that fire more often


class _Recurrence(Protocol):
    def next(self, after: datetime) -> datetime: ...


class _Every:
    def __init__(self, gap: float) -> None:
        self._gap = timedelta(seconds=gap)

    def next(self, after: datetime) -> datetime:
        return after + self._gap


def recurrence(function: Function, environ: Mapping[str, str]) -> _Recurrence:
    """Read a function's schedule: NCRONTAB or a time span. AppLoadError if it cannot be read."""
    text = resolve(str(function.trigger.settings["schedule"]), environ, f"the schedule of {function.name}").strip()
    try:
        return _Every(seconds(text))
    except ValueError:
        return Schedule(text)


class Timers:
    """All timer triggers of an app."""

    def __init__(self, store: Store, bindings: Bindings, functions: list[Function], environ: Mapping[str, str]) -> None:
        self._store = store
        self._bindings = bindings
        self._plans = [(function, recurrence(function, environ)) for function in functions]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to fire."""
        self._tasks = [asyncio.get_running_loop().create_task(self._keep(f, plan)) for f, plan in self._plans]

    async def close(self) -> None:
        """Stop firing."""
        for task in self._tasks:
            task.cancel()

    async def run(self, function: Function, *, past_due: bool = False, last: str | None = None,
                  following: str | None = None) -> None:  # fmt: skip
        """Fire once; what the function raises is logged and does not stop the schedule."""
        payload: dict[str, Any] = {
            "Schedule": {"AdjustForDST": True},
            "ScheduleStatus": {"Last": last, "Next": following, "LastUpdated": last},
            "IsPastDue": past_due,
        }
        with contextlib.suppress(Exception):
            await self._bindings.run(function, Datum(json.dumps(payload), "json"), {}, {})

    async def _keep(self, function: Function, plan: _Recurrence) -> None:
        settings = function.trigger.settings
        row = self._store.row("SELECT last, next FROM schedules WHERE function=?", function.name)
        last, due = (row[0], parse_time(row[1])) if row else (None, None)
        moment = now()
        first = plan.next(moment)
        monitored = settings.get("useMonitor") is not False and plan.next(first) - first >= _MONITORED_GAP
        if monitored and due is not None and due < moment:
            await self._fire(function, due, plan, last, past_due=True)
        elif settings.get("runOnStartup"):
            await self._fire(function, moment, plan, last, past_due=False)
        while True:
            due = plan.next(now())
            self._store.write("INSERT OR REPLACE INTO schedules VALUES (?,?,?)", function.name, last, wire_time(due))
            while (wait := (due - now()).total_seconds()) > 0:
                await asyncio.sleep(min(wait, _LONGEST_SLEEP))
            last = await self._fire(function, due, plan, last, past_due=False)

    async def _fire(self, function: Function, due: datetime, plan: _Recurrence, last: str | None, *,
                    past_due: bool) -> str:  # fmt: skip
        following = wire_time(plan.next(now()))
        await self.run(function, past_due=past_due, last=last, following=following)
        self._store.write("INSERT OR REPLACE INTO schedules VALUES (?,?,?)", function.name, wire_time(due), following)
        return wire_time(due)
