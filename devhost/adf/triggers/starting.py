"""From a trigger to pipeline runs: its parameters evaluated with what the trigger knows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from devhost.adf.expressions import Bindings
from devhost.adf.factory import Factory
from devhost.adf.records import PipelineRun
from devhost.adf.runner import Invocation, Runner
from devhost.adf.scope import resolve
from devhost.adf.spans import stamp


@dataclass(frozen=True)
class Firing:
    """One time that a trigger fires. `outputs` is trigger().outputs, `event` what triggerBody() answers."""

    trigger: str
    type: str
    time: datetime
    scheduled: datetime
    outputs: Mapping[str, Any] = field(default_factory=dict)
    event: Mapping[str, Any] | None = None

    def context(self) -> dict[str, Any]:
        """What trigger() and triggerBody() answer."""
        outputs = {**self.outputs, **({"body": dict(self.event)} if self.event is not None else {})}
        seen = {
            "name": self.trigger,
            "startTime": stamp(self.time),
            "scheduledTime": stamp(self.scheduled),
            "outputs": outputs,
        }
        return {"trigger": seen, "triggerBody": dict(self.event or {})}


def pipelines_of(definition: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Names and parameters of the pipelines that a trigger starts (tumbling windows have one, under `pipeline`)."""
    references = list(definition.get("pipelines") or [])
    if isinstance(definition.get("pipeline"), dict):
        references.append(definition["pipeline"])
    for reference in references:
        name = (reference.get("pipelineReference") or {}).get("referenceName")
        yield str(name), reference.get("parameters") or {}


def parameters_for(factory: Factory, given: Mapping[str, Any], firing: Firing) -> dict[str, Any]:
    """A trigger's parameters for one firing. Raises ExpressionError."""
    bindings = Bindings(pipeline={"globalParameters": factory.global_parameters}, context=firing.context())
    return {name: resolve(value, bindings) for name, value in given.items()}


async def start(runner: Runner, firing: Firing) -> list[PipelineRun]:
    """Run every pipeline of a trigger to its end."""
    runs = []
    for name, given in pipelines_of(runner.factory.trigger(firing.trigger)):
        runs.append(
            await runner.run(
                name,
                parameters_for(runner.factory, given, firing),
                invocation=Invocation(
                    type=firing.type, name=firing.trigger, time=firing.time, event=firing.event, id=firing.trigger
                ),
            )
        )
    return runs


class TriggerLog:
    """Trigger runs in the service's shape, one JSON line each, under `{data}/adf/trigger-runs.jsonl`."""

    def __init__(self, data: Path | None) -> None:
        self._file = None if data is None else data / "adf" / "trigger-runs.jsonl"

    def add(self, firing: Firing, runs: list[PipelineRun], status: str, message: str = "") -> None:
        """Note one firing. `status` is Succeeded once the runs were started, as for the service's triggers."""
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        line = {
            "triggerName": firing.trigger,
            "triggerType": firing.type,
            "triggerRunTimestamp": stamp(firing.time),
            "status": status,
            "message": message,
            "properties": {"TriggerTime": stamp(firing.time), "ScheduleTime": stamp(firing.scheduled)},
            "triggeredPipelines": {run.pipeline: run.run_id for run in runs},
        }
        with self._file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
