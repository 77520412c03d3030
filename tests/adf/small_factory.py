"""Factories written in a few lines: activities as short calls, run with waits divided by 600."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from devhost.adf.factory import Factory, read_pipeline
from devhost.adf.records import Event
from devhost.adf.runner import Options, PipelineRun, run_pipeline

Json = dict[str, Any]


def expression(text: str) -> Json:
    return {"value": text, "type": "Expression"}


def activity(name: str, kind: str, /, *after: Json | str, policy: Json | None = None, **properties: Any) -> Json:
    depends = [a if isinstance(a, dict) else needs(a, "Succeeded") for a in after]
    more = {"policy": policy} if policy else {}
    return {"name": name, "type": kind, "dependsOn": depends, "typeProperties": properties, **more}


def needs(name: str, *conditions: str) -> Json:
    return {"activity": name, "dependencyConditions": list(conditions)}


def ok(name: str, *after: Json | str) -> Json:
    return activity(name, "Wait", *after, waitTimeInSeconds=0)


def broken(name: str, *after: Json | str, message: str = "broken") -> Json:
    return activity(name, "Fail", *after, message=message, errorCode="500")


def keep(variable: str, text: Any, name: str = "Keep", *after: Json | str) -> Json:
    return activity(name, "SetVariable", *after, variableName=variable, value=text)


def factory(*activities: Json, children: dict[str, Json] | None = None, **properties: Any) -> Factory:
    made = Factory(name="factory", root=Path())
    made.pipelines["main"] = read_pipeline("main", {"activities": list(activities), **properties})
    for name, definition in (children or {}).items():
        made.pipelines[name] = read_pipeline(name, definition)
    return made


def run(
    *activities: Json,
    given: Json | None = None,
    options: Json | None = None,
    children: dict[str, Json] | None = None,
    events: list[Event] | None = None,
    **properties: Any,
) -> PipelineRun:
    settings = Options(**{"wait_scale": 600.0, **(options or {})})
    made = factory(*activities, children=children, **properties)
    return run_pipeline(made, "main", given, options=settings, watcher=None if events is None else events.append)


def statuses(ended: PipelineRun) -> dict[str, str]:
    return {a.activity_name: a.status for a in ended.activities}
