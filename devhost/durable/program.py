"""Replays an orchestrator's action list against its history and finds the work that is new.

The SDK answers each call with all actions since the start. They are a program: each top-level action is awaited before
the next one is invoked, and task ids are given out in that order (0, 1, 2, ... over activities, timers,
sub-orchestrations, entity messages, retry attempts and retry timers). A scheduling event must meet the task of its id.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

from devhost.durable.history import Event, Kind, parse_time
from devhost.errors import UnknownFunction

_FOREVER = 10**12  # milliseconds: longer than any retry waits
MAX_ACTIONS = 100_000  # as in the extension: more fail the instance


class Act(IntEnum):
    """Action types, numbered as on the wire."""

    ACTIVITY = 0
    ACTIVITY_RETRY = 1
    SUB = 2
    SUB_RETRY = 3
    CONTINUE_AS_NEW = 4
    TIMER = 5
    WAIT_EVENT = 6
    CALL_ENTITY = 7
    CALL_HTTP = 8
    SIGNAL_ENTITY = 9
    WHEN_ANY = 11
    WHEN_ALL = 12


HTTP_ACTIVITY = "BuiltIn::HttpActivity"
_TASK_NOUN = {
    Kind.TASK_SCHEDULED: "an activity task",
    Kind.SUB_CREATED: "a sub-orchestration task",
    Kind.TIMER_CREATED: "a timer task",
    Kind.EVENT_SENT: "a send event task",
}


_WORK = {
    Act.ACTIVITY: Kind.TASK_SCHEDULED, Act.ACTIVITY_RETRY: Kind.TASK_SCHEDULED, Act.CALL_HTTP: Kind.TASK_SCHEDULED,
    Act.SUB: Kind.SUB_CREATED, Act.SUB_RETRY: Kind.SUB_CREATED,
    Act.CALL_ENTITY: Kind.EVENT_SENT, Act.SIGNAL_ENTITY: Kind.EVENT_SENT,
}  # fmt: skip
_SETTLES = {  # completion -> whether the task failed
    Kind.TASK_COMPLETED: False, Kind.SUB_COMPLETED: False, Kind.TIMER_FIRED: False,
    Kind.TASK_FAILED: True, Kind.SUB_FAILED: True,
}  # fmt: skip


class NonDeterministic(Exception):
    """The orchestrator's code asks for other work than the history records."""


class Node:
    """Something the program can wait for."""

    def __init__(self, owner: Group | Retry | None) -> None:
        self.owner = owner
        self.ended = False
        self.failed = False

    def end(self, *, failed: bool = False) -> None:
        """Settle once; later calls change nothing."""
        if not self.ended:
            self.ended, self.failed = True, failed
            if self.owner is not None:
                self.owner.child_ended(self)


class Task(Node):
    """A unit of work with an id and a scheduling event."""

    def __init__(self, owner: Group | Retry | None, task_id: int, kind: Kind, action: dict[str, Any],
                 fire_at: datetime | None) -> None:  # fmt: skip
        super().__init__(owner)
        self.task_id, self.kind, self.action, self.fire_at = task_id, kind, action, fire_at
        self.scheduled = False
        is_http = action["actionType"] == Act.CALL_HTTP
        self.name = HTTP_ACTIVITY if is_http else str(action.get("functionName") or "")  # empty: no function's work


class Group(Node):
    """WhenAll ends with its last child, failed or not; WhenAny with its first."""

    def __init__(self, owner: Group | Retry | None, size: int, *, wait_for_all: bool) -> None:
        super().__init__(owner)
        self._wait_for_all = wait_for_all
        self._left = size
        if size == 0:
            self.end()

    def child_ended(self, child: Node) -> None:
        """Count a child in."""
        self._left -= 1
        if self._left == 0 or not self._wait_for_all:
            self.end(failed=child.failed)


class Retry(Node):
    """Attempts with timers between them, and one more timer after the last failure (the SDK counts on it)."""

    def __init__(self, owner: Group | Retry | None, program: Program, kind: Kind, action: dict[str, Any]) -> None:
        super().__init__(owner)
        self._program, self._kind, self._action = program, kind, action
        options = action["retryOptions"]
        self._attempts_left = int(options["maxNumberOfAttempts"])
        self._delay = timedelta(milliseconds=options["firstRetryIntervalInMilliseconds"])
        self._factor = float(options.get("backoffCoefficient") or 1)
        self._longest = timedelta(milliseconds=options.get("maxRetryIntervalInMilliseconds") or _FOREVER)
        self._attempt()

    def _attempt(self) -> None:
        self._attempts_left -= 1
        self._program.open_task(self, self._kind, self._action)

    def child_ended(self, child: Node) -> None:
        """Go from attempt to timer to attempt."""
        if isinstance(child, Task) and child.kind is Kind.TIMER_CREATED:
            if self._attempts_left <= 0:
                self.end(failed=True)
            else:
                self._attempt()
        elif child.failed:
            wait = min(self._delay, self._longest) if self._attempts_left > 0 else timedelta(0)
            self._delay *= self._factor
            fire_at = self._program.now + wait
            self._program.open_task(self, Kind.TIMER_CREATED, {"actionType": Act.TIMER}, fire_at)
        else:
            self.end()


