"""History events as the Functions SDK reads them, kept as JSON text plus the few fields that replay needs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, NamedTuple


class Kind(IntEnum):
    """Event types, numbered as on the wire."""

    EXECUTION_STARTED = 0
    EXECUTION_COMPLETED = 1
    EXECUTION_TERMINATED = 3
    TASK_SCHEDULED = 4
    TASK_COMPLETED = 5
    TASK_FAILED = 6
    SUB_CREATED = 7
    SUB_COMPLETED = 8
    SUB_FAILED = 9
    TIMER_CREATED = 10
    TIMER_FIRED = 11
    ORCHESTRATOR_STARTED = 12
    ORCHESTRATOR_COMPLETED = 13
    EVENT_SENT = 14
    EVENT_RAISED = 15
    GENERIC_EVENT = 17
    EXECUTION_SUSPENDED = 19
    EXECUTION_RESUMED = 20

    @property
    def wire_name(self) -> str:
        """Name on the wire, like ExecutionStarted or SubOrchestrationInstanceCreated."""
        return self.name.replace("SUB_", "SUB_ORCHESTRATION_INSTANCE_").title().replace("_", "")


_UNPLAYED, _PLAYED = '"IsPlayed":false', '"IsPlayed":true'


compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
"""JSON without spaces, as the host writes it."""


def wire_time(moment: datetime) -> str:
    """ISO-8601 with microseconds and Z; `moment` is in UTC."""
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


def parse_time(text: str) -> datetime:
    """Read an ISO-8601 time; without an offset it is UTC."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def now() -> datetime:
    """Read the wall clock in UTC."""
    return datetime.now(UTC)


class Event(NamedTuple):
    """One history event; `text` is what the SDK is sent."""

    kind: Kind
    event_id: int
    reference: int  # TaskScheduledId or TimerId; -1 if none
    name: str  # Name; the time of OrchestratorStarted; the request id of EventSent
    text: str

    def played(self) -> Event:
        """Return the same event as part of the past."""
        return self._replace(text=self.text.replace(_UNPLAYED, _PLAYED, 1))

    def fields(self) -> dict[str, Any]:
        """Parse the whole event."""
        return dict(json.loads(self.text))


def event(kind: Kind, event_id: int = -1, at: datetime | None = None, **fields: Any) -> Event:
    """Make a new event; `fields` are spelled as on the wire."""
    moment = wire_time(at or now())
    head = {"EventType": int(kind), "EventId": event_id, "IsPlayed": False, "Timestamp": moment, **fields}
    return _index(kind, head, compact(head))


def from_text(text: str) -> Event:
    """Read an event that was stored."""
    fields = json.loads(text)
    return _index(Kind(fields["EventType"]), fields, text)


def _index(kind: Kind, fields: dict[str, Any], text: str) -> Event:
    reference = fields.get("TaskScheduledId", fields.get("TimerId", -1))
    name = fields.get("Name") or ""
    if kind is Kind.ORCHESTRATOR_STARTED:
        name = fields["Timestamp"]
    elif kind is Kind.EVENT_SENT:
        name = json.loads(fields["Input"])["id"]
    return Event(kind, fields["EventId"], reference, name, text)
