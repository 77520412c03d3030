"""Runs the product's orchestrators in this process: the real generators through the real SDK, the real bodies.

Episodes are judged by devhost's replay engine, so ids and determinism are checked as a host checks them. Time is a
clock that jumps to the next timer. A `Fuse` kills the process at a chosen call of a port: the episode or activity that
was under way is lost and repeated, as durable does.
"""

from __future__ import annotations

import json
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import azure.durable_functions as df

from devhost.durable import sdk_speed
from devhost.durable.episode import COMPLETED, CONTINUED, FAILED, RUNNING, Reply, conclude, request_body
from devhost.durable.history import Event, Kind, compact, event, wire_time
from domain import activity_names as names
from orchestrators import (
    accepting,
    batch_rollout,
    collecting,
    deciding,
    job_loop,
    job_watch,
    publishing,
    rollout,
    runs,
    webhook,
    weekly,
    writing_results,
)
from orchestrators.waiting import answer_of
from tests.orchestrators.conftest import StepClock

sdk_speed.apply()  # as the host does
Body = Callable[[Any, dict[str, Any]], dict[str, Any]]

ORCHESTRATORS = {
    names.RUN_WEEK: weekly.run_week, names.RUN_JOBS: job_loop.run_jobs, names.AWAIT_RUN: webhook.await_run,
    names.ROLL_OUT: rollout.roll_out, names.ROLL_OUT_BATCH: batch_rollout.roll_out_batch,
}
BODIES: dict[str, Body] = {
    names.OPEN_RUN: runs.open_run, names.NOTE_STEP: runs.note_step, names.CLOSE_RUN: runs.close_run,
    names.DECIDE_TRAINING: deciding.decide_run, names.PLAN_JOBS: job_watch.plan_phase,
    names.SUBMIT_JOBS: job_watch.submit_units, names.CANCEL_JOBS: job_watch.cancel_units,
    names.POLL_JOBS: job_watch.poll_phase, names.ACCEPT_MODELS: accepting.accept_models,
    names.COLLECT_SCORES: collecting.collect_scores, names.PUBLISH_WEEK: publishing.publish_week,
    names.WRITE_RESULTS: writing_results.write_results, names.CALL_BACK: webhook.call_back,
    names.SET_TRAFFIC: rollout.set_traffic, names.PROBE_ROLLOUT: rollout.probe_rollout,
    names.CLOSE_ROLLOUT: rollout.close_rollout, names.ADVANCE_BATCH: batch_rollout.advance_batch,
}


class Crash(BaseException):
    """The host is gone: no handler of the product may see this."""


@dataclass
class Fuse:
    """Counts calls of the ports and kills the host before or after the one that was asked for.

    After a call and before the next one of the same activity leave the same behind: what memory held is lost, and the
    activity begins again. So `points` are: before each call, and after the last one of each activity.
    """

    at: int = -1
    after: bool = False
    calls: int = 0
    points: list[tuple[int, bool]] = field(default_factory=list)

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        number, self.calls = self.calls, self.calls + 1
        self.points.append((number, False))
        if number == self.at and not self.after:
            raise Crash(name)
        answer = function(*args, **kwargs)
        if number == self.at:
            raise Crash(name)
        return answer

    def end_activity(self) -> None:
        """Tell that the calls so far are over and done with."""
        if self.points and not self.points[-1][1]:
            self.points.append((self.calls - 1, True))


class Fused:
    """A port whose calls go through the fuse."""

    def __init__(self, port: Any, fuse: Fuse, label: str) -> None:
        self._port, self._fuse, self._label = port, fuse, label

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._port, name)
        label = f"{self._label}.{name}"
        return lambda *args, **kwargs: self._fuse.call(label, attribute, *args, **kwargs)