class Program:
    """One replay. Feed the whole history in order, then read what is new.

    `check(kind, name)` raises UnknownFunction for work that the app cannot do, and so does the replay.
    """

    def __init__(self, actions: list[Any], schema: int, check: Callable[[Kind, str], None]) -> None:
        groups = [{"actionType": Act.WHEN_ANY, "compoundActions": group} for group in actions]
        self._actions: list[dict[str, Any]] = actions[0] if schema and actions else groups
        if len(self._actions) > MAX_ACTIONS:
            raise UnknownFunction(f"More than {MAX_ACTIONS} orchestration actions.")
        self._check = check
        self._at = 0
        self._current: Node | None = None
        self.tasks: dict[int, Task] = {}  # by id, never forgotten: history must match
        self.open_tasks: dict[int, Task] = {}  # not ended; keeps the instance running
        self._answers: dict[str, Task] = {}  # entity calls by request id
        self._waiters: dict[str, list[Node]] = defaultdict(list)
        self._early: Counter[str] = Counter()  # events that nothing has waited for yet, by name
        self.now = datetime.min
        self.next_input: str | None = None  # set by continue-as-new
        self.continued = False
        self.carried: list[Event] = []

    # -- what came of it ----------------------------------------------------------------------------
    @property
    def finished(self) -> bool:
        """True when every action has been awaited, or nothing matters after continue-as-new."""
        return self.continued or self._at >= len(self._actions)

    def new_tasks(self) -> list[Task]:
        """Tasks that the history does not know, in id order."""
        return [task for task in self.tasks.values() if not task.scheduled]

    def cancelled_timers(self) -> list[int]:
        """Ids of timers that user code gave up."""
        return [t.task_id for t in self.tasks.values() if t.kind is Kind.TIMER_CREATED and t.action.get("isCanceled")]

    # -- replay -------------------------------------------------------------------------------------
    def replay(self, history: Iterable[Event]) -> None:
        """Feed events in order; raises NonDeterministic and UnknownFunction."""
        for item in history:
            kind = item.kind
            if kind is Kind.ORCHESTRATOR_STARTED:
                self.now = parse_time(item.name)
            elif kind is Kind.EXECUTION_STARTED:
                self._advance()
            elif kind in _TASK_NOUN:
                self._match(item)
            elif kind in _SETTLES:
                task = self.open_tasks.pop(item.reference, None)
                if task is not None:
                    task.end(failed=_SETTLES[kind])
                    self._advance()
            elif kind is Kind.EVENT_RAISED:
                self._raise_event(item)

    def _raise_event(self, item: Event) -> None:
        if self.continued:
            self.carried.append(item)
            return
        call = self._answers.pop(item.name, None)
        key = item.name.casefold()
        if call is not None:
            call.end()
        elif self._waiters[key]:
            self._waiters[key].pop().end()
        else:
            self._early[key] += 1
            return
        self._advance()

    def _match(self, item: Event) -> None:
        task = self.tasks.get(item.event_id)
        named = f" named '{item.name}'" if item.name and item.kind is not Kind.EVENT_SENT else ""
        if task is None:
            instead = "replay execution hasn't (yet?) scheduled this task."
        elif task.kind is not item.kind or (named and task.name.casefold() != item.name.casefold()):
            other = _TASK_NOUN[task.kind] + (f" named '{task.name}'" if task.name else "")
            instead = f"orchestration replay instead scheduled {other} with this sequence number."
        else:
            task.scheduled = True
            if task.action["actionType"] == Act.CALL_ENTITY:
                self._answers[item.name] = task
            return
        raise NonDeterministic(
            "Non-Deterministic workflow detected: A previous execution of this orchestration scheduled "
            f"{_TASK_NOUN[item.kind]} with sequence number {item.event_id}{named}, but the current {instead} "
            "Was a change made to the orchestrator code after this instance had already started running?"
        )

    def _advance(self) -> None:
        while not self.finished:
            if self._current is None:
                self._current = self._start(self._actions[self._at], None)
            if not self._current.ended:
                return
            self._current = None
            self._at += 1

    def _start(self, action: dict[str, Any], owner: Group | Retry | None) -> Node:
        kind = action["actionType"]
        if kind in (Act.WHEN_ALL, Act.WHEN_ANY):
            parts = action["compoundActions"]
            group = Group(owner, len(parts), wait_for_all=kind == Act.WHEN_ALL)
            for part in parts:
                self._start(part, group)
            return group
        if kind == Act.WAIT_EVENT:
            return self._wait_event(action["externalEventName"].casefold(), owner)
        if kind == Act.CONTINUE_AS_NEW:
            self.next_input, self.continued = action.get("input"), True
            return Node(owner)
        if kind == Act.TIMER:
            return self.open_task(owner, Kind.TIMER_CREATED, action, parse_time(action["fireAt"]))
        if kind in (Act.ACTIVITY_RETRY, Act.SUB_RETRY):
            return Retry(owner, self, _WORK[kind], action)
        if kind in _WORK:
            return self.open_task(owner, _WORK[kind], action)
        raise UnknownFunction(f"The action type {kind} is not known to this host.")

    def _wait_event(self, key: str, owner: Group | Retry | None) -> Node:
        waiter = Node(owner)
        if self._early[key]:
            self._early[key] -= 1
            waiter.end()
        else:
            self._waiters[key].append(waiter)
        return waiter

    def open_task(self, owner: Group | Retry | None, kind: Kind, action: dict[str, Any],
                  fire_at: datetime | None = None) -> Task:  # fmt: skip
        """Give out the next id for a piece of work; a signal and a cancelled timer count as ended at once."""
        task = Task(owner, len(self.tasks), kind, action, fire_at)
        if kind is Kind.EVENT_SENT:
            self._check(kind, action["instanceId"].split("@")[1])
        elif kind is not Kind.TIMER_CREATED and action["actionType"] != Act.CALL_HTTP:
            self._check(kind, task.name)
        self.tasks[task.task_id] = task
        if action["actionType"] == Act.SIGNAL_ENTITY or action.get("isCanceled"):
            task.end()
        elif kind is not Kind.EVENT_SENT:
            self.open_tasks[task.task_id] = task
        return task

