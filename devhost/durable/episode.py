"""One episode of an orchestration: what the SDK is sent, and what its reply means for the instance."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from devhost.durable.history import Event, Kind, compact, event, now, parse_time, wire_time
from devhost.durable.program import Act, NonDeterministic, Program, Task
from devhost.errors import UnknownFunction

ERROR_LABEL = "\n\n$OutOfProcData$:"
_SETTINGS = (
    ',"upperSchemaVersion":1,"upperSchemaVersionNew":2,"longRunningTimerIntervalDuration":"3.00:00:00",'
    '"maximumShortTimerDuration":"6.00:00:00","defaultHttpAsyncRequestSleepTimeMillseconds":30000}'
)

RUNNING, COMPLETED, CONTINUED, FAILED = "Running", "Completed", "ContinuedAsNew", "Failed"
CANCELED, TERMINATED, PENDING, SUSPENDED = "Canceled", "Terminated", "Pending", "Suspended"
STATUSES = (RUNNING, COMPLETED, CONTINUED, FAILED, CANCELED, TERMINATED, PENDING, SUSPENDED)  # numbered as on the wire
FINISHED = (COMPLETED, FAILED, CANCELED, TERMINATED)


def request_body(instance_id: str, parent_id: str | None, input_text: str | None, past: Sequence[Event],
                 new: Sequence[Event]) -> str:  # fmt: skip
    """Write the JSON that an orchestration trigger receives."""
    events = ",".join([item.text for item in past] + [item.text for item in new])
    return (
        f'{{"history":[{events}],"input":{input_text or "null"},"instanceId":{json.dumps(instance_id)},'
        f'"isReplaying":{"true" if past else "false"},"parentInstanceId":{json.dumps(parent_id)}{_SETTINGS}'
    )


@dataclass(frozen=True, slots=True)
class Reply:
    """An orchestrator's answer; `fault` is set when it broke without saying which actions it had asked for."""

    actions: list[Any] = field(default_factory=list)
    schema: int = 2
    done: bool = False
    output: Any = None
    error: str | None = None
    custom_status: Any = None
    fault: str | None = None

    @classmethod
    def of_result(cls, text: str) -> Reply:
        """Read a returned state."""
        state = json.loads(text)
        return cls(state.get("actions") or [], state.get("schemaVersion", 0), bool(state.get("isDone")),
                   state.get("output"), state.get("error"), state.get("customStatus"))  # fmt: skip

    @classmethod
    def of_exception(cls, problem: BaseException) -> Reply:
        """Read the state that the SDK puts behind the label in the text of its exception."""
        said, label, state = str(problem).rpartition(ERROR_LABEL)
        if not label:
            return cls(fault=f"{type(problem).__name__}: {problem}")
        try:
            reply = cls.of_result(state)
        except ValueError:
            return cls(fault=said)
        return reply if reply.error else cls(fault=said)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an episode adds to the task hub."""

    events: list[Event]  # scheduling events and ExecutionCompleted, without the frame of OrchestratorStarted/Completed
    tasks: list[Task] = field(default_factory=list)  # new work, in step with the scheduling events
    status: str = RUNNING
    output: str | None = None  # JSON of a result, or a failure's plain text
    next_input: str | None = None  # for CONTINUED: the JSON of the new execution's input
    carried: list[Event] = field(default_factory=list)
    cancelled_timers: list[int] = field(default_factory=list)
    open_tasks: int = 0


def conclude(name: str, execution: str, instance_id: str, reply: Reply, history: Sequence[Event],
             check: Callable[[Kind, str], None]) -> Outcome:  # fmt: skip
    """Replay the reply's actions over the history and say what is new and how the instance stands."""
    failed = f"Orchestrator function '{name}' failed: "
    if reply.fault is not None:
        return _failed(failed + reply.fault, [], [], 0)
    try:
        program = Program(reply.actions, reply.schema, check)
        program.replay(history)
    except UnknownFunction as problem:
        return _failed(f"{failed}{problem}", [], [], 0)
    except NonDeterministic as problem:
        return _failed(str(problem), [], [], 0)
    tasks = program.new_tasks()
    moment = now()
    events = [_scheduling_event(task, execution, instance_id, moment) for task in tasks]
    if program.finished and not program.open_tasks:
        if reply.error:
            return _failed(failed + reply.error, events, tasks, len(program.tasks))
        if program.continued:
            text = None if program.next_input is None else compact(program.next_input)
            return Outcome(events, tasks, CONTINUED, next_input=text, carried=program.carried)
        if reply.done:
            output = None if reply.output is None else compact(reply.output)
            ending = _completed(len(program.tasks), COMPLETED, output)
            return Outcome([*events, ending], tasks, COMPLETED, output)
    return Outcome(events, tasks, cancelled_timers=program.cancelled_timers(), open_tasks=len(program.open_tasks))


