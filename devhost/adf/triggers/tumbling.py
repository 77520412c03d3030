"""Tumbling windows: back-fill from the oldest, dependencies, retries, a limit at once, states that survive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from devhost.adf.errors import FactoryError
from devhost.adf.factory import Factory
from devhost.adf.runner import Runner
from devhost.adf.spans import instant, short_stamp, span_seconds
from devhost.adf.triggers.starting import Firing, TriggerLog, start

ENDED: Final = frozenset({"Succeeded", "Failed", "Cancelled"})
MAX_CONCURRENCY: Final = 50
_STEPS: Final = {"minute": 60, "hour": 3600}


@dataclass(frozen=True)
class Dependency:
    """Another trigger's windows (or earlier ones of the same) that must have succeeded first."""

    trigger: str
    offset_seconds: float
    size_seconds: float | None


@dataclass(frozen=True)
class Tumbling:
    """A tumbling window trigger's settings. Times are UTC."""

    name: str
    frequency: str
    interval: int
    start: datetime
    end: datetime | None
    delay_seconds: float
    max_concurrency: int
    retries: int
    retry_seconds: float
    dependencies: tuple[Dependency, ...]

    @classmethod
    def read(cls, factory: Factory, name: str) -> Tumbling:
        """From a trigger of the factory. Raises FactoryError when it is not a tumbling window trigger."""
        definition = factory.trigger(name)
        if definition.get("type") != "TumblingWindowTrigger":
            raise FactoryError(f"trigger {name!r} is a {definition.get('type')}, not a TumblingWindowTrigger")
        settings = definition.get("typeProperties") or {}
        frequency = str(settings.get("frequency", "")).lower()
        if frequency not in ("minute", "hour", "month"):
            raise FactoryError(
                f"trigger {name!r}: frequency {settings.get('frequency')!r} is not Minute, Hour or Month"
            )
        retry = settings.get("retryPolicy") or {}
        return cls(
            name=name,
            frequency=frequency,
            interval=int(settings.get("interval") or 1),
            start=instant(str(settings.get("startTime"))),
            end=instant(str(settings["endTime"])) if settings.get("endTime") else None,
            delay_seconds=span_seconds(settings.get("delay") or 0),
            max_concurrency=min(int(settings.get("maxConcurrency") or MAX_CONCURRENCY), MAX_CONCURRENCY),
            retries=int(retry.get("count") or 0),
            retry_seconds=float(retry.get("intervalInSeconds") or 30),
            dependencies=tuple(_dependency(name, entry) for entry in settings.get("dependsOn") or ()),
        )

    def windows(self, until: datetime, first: datetime | None = None) -> Iterator[tuple[datetime, datetime]]:
        """Windows that have ended (with the delay) by a moment, oldest first; `first` leaves earlier ones out."""
        begin = self.start
        for count in range(1, 1_000_000):
            end = self._border(count)
            if end + timedelta(seconds=self.delay_seconds) > until or (self.end is not None and end > self.end):
                return
            if first is None or begin >= first:
                yield begin, end
            begin = end

    def _border(self, count: int) -> datetime:
        if self.frequency != "month":
            return self.start + timedelta(seconds=_STEPS[self.frequency] * self.interval * count)
        months = self.start.month - 1 + self.interval * count
        return self.start.replace(year=self.start.year + months // 12, month=months % 12 + 1)


@dataclass
class Window:
    """One window's state. Times are UTC text; `status` is Waiting, Running, Succeeded, Failed or Cancelled."""

    start: str
    end: str
    status: str = "Waiting"
    attempts: int = 0
    run_ids: list[str] = field(default_factory=list)
    message: str = ""


class WindowStates:
    """Window states of all triggers under `{data}/adf/triggers/NAME.json`; in memory only without a folder."""

    def __init__(self, data: Path | None) -> None:
        self._folder = None if data is None else data / "adf" / "triggers"
        self._windows: dict[str, dict[str, Window]] = {}

    def of(self, trigger: str) -> dict[str, Window]:
        """Windows of a trigger by their start."""
        if trigger not in self._windows:
            self._windows[trigger] = {}
            file = self._file(trigger)
            if file is not None and file.exists():
                for entry in json.loads(file.read_text(encoding="utf-8"))["windows"]:
                    self._windows[trigger][entry["start"]] = Window(**entry)
        return self._windows[trigger]

    def save(self, trigger: str) -> None:
        """Write a trigger's states in one step."""
        file = self._file(trigger)
        if file is None:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        windows = [asdict(window) for _, window in sorted(self.of(trigger).items())]
        part = file.with_suffix(".part")
        part.write_text(json.dumps({"trigger": trigger, "windows": windows}, indent=1), encoding="utf-8")
        part.replace(file)

    def _file(self, trigger: str) -> Path | None:
        return None if self._folder is None else self._folder / f"{trigger}.json"


class WindowRunner:
    """Runs a trigger's windows, each to its end."""

    def __init__(self, runner: Runner, name: str, states: WindowStates, log: TriggerLog) -> None:
        self._runner = runner
        self._trigger = Tumbling.read(runner.factory, name)
        self._states = states
        self._log = log

    async def run(
        self, until: datetime, *, first: datetime | None = None, rerun_failed: bool = False
    ) -> Mapping[str, Window]:
        """Run every window that has ended by a moment and is not done; return the states of those windows.

        A window that was running when the process died is run again. Cancelling leaves states that a later call
        continues from. Windows whose dependencies cannot be met stay Waiting.
        """
        wanted = self._prepare(until, first, rerun_failed)
        running: dict[asyncio.Task[None], Window] = {}
        try:
            while True:
                for window in wanted.values():
                    free = len(running) < self._trigger.max_concurrency
                    if free and window.status == "Waiting" and self._met(window):
                        window.status = "Running"
                        running[asyncio.create_task(self._window(window))] = window
                self._states.save(self._trigger.name)
                if not running:
                    return wanted
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del running[task]
                    task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            self._states.save(self._trigger.name)

    def _prepare(self, until: datetime, first: datetime | None, rerun_failed: bool) -> dict[str, Window]:
        known = self._states.of(self._trigger.name)
        wanted = {}
        for begin, end in self._trigger.windows(until, first):
            window = known.setdefault(short_stamp(begin), Window(short_stamp(begin), short_stamp(end)))
            if window.status == "Running" or (rerun_failed and window.status in ("Failed", "Cancelled")):
                window.status = "Waiting"
            wanted[window.start] = window
        return wanted

    async def _window(self, window: Window) -> None:
        for attempt in range(self._trigger.retries + 1):
            if attempt:
                await self._runner.services.clock.wait(self._trigger.retry_seconds)
            window.attempts += 1
            now = datetime.now(UTC)
            firing = Firing(
                trigger=self._trigger.name,
                type="TumblingWindowTrigger",
                time=now,
                scheduled=instant(window.end),
                outputs={"windowStartTime": window.start, "windowEndTime": window.end},
            )
            runs = await start(self._runner, firing)
            window.run_ids += [run.run_id for run in runs]
            failed = [run for run in runs if not run.succeeded]
            window.message = failed[0].message if failed else ""
            window.status = "Running" if failed else "Succeeded"
            self._log.add(firing, runs, "Failed" if failed else "Succeeded", window.message)
            if not failed:
                break
        if window.status == "Running":
            window.status = "Failed"
        self._states.save(self._trigger.name)

    def _met(self, window: Window) -> bool:
        """True when all windows that this one depends on succeeded; there are none before a trigger's start."""
        begin, end = instant(window.start), instant(window.end)
        for needed in self._trigger.dependencies:
            other = Tumbling.read(self._runner.factory, needed.trigger)
            low = begin + timedelta(seconds=needed.offset_seconds)
            high = low + (timedelta(seconds=needed.size_seconds) if needed.size_seconds else end - begin)
            states = self._states.of(other.name)
            for first, last in other.windows(high):
                if first < high and last > low:
                    state = states.get(short_stamp(first))
                    if state is None or state.status != "Succeeded":
                        return False
            if needed.trigger != self._trigger.name and not any(True for _ in other.windows(high)):
                return False
        return True


def _dependency(owner: str, entry: Mapping[str, Any]) -> Dependency:
    kind = str(entry.get("type", ""))
    reference = (entry.get("referenceTrigger") or {}).get("referenceName")
    itself = kind.startswith("SelfDependency")
    offset = span_seconds(entry.get("offset") or 0)
    if itself and offset >= 0:
        raise FactoryError(f"trigger {owner!r}: a self-dependency needs a negative offset")
    return Dependency(
        trigger=owner if itself else str(reference),
        offset_seconds=offset,
        size_seconds=span_seconds(entry["size"]) if entry.get("size") else None,
    )
