"""Runs an orchestrator in memory by the task hub's own rules, and replays it from every prefix of its history.

    simulation = Simulation(my_app_functions, {"activity": result_or_function, ...})
    recording = simulation.run("orchestrator", input)
    check_every_prefix(my_app_functions, recording)

A host may die after any commit. Then the next one replays what is stored. So for every prefix of the episodes:
1. replaying it twice gives the same actions, byte for byte (no clock, no randomness, no order of a set);
2. the actions fit the stored history (the rule that fails instances as non-deterministic);
3. what the replay asks for next is exactly what the first run had asked for at that point.

`Recording.to_json` makes a file of a history; `check_recording` replays it on today's code, so that a change that would
break runs in flight fails a test instead.
"""

from __future__ import annotations

import json
import random
import sqlite3
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from azure.functions._durable_functions import OrchestrationContext

from devhost.durable import episode as ep
from devhost.durable.history import Event, Kind, compact, event, from_text, parse_time, wire_time
from devhost.durable.program import HTTP_ACTIVITY, NonDeterministic, Program
from devhost.function_index import FunctionIndex

BEGIN = datetime(2017, 11, 6, 4, tzinfo=UTC)  # the simulated clock; replay must not see any other
EPISODE_LIMIT = 5000
_STRANGE_YEARS = timedelta(days=4000)


class Inconsistent(AssertionError):
    """An orchestrator that a crash would break; the text says where and how."""


@dataclass(frozen=True)
class Recording:
    """An orchestration as it was stored: its input and its history, episode by episode."""

    name: str
    instance_id: str
    input: str | None
    episodes: list[list[Event]]
    status: str
    output: Any = None
    continued_with: str | None = None  # input of the next execution after continue-as-new
    parent: str | None = None

    def to_json(self) -> str:
        """Write the recording as a document that `from_json` reads."""
        episodes = [[item.fields() for item in episode] for episode in self.episodes]
        return json.dumps({
            "name": self.name, "instance_id": self.instance_id, "input": self.input, "status": self.status,
            "output": self.output, "continued_with": self.continued_with, "parent": self.parent, "episodes": episodes,
        }, indent=1)  # fmt: skip

    @classmethod
    def from_hub(cls, hub: Path, instance_id: str) -> Recording:
        """Read an instance of a host that has stopped, from its hub.sqlite."""
        with closing(sqlite3.connect(hub)) as store:
            row = store.execute(
                "SELECT name, input, status, output, parent FROM instances WHERE id=?", (instance_id,)
            ).fetchone()
            texts = store.execute("SELECT event FROM history WHERE instance=? ORDER BY seq", (instance_id,)).fetchall()
        episodes: list[list[Event]] = []
        for (text,) in texts:
            item = from_text(text.replace('"IsPlayed":true', '"IsPlayed":false', 1))
            if item.kind is Kind.ORCHESTRATOR_STARTED:
                episodes.append([])
            episodes[-1].append(item)
        name, given, status, output, parent = row
        return cls(name, instance_id, given, episodes, status, output, parent=parent)

    @classmethod
    def from_json(cls, text: str) -> Recording:
        """Read a recording."""
        document = json.loads(text)
        episodes = [[from_text(compact(fields)) for fields in episode] for episode in document.pop("episodes")]
        return cls(episodes=episodes, **document)


@dataclass
class _Due:
    at: datetime
    order: int
    item: Event