def _failed(text: str, events: list[Event], tasks: list[Task], event_id: int) -> Outcome:
    return Outcome([*events, _completed(event_id, FAILED, text)], tasks, FAILED, text)


def _completed(event_id: int, status: str, result: str | None) -> Event:
    return event(Kind.EXECUTION_COMPLETED, event_id, OrchestrationStatus=STATUSES.index(status), Result=result)


def terminated(reason: str | None) -> list[Event]:
    """Events that end an instance at once."""
    return [event(Kind.EXECUTION_TERMINATED, Input=reason), _completed(-1, TERMINATED, reason)]


def rewound(history: Sequence[Event]) -> tuple[list[Event], list[str]]:
    """Turn the failures of a history into GenericEvents; returns it with the ids of the children that failed."""
    failed = {item.reference for item in history if item.kind in (Kind.TASK_FAILED, Kind.SUB_FAILED)}
    changed: list[Event] = []
    children: list[str] = []
    for item in history:
        if item.kind is Kind.SUB_CREATED and item.event_id in failed:
            children.append(str(item.fields()["InstanceId"]))
        is_cause = item.kind in (Kind.TASK_FAILED, Kind.SUB_FAILED, Kind.EXECUTION_COMPLETED)
        if is_cause or (item.kind is Kind.TASK_SCHEDULED and item.event_id in failed):
            at = parse_time(item.fields()["Timestamp"])
            changed.append(event(Kind.GENERIC_EVENT, item.event_id, at, Data=f"Rewound: {item.text}").played())
        else:
            changed.append(item)
    return changed, children


def _scheduling_event(task: Task, execution: str, instance_id: str, at: datetime) -> Event:
    action = task.action
    if task.kind is Kind.TIMER_CREATED:
        assert task.fire_at is not None
        return event(task.kind, task.task_id, at, FireAt=wire_time(task.fire_at))
    if task.kind is Kind.TASK_SCHEDULED:
        value = action["httpRequest"] if action["actionType"] == Act.CALL_HTTP else action.get("input")
        return event(task.kind, task.task_id, at, Name=task.name, Version="", Input=compact([value]))
    if task.kind is Kind.SUB_CREATED:
        child = action.get("instanceId") or f"{execution}:{task.task_id}"
        text = None if action.get("input") is None else compact(action["input"])
        version = action.get("version") or ""
        return event(task.kind, task.task_id, at, Name=task.name, InstanceId=child, Input=text, Version=version)
    request: dict[str, Any] = {"op": action["operation"]}
    if action["actionType"] == Act.SIGNAL_ENTITY:
        request["signal"] = True
    if action.get("input") is not None:
        request["input"] = compact(action["input"])
    request |= {"id": str(uuid.uuid4()), "parent": instance_id, "parentExecution": execution}
    return event(task.kind, task.task_id, at, InstanceId=action["instanceId"], Name="op", Input=compact(request))
