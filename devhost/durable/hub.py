"""The task hub: takes messages to orchestrations, runs episodes, and stores each with all its effects in one commit.

Everything here runs on the host's event loop; user code runs elsewhere (see `devhost.invocation`). An instance runs one
episode at a time. Whatever must not be lost is a row before anybody hears of it: a start, an event, a result, a timer.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from devhost.durable import episode as ep
from devhost.durable.history import Event, Kind, compact, event, from_text, now, parse_time, wire_time
from devhost.durable.program import HTTP_ACTIVITY, Task, UnknownFunction
from devhost.durable.store import Store
from devhost.logs import EventLog

log = EventLog("devhost.durable")

CACHED_EVENTS = 30_000  # history kept in memory over all instances, about 15 MB
ABSORB_SECONDS = 0.25  # results that cannot move user code are written to the history at least this often
LONGEST_PAUSE = 0.25  # seconds between two replays of an instance whose tasks end one after the other
DIRECT_EVENTS = 100  # replays of shorter histories, by orchestrators known to be quick, spare the change of threads
_CONTROL = (Kind.SUSPENDED, Kind.RESUMED, Kind.EXECUTION_TERMINATED)
_SUCCESS = (Kind.TASK_COMPLETED, Kind.SUB_COMPLETED, Kind.TIMER_FIRED)
_NOUNS = {Kind.TASK_SCHEDULED: "activity", Kind.SUB_CREATED: "orchestrator", Kind.EVENT_SENT: "entity"}


class Functions(Protocol):
    """The app's durable functions; names ignore case."""

    def durable(self, noun: str) -> dict[str, str]:
        """Durable name in lower case -> durable name as written; noun is activity, orchestrator or entity."""

    def is_quick(self, name: str) -> bool:
        """True if an orchestrator's last call took so little time that it may run on the loop."""

    def replay_now(self, name: str, instance_id: str, body: str) -> tuple[ep.Reply, float]:
        """Run an orchestrator here; returns its reply and the CPU seconds that it took."""

    def replay(self, name: str, instance_id: str, body: str) -> asyncio.Future[tuple[ep.Reply, float]]:
        """Do the same off the loop."""


class Outbox(Protocol):
    """Where an episode's work goes after the commit."""

    def activity(self, instance_id: str, execution: str, task_id: int, name: str, input_text: str) -> None:
        """Run an activity at least once."""

    def drop_activities(self, instance_id: str) -> None:
        """Forget activities that have not begun."""

    def timer(self, instance_id: str, execution: str, task_id: int, fire_at: datetime) -> None:
        """Wake the instance at a time."""

    def entity(self, entity_id: str, request: str) -> None:
        """Store a request for an entity (runs inside the commit)."""


@dataclass(slots=True)
class Message:
    """An event on its way to an instance, stored under `seq` unless it is taken in the turn in which it came."""

    seq: int | None
    execution: str | None
    event: Event


@dataclass(slots=True)
class Live:
    """An instance that has not finished."""

    instance_id: str
    execution: str
    name: str
    version: str | None
    status: str
    created: str
    parent: str | None = None
    parent_execution: str | None = None
    parent_task: int | None = None
    input: str | None = None
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


