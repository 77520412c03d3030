"""Run records in the service's shape, kept as one JSON file a pipeline run, and the events a watcher sees."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from devhost.adf.spans import stamp

MASKED: Final = "***"
ENDED: Final = frozenset({"Succeeded", "Failed", "Cancelled", "Skipped", "Inactive", "TimedOut"})
_WRITE_GAP_SECONDS: Final = 0.5


@dataclass(frozen=True)
class Event:
    """Something a watcher may show. `kind`: pipeline_started, pipeline_ended, activity_started, activity_ended.

    `path` names the way from the top pipeline's activities to this one; iterations appear as `[n]` or `[n] item`.
    `duration_seconds`, `output`, `error` are set when it ended; secure ones are masked.
    """

    kind: str
    run_id: str
    pipeline: str
    path: tuple[str, ...]
    name: str
    type: str
    status: str
    at: datetime
    attempt: int = 0
    duration_seconds: float | None = None
    output: Any = None
    error: dict[str, Any] | None = None


Watcher = Callable[[Event], None]


@dataclass
class ActivityRun:
    """One attempt of one activity."""

    activity_run_id: str
    activity_name: str
    activity_type: str
    status: str
    start: datetime
    path: tuple[str, ...]
    retry_attempt: int | None = None
    iteration: str | None = None
    linked_service: str | None = None
    user_properties: tuple[dict[str, Any], ...] = ()
    end: datetime | None = None
    input: Any = None
    output: Any = None
    error: dict[str, Any] | None = None

    def to_json(self, pipeline: str, run_id: str) -> dict[str, Any]:
        """The shape of the service's activity run."""
        return {
            "activityRunId": self.activity_run_id,
            "activityName": self.activity_name,
            "activityType": self.activity_type,
            "pipelineName": pipeline,
            "pipelineRunId": run_id,
            "linkedServiceName": self.linked_service or "",
            "status": self.status,
            "activityRunStart": stamp(self.start),
            "activityRunEnd": stamp(self.end) if self.end else None,
            "durationInMs": _milliseconds(self.start, self.end),
            "input": self.input if self.input is not None else {},
            "output": self.output if self.output is not None else {},
            "error": self.error or {"errorCode": "", "message": "", "failureType": "", "target": self.activity_name},
            "retryAttempt": self.retry_attempt,
            "iterationHash": self.iteration or "",
            "userProperties": {str(p.get("name")): p.get("value") for p in self.user_properties},
            "path": list(self.path),
        }


@dataclass
class PipelineRun:
    """One run of one pipeline. Parameters are masked already."""

    run_id: str
    pipeline: str
    group_id: str
    parameters: dict[str, Any]
    invoked_by: dict[str, Any]
    start: datetime
    status: str = "InProgress"
    message: str = ""
    end: datetime | None = None
    return_value: dict[str, Any] = field(default_factory=dict)
    activities: list[ActivityRun] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        """True when the run ended well."""
        return self.status == "Succeeded"

    def activity(self, name: str) -> ActivityRun:
        """The last attempt of an activity by name. Raises KeyError."""
        for run in reversed(self.activities):
            if run.activity_name == name:
                return run
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """The service's pipeline run, with its activity runs under `activityRuns`."""
        return {
            "runId": self.run_id,
            "runGroupId": self.group_id,
            "isLatest": True,
            "pipelineName": self.pipeline,
            "parameters": self.parameters,
            "invokedBy": self.invoked_by,
            "runStart": stamp(self.start),
            "runEnd": stamp(self.end) if self.end else None,
            "lastUpdated": stamp(self.end or self.start),
            "durationInMs": _milliseconds(self.start, self.end),
            "status": self.status,
            "message": self.message,
            "pipelineReturnValue": self.return_value,
            "activityRuns": [run.to_json(self.pipeline, self.run_id) for run in self.activities],
        }


class RunStore:
    """Run records under `{data}/adf/runs/{runId}.json`; without a folder nothing is written."""

    def __init__(self, data: Path | None) -> None:
        self._folder = None if data is None else data / "adf" / "runs"
        self._written: dict[str, float] = {}
        self._lock = threading.Lock()

    def save(self, run: PipelineRun, *, now: bool = False) -> None:
        """Write the record, replacing the file in one step; progress is written at most twice a second."""
        if self._folder is None:
            return
        with self._lock:
            if not now and time.monotonic() - self._written.get(run.run_id, 0.0) < _WRITE_GAP_SECONDS:
                return
            self._written[run.run_id] = time.monotonic()
            self._folder.mkdir(parents=True, exist_ok=True)
            target = self._folder / f"{run.run_id}.json"
            part = target.with_suffix(".part")
            part.write_text(json.dumps(run.to_json(), indent=1), encoding="utf-8")
            part.replace(target)

    def records(self) -> Iterator[dict[str, Any]]:
        """Every record, newest run first."""
        if self._folder is None or not self._folder.is_dir():
            return
        found = [json.loads(file.read_text(encoding="utf-8")) for file in self._folder.glob("*.json")]
        yield from sorted(found, key=lambda record: str(record.get("runStart")), reverse=True)


def _milliseconds(start: datetime, end: datetime | None) -> int | None:
    return None if end is None else round((end - start).total_seconds() * 1000)