class Simulation:
    """A task hub in memory with a clock of its own.

    `activities` maps names to results or to functions of the input (raise to fail); `children` the same for
    sub-orchestrations; `events` are (seconds after the start, name, value) raised from outside. Results arrive in an
    order that `seed` shuffles: what must not matter is varied.
    """

    def __init__(self, index: FunctionIndex, activities: Mapping[str, Any], children: Mapping[str, Any] | None = None,
                 events: list[tuple[float, str, Any]] | None = None, seed: int = 0) -> None:  # fmt: skip
        self._index = index
        self._work = {Kind.TASK_SCHEDULED: dict(activities), Kind.SUB_CREATED: dict(children or {})}
        self._events = events or []
        self._random = random.Random(seed)

    def run(self, name: str, given: Any = None, instance_id: str = "simulated") -> Recording:
        """Run one execution to its end (completed, failed or continued as new). Inconsistent if it never ends."""
        text = None if given is None else compact(json.dumps(given))
        moment, order, history = BEGIN, 0, list[Event]()
        episodes: list[list[Event]] = []
        due = [_Due(BEGIN + timedelta(seconds=s), n, event(Kind.EVENT_RAISED, Name=e, Input=compact(v)))
               for n, (s, e, v) in enumerate(self._events)]  # fmt: skip
        inbox = [started(name, instance_id, text)]
        while len(episodes) < EPISODE_LIMIT:
            new = [event(Kind.ORCHESTRATOR_STARTED, at=moment), *inbox]
            reply = replay(self._index, name, instance_id, text, history, new)
            outcome = ep.conclude(name, "execution", instance_id, reply, [*history, *new], lambda _k, _n: None)
            episode = [*new, *outcome.events, event(Kind.ORCHESTRATOR_COMPLETED, at=moment)]
            episodes.append(episode)
            history += [item.played() for item in episode]
            if outcome.status == ep.FAILED and str(outcome.output).startswith("Non-Deterministic"):
                raise Inconsistent(f"{name}, episode {len(episodes)}: {outcome.output}")
            if outcome.status != ep.RUNNING:
                output = (
                    json.loads(outcome.output) if outcome.status == ep.COMPLETED and outcome.output else outcome.output
                )
                return Recording(name, instance_id, text, episodes, outcome.status, output, outcome.next_input)
            for item in outcome.events:
                order += 1
                answer = self._answer(item, moment)
                if answer is not None:
                    due.append(_Due(answer[0], order, answer[1]))
            due = [
                d for d in due if not (d.item.kind is Kind.TIMER_FIRED and d.item.reference in outcome.cancelled_timers)
            ]
            if not due:
                raise Inconsistent(f"{name} waits for ever after {len(episodes)} episodes: nothing is under way.")
            due.sort(key=lambda d: (d.at, d.order))
            moment = max(moment + timedelta(milliseconds=1), due[0].at)
            inbox, due = [d.item for d in due if d.at <= moment], [d for d in due if d.at > moment]
        raise Inconsistent(f"{name} has not ended after {EPISODE_LIMIT} episodes.")

    def _answer(self, item: Event, moment: datetime) -> tuple[datetime, Event] | None:
        fields = item.fields()
        soon = moment + timedelta(milliseconds=self._random.randint(1, 500))
        if item.kind is Kind.TIMER_CREATED:
            fire_at = parse_time(fields["FireAt"])
            return fire_at, event(Kind.TIMER_FIRED, TimerId=item.event_id, FireAt=fields["FireAt"], at=fire_at)
        if item.kind not in self._work:
            return None
        known = self._work[item.kind]
        if item.name not in known and item.name != HTTP_ACTIVITY:
            raise Inconsistent(f"The simulation has no result for {item.name!r}; it knows {sorted(known)}.")
        done, failed = ((Kind.TASK_COMPLETED, Kind.TASK_FAILED) if item.kind is Kind.TASK_SCHEDULED
                        else (Kind.SUB_COMPLETED, Kind.SUB_FAILED))  # fmt: skip
        try:
            result = known[item.name]
            if callable(result):
                result = result(_given(fields["Input"], item.kind))
        except Exception as problem:
            reason = f"Activity function '{item.name}' failed:  {type(problem).__name__}: {problem}"
            return soon, event(failed, TaskScheduledId=item.event_id, Reason=reason, Details="", at=soon)
        return soon, event(done, TaskScheduledId=item.event_id, Result=compact(result), at=soon)


def started(name: str, instance_id: str, text: str | None) -> Event:
    """Make the event that begins an execution."""
    return event(Kind.EXECUTION_STARTED, at=BEGIN, Name=name, Version="", Input=text, Tags=None,
                 OrchestrationInstance={"InstanceId": instance_id, "ExecutionId": "execution"})  # fmt: skip


def _given(text: str | None, kind: Kind) -> Any:
    value = json.loads(text or "null")
    if kind is Kind.TASK_SCHEDULED:
        (value,) = value
    return json.loads(value) if isinstance(value, str) else value


def replay(
    index: FunctionIndex,
    name: str,
    instance_id: str,
    text: str | None,
    past: list[Event],
    new: list[Event],
    parent: str | None = None,
) -> ep.Reply:
    """Call the orchestrator once, as the host does."""
    function = index.durable("orchestrator", name)
    assert function is not None
    body = ep.request_body(instance_id, parent, text, past, new)
    try:
        return ep.Reply.of_result(function.call(**{function.trigger.name: OrchestrationContext(body)}))
    except Exception as problem:
        return ep.Reply.of_exception(problem)


