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
    """An event on its way to an instance, stored under `seq` unless it is taken in the turn in which it came."""

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
    busy: bool = False
    queued: bool = False
    gone: bool = False
    quiet: frozenset[int] = frozenset()
    arrived: set[int] = field(default_factory=set)
    wake: asyncio.TimerHandle | None = None
    not_before: float = 0.0
    length: int = 0  # rows of history
    custom_status: str | None = None
    has_timers: bool = False

    def take(self) -> tuple[list[Message], list[Message]]:
        """Take messages for the next episode, and those that came too late for their execution.

        A control message comes alone; while suspended everything else is parked.
        """
        stale = [m for m in self.inbox if m.execution not in (None, self.execution)]
        taken: list[Message] = []
        if self.status == SUSPENDED:
            taken = [m for m in self.inbox if m.event.kind in (Kind.EXECUTION_RESUMED, Kind.EXECUTION_TERMINATED)][:1]
        for message in (*stale, *taken):
            self.inbox.remove(message)
        while self.inbox and self.status != SUSPENDED and (not taken or self.inbox[0].event.kind not in CONTROL):
            taken.append(self.inbox.popleft())
            if taken[-1].event.kind in CONTROL:
                break
        return taken, stale


def started(live: Live) -> Event:
    """Make the event that begins an execution."""
    parent = None if live.parent is None else {
        "TaskScheduleId": live.parent_task,
        "OrchestrationInstance": {"InstanceId": live.parent, "ExecutionId": live.parent_execution},
    }  # fmt: skip
    own = {"InstanceId": live.instance_id, "ExecutionId": live.execution}
    return event(Kind.EXECUTION_STARTED, Name=live.name, Version=live.version or "", Input=live.input, Tags=None,
                 ParentInstance=parent, OrchestrationInstance=own, Correlation=None)  # fmt: skip
