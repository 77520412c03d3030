"""Triggers at work: fire one, run a back-fill, or watch all of them until stopped."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

from devhost.adf.errors import AdfError, FactoryError
from devhost.adf.factory import Factory
from devhost.adf.records import PipelineRun, Watcher
from devhost.adf.runner import Options, Runner
from devhost.adf.spans import instant, short_stamp
from devhost.adf.triggers.blob_events import BlobEvent, BlobFilter, BlobWatcher
from devhost.adf.triggers.recurrence import Recurrence
from devhost.adf.triggers.starting import Firing, TriggerLog, start
from devhost.adf.triggers.tumbling import Window, WindowRunner, WindowStates

MODELLED: Final = ("ScheduleTrigger", "TumblingWindowTrigger", "BlobEventsTrigger")
_LOOK_SECONDS: Final = 30.0  # how often a watched tumbling trigger looks for windows that have ended


def next_fire_times(factory: Factory, name: str, *, after: datetime, count: int) -> list[datetime]:
    """The next fire times (UTC) of a schedule trigger. Raises FactoryError for another type."""
    return list(islice(_recurrence(factory, name).after(after), count))


async def run_windows(
    factory: Factory,
    name: str,
    options: Options,
    *,
    first: datetime | None = None,
    until: datetime | None = None,
    rerun_failed: bool = False,
    watcher: Watcher | None = None,
) -> Mapping[str, Window]:
    """Run a tumbling window trigger's windows up to a moment (default: now) to their end; return their states."""
    async with Runner(factory, options, watcher) as runner:
        windows = WindowRunner(runner, name, WindowStates(options.data), TriggerLog(options.data))
        return await windows.run(until or datetime.now(UTC), first=first, rerun_failed=rerun_failed)


async def fire_schedule(
    factory: Factory, name: str, options: Options, *, at: datetime | None = None, watcher: Watcher | None = None
) -> list[PipelineRun]:
    """Fire a schedule trigger as if a scheduled time had come (default: the last one due), wait for its runs."""
    due = at or _recurrence(factory, name).last_before(datetime.now(UTC))
    if due is None:
        raise FactoryError(f"trigger {name!r} was never due; give the scheduled time")
    async with Runner(factory, options, watcher) as runner:
        return await _fire(runner, Firing(name, "ScheduleTrigger", datetime.now(UTC), due), TriggerLog(options.data))


async def deliver(runner: Runner, event: BlobEvent, names: Sequence[str] = ()) -> list[PipelineRun]:
    """Deliver one storage event to every trigger (of these names, if given) that listens for it."""
    runs = []
    now = datetime.now(UTC)
    for name, definition in runner.factory.triggers.items():
        if definition.get("type") != "BlobEventsTrigger" or (names and name not in names):
            continue
        if BlobFilter.read(name, definition).matches(event):
            firing = Firing(name, "BlobEventsTrigger", now, now, event=event.body())
            runs += await _fire(runner, firing, TriggerLog(runner.options.data))
    return runs


