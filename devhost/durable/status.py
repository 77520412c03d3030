"""Status payloads as the management routes show them."""

from __future__ import annotations

import json
from typing import Any

from devhost.durable.episode import STATUS_NUMBERS
from devhost.durable.history import WIRE_NAMES, Event, Kind

COLUMNS = "id, name, status, input, custom_status, output, created, updated"
_STATUS_NAMES = {number: name for name, number in STATUS_NUMBERS.items()}
_FRAMES = (Kind.ORCHESTRATOR_STARTED, Kind.ORCHESTRATOR_COMPLETED)
_SCHEDULING = (Kind.TASK_SCHEDULED, Kind.SUB_CREATED)
_ENDINGS = {
    Kind.TASK_COMPLETED: Kind.TASK_SCHEDULED, Kind.TASK_FAILED: Kind.TASK_SCHEDULED,
    Kind.SUB_COMPLETED: Kind.SUB_CREATED, Kind.SUB_FAILED: Kind.SUB_CREATED,
}  # fmt: skip
_HIDDEN = ("EventId", "IsPlayed", "TaskScheduledId", "TimerId", "Version", "OrchestrationInstance", "ParentInstance",
           "Tags", "Correlation")  # fmt: skip


def payload(row: tuple[Any, ...], *, show_input: bool) -> dict[str, Any]:
    """One instance, from the COLUMNS of its row."""
    instance_id, name, status, input_text, custom, output, created, updated = row
    return {
        "name": name,
        "instanceId": instance_id,
        "runtimeStatus": status,
        "input": parsed(input_text) if show_input else None,
        "customStatus": parsed(custom),
        "output": parsed(output),
        "createdTime": _seconds(created),
        "lastUpdatedTime": _seconds(updated),
    }


def parsed(text: str | None) -> Any:
    """Parse JSON once; other text stays as it is."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _seconds(text: str) -> str:
    return text.partition(".")[0].rstrip("Z") + "Z"


def history_events(history: list[Event], *, show_output: bool, show_input: bool) -> list[dict[str, Any]]:
    """History for people: frames dropped, scheduling merged into completion, names for numbers."""
    scheduled: dict[tuple[Kind, int], dict[str, Any]] = {}
    shown: list[dict[str, Any]] = []
    for item in history:
        if item.kind in _FRAMES:
            continue
        fields = item.fields()
        origin = scheduled.get((_ENDINGS.get(item.kind, item.kind), item.reference)) if item.kind in _ENDINGS else None
        view = _view(item.kind, fields, show_output=show_output, show_input=show_input)
        if origin is not None:
            view["ScheduledTime"] = origin["Timestamp"]
            view["FunctionName"] = origin["FunctionName"]
            if show_input and "Input" in origin:
                view["Input"] = origin["Input"]
            shown = [other for other in shown if other is not origin]
        if item.kind in _SCHEDULING:
            scheduled[item.kind, item.event_id] = view
        shown.append(view)
    return shown


def _view(kind: Kind, fields: dict[str, Any], *, show_output: bool, show_input: bool) -> dict[str, Any]:
    view = {key: value for key, value in fields.items() if key not in _HIDDEN}
    view["EventType"] = WIRE_NAMES[kind]
    if kind in _SCHEDULING or kind is Kind.EXECUTION_STARTED:
        view["FunctionName"] = view.pop("Name", None)
    if "OrchestrationStatus" in view:
        view["OrchestrationStatus"] = _STATUS_NAMES[view["OrchestrationStatus"]]
    if not show_input:
        view.pop("Input", None)
    if "Result" in view:
        if show_output:
            view["Result"] = parsed(view["Result"])
        else:
            del view["Result"]
    if "Input" in view:
        view["Input"] = parsed(view["Input"])
    return view
