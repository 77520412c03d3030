"""Status payloads as the management routes show them."""

from __future__ import annotations

import json
from typing import Any

from devhost.durable.episode import STATUSES
from devhost.durable.history import Event, Kind

COLUMNS = "id, name, status, input, custom_status, output, created, updated"
_FIELDS = ("instanceId", "name", "runtimeStatus", "input", "customStatus", "output", "createdTime", "lastUpdatedTime")
_FRAMES = (Kind.ORCHESTRATOR_STARTED, Kind.ORCHESTRATOR_COMPLETED)
_SCHEDULING = (Kind.TASK_SCHEDULED, Kind.SUB_CREATED)
_HIDDEN = ("EventId", "IsPlayed", "TaskScheduledId", "TimerId", "Version", "OrchestrationInstance", "ParentInstance",
           "Tags", "Correlation")  # fmt: skip


def payload(row: tuple[Any, ...], *, show_input: bool) -> dict[str, Any]:
    """One instance, from the COLUMNS of its row."""
    shown = dict(zip(_FIELDS, row, strict=True))
    for name in ("input", "customStatus", "output"):
        shown[name] = parsed(shown[name]) if show_input or name != "input" else None
    for name in ("createdTime", "lastUpdatedTime"):
        shown[name] = shown[name].partition(".")[0] + "Z"
    return shown


def parsed(text: str | None) -> Any:
    """Parse JSON once; other text stays as it is."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def history_events(history: list[Event], *, show_output: bool, show_input: bool) -> list[dict[str, Any]]:
    """History for people: frames dropped, scheduling merged into completion, names for numbers."""
    scheduled: dict[int, dict[str, Any]] = {}  # by task id
    shown: list[dict[str, Any]] = []
    for item in history:
        if item.kind in _FRAMES:
            continue
        view = _view(item.kind, item.fields(), show_output=show_output, show_input=show_input)
        origin = scheduled.get(item.reference)
        if origin is not None:
            view["ScheduledTime"] = origin["Timestamp"]
            view |= {name: origin[name] for name in ("FunctionName", "Input") if name in origin}
            shown = [other for other in shown if other is not origin]
        if item.kind in _SCHEDULING:
            scheduled[item.event_id] = view
        shown.append(view)
    return shown


def _view(kind: Kind, fields: dict[str, Any], *, show_output: bool, show_input: bool) -> dict[str, Any]:
    view = {key: value for key, value in fields.items() if key not in _HIDDEN}
    view["EventType"] = kind.wire_name
    if kind in _SCHEDULING or kind is Kind.EXECUTION_STARTED:
        view["FunctionName"] = view.pop("Name", None)
    if "OrchestrationStatus" in view:
        view["OrchestrationStatus"] = STATUSES[view["OrchestrationStatus"]]
    for name, wanted in (("Input", show_input), ("Result", show_output)):
        if name in view:
            view[name] = parsed(view[name])
            if not wanted:
                del view[name]
    return view
