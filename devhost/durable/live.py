"""Instances that have not finished, as the hub keeps them in memory."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from devhost.durable.episode import SUSPENDED
from devhost.durable.history import Event, Kind, event

CONTROL = (Kind.EXECUTION_SUSPENDED, Kind.EXECUTION_RESUMED, Kind.EXECUTION_TERMINATED)


@dataclass(slots=True)
class Message:
    """An event on its way to an instance, stored under `seq`."""

    seq: int | None
    execution: str | None
    event: Event


@dataclass(slots=True)
class Live:
    """An instance that has not finished; the first fields are columns of its row."""

    instance_id: str
    execution: str
    name: str
    version: str | None
    status: str
    input: str | None
    parent: str | None = None
    parent_execution: str | None = None
    parent_task: int | None = None
    inbox: deque[Message] = field(default_factory=deque)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    awake: bool = False  # a task runs its episodes
    gone: bool = False
    history: list[Event] | None = None  # None: on disk only

    def take(self) -> list[Message]:
        """Take messages for the next episode. A control message comes alone; while suspended all else is parked."""
        taken: list[Message] = []
        if self.status == SUSPENDED:
            taken = [m for m in self.inbox if m.event.kind in (Kind.EXECUTION_RESUMED, Kind.EXECUTION_TERMINATED)][:1]
            for message in taken:
                self.inbox.remove(message)
        while self.inbox and self.status != SUSPENDED and (not taken or self.inbox[0].event.kind not in CONTROL):
            taken.append(self.inbox.popleft())
            if taken[-1].event.kind in CONTROL:
                break
        return taken


def started(live: Live) -> Event:
    """Make the event that begins an execution."""
    parent = None if live.parent is None else {
        "TaskScheduleId": live.parent_task,
        "OrchestrationInstance": {"InstanceId": live.parent, "ExecutionId": live.parent_execution},
    }  # fmt: skip
    own = {"InstanceId": live.instance_id, "ExecutionId": live.execution}
    return event(Kind.EXECUTION_STARTED, Name=live.name, Version=live.version or "", Input=live.input, Tags=None,
                 ParentInstance=parent, OrchestrationInstance=own, Correlation=None)  # fmt: skip
