"""Timer triggers: fire on schedule; one that was missed while the host was down fires once at the start, past due."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from azure.functions.meta import Datum

from devhost.app_settings import seconds
from devhost.background import Background
from devhost.bindings import Bindings
from devhost.durable.history import now, parse_time, wire_time
from devhost.durable.store import Store
from devhost.function_index import Function
from devhost.triggers.ncrontab import Schedule

_LONGEST_SLEEP = 600.0  # seconds; the wall clock may be set meanwhile
_MONITORED_GAP = timedelta(minutes=1)  # the real host does not monitor schedules that fire more often


def upcoming(function: Function) -> Callable[[datetime], datetime]:
    """Read a schedule, NCRONTAB or a time span: a function from a moment to the next. AppLoadError if unreadable."""
    text = function.trigger.text("schedule").strip()
    try:
        gap = timedelta(seconds=seconds(text))
    except ValueError:
        return Schedule(text).next
    return lambda moment: moment + gap


class Timers:
    """All timer triggers of an app."""

    def __init__(self, bindings: Bindings, store: Store, background: Background) -> None:
        self._bindings, self._store, self._background = bindings, store, background
        self._plans = [(function, upcoming(function)) for function in bindings.index.with_trigger("timerTrigger")]

    def start(self) -> None:
        """Begin to fire."""
        for function, following in self._plans:
            self._background.start(self._keep(function, following))

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

    async def _keep(self, function: Function, following: Callable[[datetime], datetime]) -> None:
        settings = function.trigger.settings
        row = self._store.row("SELECT last, next FROM schedules WHERE function=?", function.name)
        last, missed = row or (None, None)
        moment = now()
        due = first = following(moment)
        monitored = settings.get("useMonitor") is not False and following(first) - first >= _MONITORED_GAP
        past_due = monitored and missed is not None and parse_time(missed) < moment
        if past_due or settings.get("runOnStartup"):
            due = parse_time(missed) if past_due else moment
        while True:
            self._store.write("INSERT OR REPLACE INTO schedules VALUES (?,?,?)", function.name, last, wire_time(due))
            while (wait := (due - now()).total_seconds()) > 0:
                await asyncio.sleep(min(wait, _LONGEST_SLEEP))
            await self.run(function, past_due=past_due, last=last, following=wire_time(following(now())))
            last, due, past_due = wire_time(due), following(now()), False