class TaskHub:
    """Orchestrations on a store. Construct, set `outbox`, then `recover`."""

    def __init__(self, store: Store, functions: Functions, *, parallel: int, default_version: str | None) -> None:
        self._store = store
        self._functions = functions
        self._parallel = parallel
        self._default_version = default_version
        self.outbox: Outbox
        self._live: dict[str, Live] = {}
        self._past: OrderedDict[str, list[Event]] = OrderedDict()
        self._cached = 0
        self._ready: deque[Live] = deque()
        self._running = 0
        self._watchers: dict[str, list[asyncio.Future[None]]] = {}
        self.closing = False

    # -- what clients ask ---------------------------------------------------------------------------
    def check(self, kind: Kind, name: str) -> None:
        """Raise UnknownFunction if the app cannot do such work."""
        noun = _NOUNS.get(kind)
        if noun is None:
            return
        known = self._functions.durable(noun)
        if name.lower() not in known:
            names = ", ".join(f"'{item}'" for item in sorted(known.values())) or "none"
            raise UnknownFunction(
                f"The function '{name}' doesn't exist, is disabled, or is not an {noun} function. "
                f"Additional info: The following are the known {noun} functions: {names}."
            )

    def status_of(self, instance_id: str) -> str | None:
        """Runtime status, or None for an id that is not known."""
        found = self._store.row("SELECT status FROM instances WHERE id=?", instance_id)
        return None if found is None else str(found[0])

    def start(self, name: str, instance_id: str, input_text: str | None, version: str | None = None) -> None:
        """Create an instance; a finished one with the same id is replaced.

        Raises UnknownFunction, or ValueError if the id belongs to an instance that runs.
        """
        self.check(Kind.SUB_CREATED, name)
        status = self.status_of(instance_id)
        if status is not None and status not in ep.FINISHED:
            raise ValueError(f"An Orchestration instance with the status {status} already exists.")
        self._create(name, instance_id, input_text, version, None, replaces=status is not None)

    def raise_event(self, instance_id: str, name: str, input_text: str | None) -> None:
        """Send an external event; ignored if the instance has ended."""
        self.deliver(instance_id, None, event(Kind.EVENT_RAISED, Name=name, Input=input_text), at_once=True)

    def control(self, instance_id: str, kind: Kind, reason: str | None) -> None:
        """Suspend, resume or terminate."""
        fields: dict[str, Any] = {"Input" if kind is Kind.EXECUTION_TERMINATED else "Reason": reason}
        self.deliver(instance_id, None, event(kind, **fields))

    def watch(self, instance_id: str) -> asyncio.Future[None]:
        """Future that ends when the instance does."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.setdefault(instance_id, []).append(future)
        return future

    def purge(self, instance_id: str) -> None:
        """Forget an instance, running or not."""
        live = self._live.pop(instance_id, None)
        if live is not None:
            live.gone = True
        self._wipe(instance_id)
        self._store.write("DELETE FROM instances WHERE id=?", instance_id)

    def rewind(self, instance_id: str, reason: str | None) -> None:
        """Turn a failed instance's failures into GenericEvents and let it run again; failed children first."""
        row = self._store.row("SELECT status FROM instances WHERE id=?", instance_id)
        if row is None or row[0] != ep.FAILED:
            return
        past = self._load(instance_id)
        failed = {e.reference for e in past if e.kind in (Kind.TASK_FAILED, Kind.SUB_FAILED)}
        changed: list[Event] = []
        for item in past:
            is_cause = item.kind in (Kind.TASK_FAILED, Kind.SUB_FAILED, Kind.EXECUTION_COMPLETED)
            if item.kind is Kind.SUB_CREATED and item.event_id in failed:
                self.rewind(str(item.fields()["InstanceId"]), reason)
            if is_cause or (item.kind is Kind.TASK_SCHEDULED and item.event_id in failed):
                data = f"Rewound: {item.text}"
                at = parse_time(item.fields()["Timestamp"])
                changed.append(event(Kind.GENERIC, item.event_id, at, Data=data).played())
            else:
                changed.append(item)
        self._store.write("DELETE FROM history WHERE instance=?", instance_id)
        self._forget(instance_id)
        self._append(instance_id, 0, changed)
        self._store.write("UPDATE instances SET status=?, output=NULL, updated=? WHERE id=?", ep.RUNNING,
                          wire_time(now()), instance_id)  # fmt: skip
        self._adopt(instance_id)
        self.deliver(instance_id, None, event(Kind.GENERIC, Data=f"Rewind: {reason or ''}"))

    # -- messages -----------------------------------------------------------------------------------
    def deliver(self, instance_id: str, execution: str | None, item: Event, *, at_once: bool = False) -> None:
        """Store an event for an instance; one that has ended, or whose execution is over, does not get it.

        With `at_once` an idle instance may take the event in this turn: then the event, the episode that it causes and
        what the caller has written share one commit.
        """
        live = self._live.get(instance_id)
        if live is None or (execution is not None and execution != live.execution):
            return
        if at_once and self._may_take_now(live, item):
            live.inbox.append(Message(None, execution, item))
            self._begin(live)
            return
        seq = self._store.insert("INSERT INTO messages (instance, execution, event) VALUES (?,?,?)", instance_id,
                                 execution, item.text)  # fmt: skip
        live.inbox.append(Message(seq, execution, item))
        if item.kind in _SUCCESS and item.reference in live.quiet:
            live.arrived.add(item.reference)
            if len(live.arrived) < len(live.quiet):
                self._wake_later(live, ABSORB_SECONDS)
                return
        self._enqueue(live)

    def _may_take_now(self, live: Live, item: Event) -> bool:
        idle = not (live.busy or live.queued or live.inbox or live.wake or self.closing) and live.status != ep.SUSPENDED
        waits_for_more = item.reference in live.quiet and len(live.arrived) + 1 < len(live.quiet)
        return (
            idle and not waits_for_more and item.kind not in _CONTROL and live.length < DIRECT_EVENTS
            and self._functions.is_quick(live.name) and time.monotonic() >= live.not_before
        )  # fmt: skip

    def recover(self) -> None:
        """Take up every unfinished instance and its unread messages."""
        unfinished = "SELECT id FROM instances WHERE status NOT IN (?,?,?,?)"
        for (instance_id,) in self._store.rows(unfinished, *sorted(ep.FINISHED)):
            self._adopt(instance_id)
        stale = f"DELETE FROM messages WHERE instance NOT LIKE '@%' AND instance NOT IN ({unfinished})"  # noqa: S608
        self._store.write(stale, *sorted(ep.FINISHED))
        if self._live:
            log.info("recovered", instances=len(self._live))

    def _adopt(self, instance_id: str) -> None:
        row = self._store.row("SELECT execution, name, version, status, created, parent, parent_execution, parent_task,"
                              " input FROM instances WHERE id=?", instance_id)  # fmt: skip
        assert row is not None
        live = Live(instance_id, *row)
        live.has_timers = True
        count = self._store.row("SELECT COALESCE(MAX(seq), -1) + 1 FROM history WHERE instance=?", instance_id)
        live.length = count[0] if count else 0
        for seq, execution, text in self._store.rows(
            "SELECT seq, execution, event FROM messages WHERE instance=? ORDER BY seq", instance_id
        ):
            live.inbox.append(Message(seq, execution, from_text(text)))
        self._live[instance_id] = live
        if live.inbox:
            self._enqueue(live)

    # -- scheduling ---------------------------------------------------------------------------------
    def _enqueue(self, live: Live) -> None:
        if live.queued or live.busy or live.gone:
            return
        pause = live.not_before - time.monotonic()
        if pause > 0:
            self._wake_later(live, pause)
            return
        self._wake(live)

    def _wake(self, live: Live) -> None:
        if live.wake is not None:
            live.wake.cancel()
            live.wake = None
        if not live.queued and not live.busy and not live.gone:
            live.queued = True
            self._ready.append(live)
            self._store.after_commit(self._pump)

    def _wake_later(self, live: Live, seconds: float) -> None:
        if live.wake is None:
            live.wake = asyncio.get_running_loop().call_later(seconds, self._wake, live)

    def _pump(self) -> None:
        while self._ready and self._running < self._parallel and not self.closing:
            live = self._ready.popleft()
            live.queued = False
            if not live.gone and not live.busy and self._begin(live) and self._ready:
                asyncio.get_running_loop().call_soon(self._pump)  # others get their turn between replays on the loop
                return

    def _take(self, live: Live) -> list[Message]:
        """Messages for the next episode: a control message comes alone; while suspended everything else is parked."""
        stale = [m for m in live.inbox if m.execution not in (None, live.execution)]
        if stale:
            self._consume(stale)
            live.inbox = deque(m for m in live.inbox if m.execution in (None, live.execution))
        if live.status == ep.SUSPENDED:
            found = next((m for m in live.inbox if m.event.kind in (Kind.RESUMED, Kind.EXECUTION_TERMINATED)), None)
            if found is not None:
                live.inbox.remove(found)
            return [found] if found is not None else []
        taken: list[Message] = []
        while live.inbox and (not taken or live.inbox[0].event.kind not in _CONTROL):
            taken.append(live.inbox.popleft())
            if taken[-1].event.kind in _CONTROL:
                break
        return taken

    # -- episodes -----------------------------------------------------------------------------------
    def _begin(self, live: Live) -> bool:
        """Begin an episode; True if it was replayed on the loop."""
        messages = self._take(live)
        if not messages:
            return False
        new = [event(Kind.ORCHESTRATOR_STARTED), *(m.event for m in messages)]
        if messages[0].event.kind in _CONTROL:
            self._apply_control(live, messages, new)
            return False
        refs = {m.event.reference for m in messages if m.event.kind in _SUCCESS}
        if len(refs) == len(messages) and refs < live.quiet:
            live.quiet -= refs
            live.arrived -= refs
            log.debug("absorbed", instance=live.instance_id, results=len(refs))
            self._commit(live, messages, [*new, event(Kind.ORCHESTRATOR_COMPLETED)], ep.RUNNING)
            return False
        past = self._load(live.instance_id)
        body = ep.request_body(live.instance_id, live.parent, live.input, past, new)
        live.busy = True
        if len(past) < DIRECT_EVENTS and self._functions.is_quick(live.name):
            answer = self._functions.replay_now(live.name, live.instance_id, body)
            live.busy = False
            self._conclude(live, messages, past, new, answer)
            return True
        self._running += 1
        future = self._functions.replay(live.name, live.instance_id, body)
        future.add_done_callback(lambda done: self._finish(live, messages, past, new, done))
        return False

    def _finish(self, live: Live, messages: list[Message], past: list[Event], new: list[Event],
                done: asyncio.Future[tuple[ep.Reply, float]]) -> None:  # fmt: skip
        live.busy = False
        self._running -= 1
        if not done.cancelled() and not live.gone and not self.closing:
            self._conclude(live, messages, past, new, done.result())
        self._pump()

    def _conclude(self, live: Live, messages: list[Message], past: list[Event], new: list[Event],
                  answer: tuple[ep.Reply, float]) -> None:  # fmt: skip
        reply, seconds = answer
        outcome = ep.conclude(live.name, live.execution, live.instance_id, reply, [*past, *new], self.check)
        if reply.custom_status is not None and (text := compact(reply.custom_status)) != live.custom_status:
            live.custom_status = text
            self._store.write("UPDATE instances SET custom_status=? WHERE id=?", text, live.instance_id)
        live.quiet, live.arrived = outcome.quiet, set()
        live.not_before = time.monotonic() + min(seconds, LONGEST_PAUSE) if outcome.open_tasks > 1 else 0.0
        if log.verbose:
            log.debug("replayed", instance=live.instance_id, history=len(past) + len(new), tasks=len(outcome.tasks),
                      status=outcome.status, ms=round(seconds * 1000, 1))  # fmt: skip
        events = [*new, *outcome.events, event(Kind.ORCHESTRATOR_COMPLETED)]
        if outcome.status == ep.CONTINUED:
            self._dispatch(live, outcome)
            self._continue_as_new(live, messages, outcome)
        else:
            self._commit(live, messages, events, outcome.status, outcome.output)
            self._dispatch(live, outcome)

    def _commit(self, live: Live, messages: list[Message], events: list[Event], status: str,
                output: str | None = None) -> None:  # fmt: skip
        """Store an episode and, if the instance ends with it, tell who waits."""
        self._consume(messages)
        self._append(live.instance_id, live.length, [item.played() for item in events])
        live.length += len(events)
        live.status = status
        moment = wire_time(now())
        if status not in ep.FINISHED:
            self._store.write("UPDATE instances SET status=?, updated=? WHERE id=?", status, moment, live.instance_id)
            if live.inbox:
                self._enqueue(live)
            return
        live.gone = True
        del self._live[live.instance_id]
        self._forget(live.instance_id)
        self._store.write("UPDATE instances SET status=?, output=?, updated=? WHERE id=?", status, output, moment,
                          live.instance_id)  # fmt: skip
        if live.inbox:
            self._store.write("DELETE FROM messages WHERE instance=?", live.instance_id)
        if live.has_timers:
            self._store.write("DELETE FROM timers WHERE instance=?", live.instance_id)
        self._tell_parent(live, status, output)
        say, detail = (log.info, None) if status == ep.COMPLETED else (log.warning, output)
        say("orchestration", function=live.name, instance=live.instance_id, status=status, output=detail)
        self._store.after_commit(lambda: self._ended(live.instance_id))

    def _ended(self, instance_id: str) -> None:
        for future in self._watchers.pop(instance_id, ()):
            if not future.done():
                future.set_result(None)

    def _tell_parent(self, live: Live, status: str, output: str | None) -> None:
        if live.parent is None:
            return
        if status == ep.COMPLETED:
            answer = event(Kind.SUB_COMPLETED, TaskScheduledId=live.parent_task, Result=output)
        else:
            answer = event(Kind.SUB_FAILED, TaskScheduledId=live.parent_task, Reason=output, Details=None)
        self.deliver(live.parent, live.parent_execution, answer)

    def _apply_control(self, live: Live, messages: list[Message], new: list[Event]) -> None:
        item = messages[0].event
        tail = event(Kind.ORCHESTRATOR_COMPLETED)
        if item.kind is Kind.EXECUTION_TERMINATED:
            reason = item.fields().get("Input")
            self.outbox.drop_activities(live.instance_id)
            self._commit(live, messages, [new[0], *ep.terminated(reason), tail], ep.TERMINATED, reason)
            return
        status = ep.SUSPENDED if item.kind is Kind.SUSPENDED else ep.RUNNING
        self._commit(live, messages, [*new, tail], status)

    def _continue_as_new(self, live: Live, messages: list[Message], outcome: ep.Outcome) -> None:
        self._consume(messages)
        self._wipe(live.instance_id, keep_messages=True)
        live.execution, live.length, live.input = uuid.uuid4().hex, 0, outcome.next_input
        live.quiet = frozenset()
        waiting, live.inbox = live.inbox, deque()
        moment = wire_time(now())
        self._store.write("UPDATE instances SET execution=?, status=?, input=?, created=?, updated=? WHERE id=?",
                          live.execution, ep.RUNNING, live.input, moment, moment, live.instance_id)  # fmt: skip
        # Unread events belong to the new execution and come after its start.
        self._consume(list(waiting))
        self.deliver(live.instance_id, live.execution, self._started(live.name, live.instance_id, live))
        for item in [*outcome.carried, *(m.event for m in waiting if m.execution is None)]:
            self.deliver(live.instance_id, None, item)

    # -- effects ------------------------------------------------------------------------------------
    def _dispatch(self, live: Live, outcome: ep.Outcome) -> None:
        scheduled = {item.event_id: item for item in outcome.events}
        for task in outcome.tasks:
            self._dispatch_task(live, task, scheduled[task.task_id])
        for task_id in outcome.cancelled_timers:
            self._store.write("DELETE FROM timers WHERE instance=? AND execution=? AND task=?", live.instance_id,
                              live.execution, task_id)  # fmt: skip

    def _dispatch_task(self, live: Live, task: Task, item: Event) -> None:
        key = (live.instance_id, live.execution, task.task_id)
        fields = item.fields()
        if task.kind is Kind.TASK_SCHEDULED:
            name = self._functions.durable("activity").get(task.name.lower(), HTTP_ACTIVITY)
            self._store.write("INSERT OR REPLACE INTO activities VALUES (?,?,?,?,?)", *key, name, fields["Input"])
            self._store.after_commit(lambda: self.outbox.activity(*key, name, fields["Input"]))
        elif task.kind is Kind.TIMER_CREATED:
            if not task.action.get("isCanceled"):
                assert task.fire_at is not None
                fire_at, live.has_timers = task.fire_at, True
                self._store.write("INSERT OR REPLACE INTO timers VALUES (?,?,?,?)", *key, wire_time(fire_at))
                self._store.after_commit(lambda: self.outbox.timer(*key, fire_at))
        elif task.kind is Kind.SUB_CREATED:
            status = self.status_of(fields["InstanceId"])
            if status is not None and status not in ep.FINISHED:
                reason = f"An Orchestration instance with the status {status} already exists."
                refused = event(Kind.SUB_FAILED, TaskScheduledId=task.task_id, Reason=reason, Details=None)
                self.deliver(live.instance_id, live.execution, refused)
            else:
                self._create(fields["Name"], fields["InstanceId"], fields["Input"], fields["Version"], key,
                             replaces=status is not None)  # fmt: skip
        else:
            self.outbox.entity(fields["InstanceId"], fields["Input"])

    def _create(self, name: str, instance_id: str, input_text: str | None, version: str | None,
                parent: tuple[str, str, int] | None, *, replaces: bool) -> None:  # fmt: skip
        name = self._functions.durable("orchestrator")[name.lower()]
        if replaces:
            self._wipe(instance_id)
        moment = wire_time(now())
        parent_id, parent_execution, parent_task = parent or (None, None, None)
        live = Live(instance_id, uuid.uuid4().hex, name, version or self._default_version, ep.PENDING, moment,
                    parent_id, parent_execution, parent_task, input_text)  # fmt: skip
        self._store.write(
            "INSERT OR REPLACE INTO instances (id, execution, name, version, status, input, created, updated, parent, "
            "parent_execution, parent_task) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
            instance_id, live.execution, name, live.version, ep.PENDING, input_text, moment, moment, live.parent,
            live.parent_execution, live.parent_task,
        )  # fmt: skip
        self._live[instance_id] = live
        self.deliver(instance_id, live.execution, self._started(name, instance_id, live), at_once=parent is None)
        log.debug("started", function=name, instance=instance_id, parent=live.parent)

    @staticmethod
    def _started(name: str, instance_id: str, live: Live) -> Event:
        parent = None if live.parent is None else {
            "TaskScheduleId": live.parent_task,
            "OrchestrationInstance": {"InstanceId": live.parent, "ExecutionId": live.parent_execution},
        }  # fmt: skip
        own = {"InstanceId": instance_id, "ExecutionId": live.execution}
        return event(Kind.EXECUTION_STARTED, Name=name, Version=live.version or "", Input=live.input, Tags=None,
                     ParentInstance=parent, OrchestrationInstance=own, Correlation=None)  # fmt: skip

    # -- rows ---------------------------------------------------------------------------------------
    def _consume(self, messages: list[Message]) -> None:
        stored = [(m.seq,) for m in messages if m.seq is not None]
        if stored:
            self._store.write_many("DELETE FROM messages WHERE seq=?", stored)

    def _wipe(self, instance_id: str, *, keep_messages: bool = False) -> None:
        """Delete what an execution leaves behind."""
        self._forget(instance_id)
        for table in ("history", "activities", "timers"):
            self._store.write(f"DELETE FROM {table} WHERE instance=?", instance_id)  # noqa: S608 (constant names)
        if not keep_messages:
            self._store.write("DELETE FROM messages WHERE instance=?", instance_id)

    def _append(self, instance_id: str, length: int, events: list[Event]) -> None:
        rows = [(instance_id, length + i, item.text) for i, item in enumerate(events)]
        self._store.write_many("INSERT INTO history VALUES (?,?,?)", rows)
        cached = self._past.get(instance_id)
        if cached is not None or length == 0:
            # A new list: an episode that is under way keeps the one that it was given.
            self._past[instance_id] = [*(cached or ()), *events]
            self._cached += len(events)

    def _load(self, instance_id: str) -> list[Event]:
        past = self._past.get(instance_id)
        if past is None:
            rows = self._store.rows("SELECT event FROM history WHERE instance=? ORDER BY seq", instance_id)
            past = self._past[instance_id] = [from_text(text) for (text,) in rows]
            self._cached += len(past)
        self._past.move_to_end(instance_id)
        while self._cached > CACHED_EVENTS and len(self._past) > 1:
            self._cached -= len(self._past.popitem(last=False)[1])
        return past

    def _forget(self, instance_id: str) -> None:
        self._cached -= len(self._past.pop(instance_id, ()))