@dataclass
class Instance:
    """One orchestration."""

    name: str
    instance_id: str
    input_text: str | None
    parent: tuple[str, str, int] | None = None
    execution: str = field(default_factory=lambda: uuid.uuid4().hex)
    past: list[Event] = field(default_factory=list)
    inbox: list[Event] = field(default_factory=list)
    status: str = RUNNING
    output: str | None = None
    executions: int = 1

    @property
    def result(self) -> Any:
        return json.loads(self.output) if self.output else None


@dataclass
class Driver:
    """A task hub in memory. `bodies` overrides or adds activities; `kills` counts the crashes it lived through."""

    services: Any
    clock: StepClock
    bodies: dict[str, Body] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)
    kills: int = 0
    longest_history: int = 0
    activities: int = 0
    histories: list[tuple[str, str | None, list[Event]]] = field(default_factory=list)
    on_tick: Callable[[], None] = lambda: None
    on_activity: Callable[[], None] = lambda: None  # an activity has ended

    def __post_init__(self) -> None:
        self._work: deque[tuple[str, str, int, str, str]] = deque()
        self._timers: list[tuple[datetime, str, str, int]] = []
        self._ready: deque[str] = deque()

    def start(self, name: str, instance_id: str, argument: Any, parent: tuple[str, str, int] | None = None) -> None:
        """Start an orchestration; its input travels as the SDK's client sends it."""
        self._begin(Instance(name, instance_id, compact(json.dumps(argument)), parent))

    def _begin(self, instance: Instance) -> None:
        self.instances[instance.instance_id] = instance
        instance.inbox.append(event(
            Kind.EXECUTION_STARTED, -1, self.clock.now(), Name=instance.name, Version="", Input=instance.input_text,
            OrchestrationInstance={"InstanceId": instance.instance_id, "ExecutionId": instance.execution},
            ParentInstance=None, Tags=None, Correlation=None,
        ))
        self._ready.append(instance.instance_id)

    def run(self, root: str, hours: float = 24.0 * 30) -> Instance:
        """Go on until an orchestration has ended; AssertionError if it takes longer than `hours` of the clock."""
        until = self.clock.now().timestamp() + hours * 3600
        while self.instances[root].status == RUNNING:
            if self._ready:
                self._episode(self.instances[self._ready.popleft()])
            elif self._work:
                self._activity(*self._work.popleft())
            elif self._timers:
                self._timers.sort()
                fire_at, instance_id, execution, task = self._timers.pop(0)
                self.clock.time = max(self.clock.time, fire_at)
                self.on_tick()
                fired = event(Kind.TIMER_FIRED, -1, self.clock.now(), TimerId=task, FireAt=wire_time(fire_at))
                self._deliver(instance_id, execution, fired)
            else:
                raise AssertionError(f"{root} waits for nothing")
            assert self.clock.now().timestamp() < until, f"{root} has not ended after {hours} hours"
        return self.instances[root]

    def _deliver(self, instance_id: str, execution: str, news: Event) -> None:
        instance = self.instances.get(instance_id)
        if instance and instance.status == RUNNING and instance.execution == execution:
            instance.inbox.append(news)
            self._ready.append(instance_id)

    def _episode(self, instance: Instance) -> None:
        if not instance.inbox or instance.status != RUNNING:
            return
        new = [event(Kind.ORCHESTRATOR_STARTED, -1, self.clock.now()), *instance.inbox]
        instance.inbox = []
        past = [item.played() for item in instance.past]
        body = request_body(instance.instance_id, None, instance.input_text, past, new)
        handle = df.Orchestrator.create(ORCHESTRATORS[instance.name])
        try:
            reply = Reply.of_result(handle(_Context(body)))
        except Exception as problem:
            reply = Reply.of_exception(problem)
        history = [*instance.past, *new]
        outcome = conclude(
            instance.name, instance.execution, instance.instance_id, reply, history, lambda _kind, _name: None
        )
        instance.past = [*history, *outcome.events, event(Kind.ORCHESTRATOR_COMPLETED, -1, self.clock.now())]
        self.longest_history = max(self.longest_history, len(instance.past))
        for task in outcome.tasks:
            self._schedule(instance, task)
        if outcome.status == CONTINUED:
            self.histories.append((instance.name, instance.input_text, instance.past))
            again = Instance(instance.name, instance.instance_id, outcome.next_input, instance.parent,
                             executions=instance.executions + 1)
            self._begin(again)
        elif outcome.status in (COMPLETED, FAILED):
            self.histories.append((instance.name, instance.input_text, instance.past))
            instance.status, instance.output = outcome.status, outcome.output
            self._tell_parent(instance)

    def _schedule(self, instance: Instance, task: Any) -> None:
        key = (instance.instance_id, instance.execution, task.task_id)
        if task.kind is Kind.TASK_SCHEDULED:
            self._work.append((*key, task.name, task.action["input"]))
        elif task.kind is Kind.TIMER_CREATED:
            self._timers.append((task.fire_at, *key))
        elif task.kind is Kind.SUB_CREATED:
            child = task.action.get("instanceId") or f"{instance.execution}:{task.task_id}"
            self._begin(Instance(task.name, child, compact(task.action.get("input")), key))
        else:
            raise AssertionError(f"unexpected work {task.kind}")

    def _tell_parent(self, instance: Instance) -> None:
        if instance.parent is None:
            return
        parent, execution, task = instance.parent
        if instance.status == COMPLETED:
            news = event(Kind.SUB_COMPLETED, -1, self.clock.now(), TaskScheduledId=task, Result=instance.output)
        else:
            failure = {"TaskScheduledId": task, "Reason": instance.output, "Details": ""}
            news = event(Kind.SUB_FAILED, -1, self.clock.now(), **failure)
        self._deliver(parent, execution, news)

    def _activity(self, instance_id: str, execution: str, task: int, name: str, input_text: str) -> None:
        self.activities += 1
        body = self.bodies.get(name) or BODIES[name]
        try:
            answer = answer_of(self.services, body, json.loads(input_text))
        except Crash:  # the host restarts and runs the activity again
            self.kills += 1
            self._work.appendleft((instance_id, execution, task, name, input_text))
            return
        except Exception as problem:
            reason = f"Activity function '{name}' failed:  {type(problem).__name__}: {problem}"
            news = event(Kind.TASK_FAILED, -1, self.clock.now(), TaskScheduledId=task, Reason=reason, Details="")
        else:
            news = event(Kind.TASK_COMPLETED, -1, self.clock.now(), TaskScheduledId=task, Result=json.dumps(answer))
        self.on_activity()
        self._deliver(instance_id, execution, news)


class _Context:
    def __init__(self, body: str) -> None:
        self.body = body


def replay_every_prefix(name: str, instance_id: str, input_text: str | None, history: list[Event]) -> int:
    """Replay a recorded history up to each of its episodes: the code must ask for what it holds. Return how many."""
    ends = [index for index, item in enumerate(history) if item.kind is Kind.ORCHESTRATOR_COMPLETED]
    for end in ends:
        last = max(i for i in range(end) if history[i].kind is Kind.ORCHESTRATOR_STARTED)
        past = [item.played() for item in history[:last]]
        scheduling = (Kind.TASK_SCHEDULED, Kind.TIMER_CREATED, Kind.SUB_CREATED, Kind.EXECUTION_COMPLETED)
        new = [item for item in history[last:end] if item.kind not in scheduling]
        handle = df.Orchestrator.create(ORCHESTRATORS[name])
        reply = Reply.of_result(handle(_Context(request_body(instance_id, None, input_text, past, new))))
        outcome = conclude(name, "x", instance_id, reply, history[:end], lambda _kind, _name: None)
        assert not outcome.tasks and outcome.status != FAILED, f"{name} asks for other work than it recorded"
    return len(ends)