def check_every_prefix(index: FunctionIndex, recording: Recording) -> int:
    """Replay from every point at which a host may have died; returns how many. Inconsistent if one differs."""
    past: list[Event] = []
    for number, episode in enumerate(recording.episodes):
        split = next((i for i, item in enumerate(episode) if item.kind in _ASKED), len(episode) - 1)
        new, asked = episode[:split], [item for item in episode[split:] if item.kind in _ASKED]
        replies = [_disturbed(index, recording, past, new, attempt) for attempt in range(3)]
        where = f"{recording.name}, episode {number + 1} of {len(recording.episodes)}"
        first = _comparable(replies[0])
        for other in replies[1:]:
            if _comparable(other) != first:
                raise Inconsistent(
                    f"{where}: two replays of the same history differ:\n  {first}\n  {_comparable(other)}"
                )
        _fits(where, replies[0], [*past, *new], asked)
        past += [item.played() for item in episode]
    return len(recording.episodes)


_ASKED = (Kind.TASK_SCHEDULED, Kind.SUB_CREATED, Kind.TIMER_CREATED, Kind.EVENT_SENT, Kind.EXECUTION_COMPLETED)


def check_recording(index: FunctionIndex, recording: Recording) -> None:
    """Replay a recorded history on today's code: runs in flight at a deployment must go on. Inconsistent if not."""
    check_every_prefix(index, recording)


def _fits(where: str, reply: ep.Reply, history: list[Event], asked: list[Event]) -> None:
    if reply.fault is not None:
        raise Inconsistent(f"{where}: replay fails with {reply.fault}")
    program = Program(reply.actions, reply.schema, lambda _k, _n: None)
    try:
        program.replay(history)
    except NonDeterministic as problem:
        raise Inconsistent(f"{where}: {problem}") from problem
    now_asked = [
        (task.kind, task.task_id, task.name, wire_time(task.fire_at) if task.fire_at else _input_of(task.action))
        for task in program.new_tasks()
    ]
    then_asked = [(e.kind, e.event_id, e.name if e.kind is not Kind.EVENT_SENT else "", _stored_input(e))
                  for e in asked if e.kind is not Kind.EXECUTION_COMPLETED]  # fmt: skip
    if now_asked != then_asked:
        raise Inconsistent(f"{where}: the replay asks for\n  {now_asked}\nthe first run asked for\n  {then_asked}")
    ended = any(e.kind is Kind.EXECUTION_COMPLETED for e in asked)
    if ended != (
        program.finished and not program.open_tasks and (reply.done or bool(reply.error)) and not program.continued
    ):
        raise Inconsistent(f"{where}: the replay {'goes on' if ended else 'ends'}, the first run did not.")


def _input_of(action: Mapping[str, Any]) -> str | None:
    if "httpRequest" in action:
        return compact(action["httpRequest"])
    return None if action.get("input") is None or "operation" in action else str(action["input"])


def _stored_input(item: Event) -> str | None:
    if item.kind is Kind.TIMER_CREATED:
        return str(item.fields()["FireAt"])
    text = item.fields().get("Input")
    if text is None or item.kind is Kind.EVENT_SENT:
        return None
    value = json.loads(text)
    if item.kind is Kind.TASK_SCHEDULED:
        (value,) = value
    return value if isinstance(value, str) else compact(value)


def _comparable(reply: ep.Reply) -> str:
    return compact([reply.actions, reply.done, reply.output, reply.error, reply.custom_status, reply.fault])


@dataclass
class _World:
    """What a replay must not depend on, moved on at each attempt: the clock, randomness, ids."""

    attempt: int
    saved: list[tuple[Any, str, Any]] = field(default_factory=list)

    def __enter__(self) -> None:
        shift = _STRANGE_YEARS.total_seconds() * self.attempt
        clock = time.time
        self._swap(time, "time", lambda: clock() + shift)
        self._swap(uuid, "uuid4", _uuids(self.attempt))
        random.seed(self.attempt)

    def __exit__(self, *_: object) -> None:
        for owner, name, value in self.saved:
            setattr(owner, name, value)

    def _swap(self, owner: Any, name: str, value: Callable[..., Any]) -> None:
        self.saved.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)


def _uuids(attempt: int) -> Callable[[], uuid.UUID]:
    source = random.Random(f"uuid {attempt}")
    return lambda: uuid.UUID(int=source.getrandbits(128), version=4)


def _disturbed(
    index: FunctionIndex, recording: Recording, past: list[Event], new: list[Event], attempt: int
) -> ep.Reply:
    with _World(attempt):
        return replay(index, recording.name, recording.instance_id, recording.input, past, new, recording.parent)
