"""Services for the bodies: a real lake on Azurite, and ports that a test can script where the world would decide."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.lake import BlobLake
from domain.errors import JobRejected, ShelfcastError
from domain.job_states import JobSpec, JobStatus
from domain.ports import ModelVersion
from domain.scenario import Scenario
from settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class StepClock:
    """A clock that a test moves."""

    time: datetime = datetime(2017, 11, 6, 6, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def forward(self, **span: float) -> None:
        self.time += timedelta(**span)


@dataclass
class ScriptedJobs:
    """A platform whose answers the test writes: `states` by job name, `trouble` raised by the next calls."""

    states: dict[str, str] = field(default_factory=dict)
    payloads: dict[str, JobSpec] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    trouble: list[ShelfcastError] = field(default_factory=list)
    status_calls: int = 0

    def submit(self, spec: JobSpec) -> str:
        if self.trouble:
            raise self.trouble.pop(0)
        if spec.name in self.payloads and self.payloads[spec.name] != spec:
            raise JobRejected(f"{spec.name} exists with another payload")
        self.payloads[spec.name] = spec
        self.states.setdefault(spec.name, "Queued")
        return spec.name

    def statuses(self, run_id: str, names: Sequence[str]) -> dict[str, JobStatus]:
        self.status_calls += 1
        if self.trouble:
            raise self.trouble.pop(0)
        return {
            name: JobStatus(name, self.states[name], "2017-11-06T06:00:00+00:00", "2017-11-06T06:06:00+00:00")
            for name in names if name in self.states
        }

    def cancel(self, name: str) -> None:
        self.cancelled.append(name)


@dataclass
class MemoryRegistry:
    """The registry port in memory, newest registration first."""

    entries: list[ModelVersion] = field(default_factory=list)

    def register(self, name: str, version: str, path: str, tags: Mapping[str, str]) -> ModelVersion:
        for entry in self.entries:
            if (entry.name, entry.version) == (name, version):
                return entry
        entry = ModelVersion(name, version, path, "candidate", dict(tags))
        self.entries.insert(0, entry)
        return entry

    def versions(self, name: str) -> Sequence[ModelVersion]:
        return [entry for entry in self.entries if entry.name == name]

    def models(self) -> Sequence[ModelVersion]:
        return list(self.entries)

    def set_stage(self, name: str, version: str, stage: str, tags: Mapping[str, str] | None = None) -> ModelVersion:
        for index, entry in enumerate(self.entries):
            if (entry.name, entry.version) == (name, version):
                self.entries[index] = replace(entry, stage=stage, tags=entry.tags | dict(tags or {}))
                return self.entries[index]
        raise ShelfcastError(f"{name} has no version {version}")


@dataclass
class Collected:
    """Results and telemetry ports that keep what they are given."""

    runs: list[Mapping[str, Any]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    current: dict[str, str] = field(default_factory=dict)
    forecasts: int = 0
    drift: list[Mapping[str, Any]] = field(default_factory=list)
    realised: list[Mapping[str, Any]] = field(default_factory=list)

    def write_run(self, document: Mapping[str, Any]) -> None:
        self.runs.append(document)

    def write_metrics(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self.runs.append({"run_id": run_id, "metrics": len(rows)})

    def write_forecasts(self, run_id: str, sales_week: str, rows: Iterator[Mapping[str, Any]]) -> int:
        self.forecasts = sum(1 for _ in rows)
        return self.forecasts

    def write_quality(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.runs.extend(rows)

    def write_drift(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self.drift = list(rows)

    def write_realised(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.realised = list(rows)

    def set_current(self, sales_week: str, run_id: str) -> None:
        self.current[sales_week] = run_id

    def event(self, name: str, dimensions: Mapping[str, Any], measures: Mapping[str, float] | None = None) -> None:
        self.events.append(name)

    def exception(self, error: BaseException, dimensions: Mapping[str, Any]) -> None:
        self.events.append(type(error).__name__)

    def flush(self, seconds: float = 5.0) -> bool:
        return True


@dataclass
class ScriptedServices:
    """What the bodies are handed."""

    lake: BlobLake
    settings: Settings
    scenario: Scenario
    clock: StepClock = field(default_factory=StepClock)
    jobs: ScriptedJobs = field(default_factory=ScriptedJobs)
    registry: MemoryRegistry = field(default_factory=MemoryRegistry)
    online_endpoint: Any = None
    batch_endpoint: Any = None
    results: Collected = field(default_factory=Collected)
    telemetry: Collected = field(default_factory=Collected)


@pytest.fixture
def services(lake: BlobLake) -> ScriptedServices:
    settings = Settings.from_env({
        "LAKE": "in use", "CODE_VERSION": "c1", "MAX_JOBS_IN_FLIGHT": "3", "POLL_FIRST_SECONDS": "1",
        "POLL_LONGEST_SECONDS": "10", "TRAIN_DEADLINE_MINUTES": "30", "MAX_FAILED_SHARE": "0.5",
    })
    scenario = Scenario.from_dict(json.loads((ROOT / "config" / "scenario.json").read_text("utf-8")))
    return ScriptedServices(lake, settings, scenario)