class TriggerService:
    """Watches triggers: schedules fire and are forgotten, windows are waited for, blobs are compared."""

    def __init__(self, runner: Runner, names: Sequence[str], *, storage: str | None, poll_seconds: float) -> None:
        self._runner = runner
        self._names = list(names) or list(runner.factory.triggers)
        self._storage = storage
        self._poll_seconds = poll_seconds
        self._log = TriggerLog(runner.options.data)
        self._states = WindowStates(runner.options.data)
        self._started: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        """Watch until cancelled. Raises FactoryError for a trigger type that is not modelled."""
        loops: list[Coroutine[Any, Any, None]] = []
        events: list[str] = []
        for name in self._names:
            kind = str(self._runner.factory.trigger(name).get("type"))
            if kind not in MODELLED:
                raise FactoryError(f"trigger {name!r}: type {kind} is not modelled here")
            if kind == "ScheduleTrigger":
                loops.append(self._schedule(name))
            elif kind == "TumblingWindowTrigger":
                loops.append(self._windows(name))
            else:
                events.append(name)
        if events:
            loops.append(self._blobs(events))
        async with asyncio.TaskGroup() as group:
            for loop in loops:
                group.create_task(loop)

    async def _schedule(self, name: str) -> None:
        recurrence = _recurrence(self._runner.factory, name)
        for due in recurrence.after(datetime.now(UTC)):
            while (left := (due - datetime.now(UTC)).total_seconds()) > 0:
                await asyncio.sleep(min(left, 3600.0))
            self._background(_fire(self._runner, Firing(name, "ScheduleTrigger", datetime.now(UTC), due), self._log))

    async def _windows(self, name: str) -> None:
        windows = WindowRunner(self._runner, name, self._states, self._log)
        while True:
            await windows.run(datetime.now(UTC))
            await asyncio.sleep(_LOOK_SECONDS)

    async def _blobs(self, names: Sequence[str]) -> None:
        if self._storage is None:
            raise FactoryError(f"storage events ({', '.join(names)}) need --storage CONNECTION")
        data = self._runner.options.data
        blobs = BlobWatcher(self._storage, None if data is None else data / "adf" / "triggers" / "blobs-seen.json")
        filters = [BlobFilter.read(name, self._runner.factory.trigger(name)) for name in names]
        containers = {found.container for found in filters if found.container}
        while True:
            for event in await asyncio.to_thread(blobs.changes, containers):
                await deliver(self._runner, event, names)
                blobs.seen(event)
            await asyncio.sleep(self._poll_seconds)

    def _background(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._started.add(task)
        task.add_done_callback(self._started.discard)


async def _fire(runner: Runner, firing: Firing, log: TriggerLog) -> list[PipelineRun]:
    try:
        runs = await start(runner, firing)
    except AdfError as error:
        log.add(firing, [], "Failed", str(error))
        raise
    log.add(firing, runs, "Succeeded")
    return runs


def _recurrence(factory: Factory, name: str) -> Recurrence:
    definition = factory.trigger(name)
    if definition.get("type") != "ScheduleTrigger":
        raise FactoryError(f"trigger {name!r} is a {definition.get('type')}, not a ScheduleTrigger")
    return Recurrence.read((definition.get("typeProperties") or {}).get("recurrence") or {})


def watch(factory: Factory, options: Options, *, names: Sequence[str], storage: str | None, poll_seconds: float) -> int:
    """The command `watch`: until Ctrl-C."""
    from devhost.adf.display import Terminal

    async def whole(terminal: Watcher) -> None:
        async with Runner(factory, options, terminal) as runner:
            _cancel_on_interrupt()
            print("watching", ", ".join(names or factory.triggers) or "nothing")
            await TriggerService(runner, names, storage=storage, poll_seconds=poll_seconds).run()

    with Terminal(live=False) as terminal, suppress(asyncio.CancelledError):
        asyncio.run(whole(terminal))
    return 0


def backfill(
    factory: Factory, options: Options, name: str, *, start: str | None, end: str | None, rerun_failed: bool = False
) -> int:
    """The command `backfill`: 0 when every window succeeded."""
    from devhost.adf.display import Terminal

    async def whole(terminal: Watcher) -> Mapping[str, Window]:
        _cancel_on_interrupt()
        return await run_windows(
            factory,
            name,
            options,
            first=instant(start) if start else None,
            until=instant(end) if end else None,
            rerun_failed=rerun_failed,
            watcher=terminal,
        )

    with Terminal(live=False) as terminal:
        try:
            windows = asyncio.run(whole(terminal))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
    for window in windows.values():
        print(f"{window.start}  {window.status:<10} attempts {window.attempts}  {window.message}".rstrip())
    return 0 if all(window.status == "Succeeded" for window in windows.values()) else 1


def fire(factory: Factory, options: Options, name: str, *, at: str | None) -> int:
    """The command `fire`: 0 when every started run succeeded."""
    from devhost.adf.display import Terminal

    async def whole(terminal: Watcher) -> list[PipelineRun]:
        _cancel_on_interrupt()
        return await fire_schedule(factory, name, options, at=instant(at) if at else None, watcher=terminal)

    with Terminal() as terminal:
        try:
            runs = asyncio.run(whole(terminal))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
    for run in runs:
        print(f"{run.status} {run.pipeline} {run.run_id}  {run.message}".rstrip())
    return 0 if all(run.succeeded for run in runs) else 1


def upcoming(factory: Factory, names: Sequence[str], *, after: str | None, count: int) -> int:
    """The command `next`: fire times of schedule triggers, UTC."""
    moment = instant(after) if after else datetime.now(UTC)
    chosen = names or [n for n, d in factory.triggers.items() if d.get("type") == "ScheduleTrigger"]
    for name in chosen:
        for when in next_fire_times(factory, name, after=moment - timedelta(seconds=1), count=count):
            print(short_stamp(when), name)
    return 0


def _cancel_on_interrupt() -> None:
    task = asyncio.current_task()
    if task is not None:
        with suppress(NotImplementedError, RuntimeError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
