"""The task hub: takes messages to orchestrations, runs episodes, and stores each with all its effects in one commit.

Everything here runs on the host's event loop; user code runs elsewhere (see `devhost.invocation`). An instance runs one
episode at a time. Whatever must not be lost is a row before anybody hears of it: a start, an event, a result, a timer.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from typing import Any

from devhost.background import Background
from devhost.durable import episode as ep
from devhost.durable.entities import EntityHub
from devhost.durable.histories import Histories
from devhost.durable.history import Event, Kind, compact, event, from_text, now, wire_time
from devhost.durable.live import CONTROL, Live, Message, started
from devhost.durable.program import HTTP_ACTIVITY, Task, UnknownFunction
from devhost.durable.store import Store
from devhost.durable.work import Work
from devhost.invocation import Invoker
from devhost.logs import EventLog

log = EventLog("devhost.durable")

ABSORB_SECONDS = 0.25  # results that cannot move user code are written to the history at least this often
LONGEST_PAUSE = 0.25  # seconds between two replays of an instance whose tasks end one after the other
DIRECT_EVENTS = 100  # replays of shorter histories, by orchestrators known to be quick, spare the change of threads
_SUCCESS = (Kind.TASK_COMPLETED, Kind.SUB_COMPLETED, Kind.TIMER_FIRED)
_NOUNS = {Kind.TASK_SCHEDULED: "activity", Kind.SUB_CREATED: "orchestrator", Kind.EVENT_SENT: "entity"}
_UNFINISHED = f"SELECT id FROM instances WHERE status NOT IN ({','.join('?' * len(ep.FINISHED))})"  # noqa: S608


class TaskHub:
    """Orchestrations and entities on a store. Construct, then `recover`."""

    def __init__(self, store: Store, invoker: Invoker, background: Background, *, max_orchestrators: int,
                 max_activities: int, default_version: str | None) -> None:  # fmt: skip
        self._store = store
        self._invoker = invoker
        self._histories = Histories(store)
        self._work = Work(store, invoker, self.deliver, background, max_activities)
        self.entities = EntityHub(store, invoker, self.deliver)
        self._parallel = max_orchestrators
        self._default_version = default_version
        self._live: dict[str, Live] = {}
        self._ready: deque[Live] = deque()
        self._running = 0
        self._watchers: dict[str, list[asyncio.Future[None]]] = {}

    def recover(self) -> None:
        """Take up every unfinished instance, its unread messages, its work, and the entities."""
        for (instance_id,) in self._store.rows(_UNFINISHED, *ep.FINISHED):
            self._adopt(instance_id)
        stale = f"DELETE FROM messages WHERE instance NOT LIKE '@%' AND instance NOT IN ({_UNFINISHED})"  # noqa: S608
        self._store.write(stale, *ep.FINISHED)
        if self._live:
            log.info("recovered", instances=len(self._live))
        self._work.recover()
        self.entities.recover()

    # -- what clients ask ---------------------------------------------------------------------------
    def check(self, kind: Kind, name: str) -> None:
        """Raise UnknownFunction if the app cannot do such work."""
        noun = _NOUNS[kind]
        if self._invoker.index.durable(noun, name) is None:
            names = ", ".join(f"'{item}'" for item in self._invoker.index.durable_names(noun)) or "none"
            raise UnknownFunction(
                f"The function '{name}' doesn't exist, is disabled, or is not an {noun} function. "
                f"Additional info: The following are the known {noun} functions: {names}."
            )

    def status_of(self, instance_id: str) -> str | None:
        """Runtime status, or None for an id that is not known."""
        found = self._store.row("SELECT status FROM instances WHERE id=?", instance_id)
        return None if found is None else str(found[0])

    def start(self, name: str, instance_id: str, input_text: str | None, version: str | None = None,
              parent: tuple[str, str, int] | None = None) -> None:  # fmt: skip
        """Create an instance; a finished one with the same id is replaced.

        Raises UnknownFunction, or ValueError if the id belongs to an instance that runs.
        """
        self.check(Kind.SUB_CREATED, name)
        function = self._invoker.index.durable("orchestrator", name)
        assert function is not None
        status = self.status_of(instance_id)
        if status is not None:
            if status not in ep.FINISHED:
                raise ValueError(f"An Orchestration instance with the status {status} already exists.")
            self._wipe(instance_id)
        live = Live(instance_id, uuid.uuid4().hex, function.durable_name, version or self._default_version, ep.PENDING,
                    input_text, *(parent or ()))  # fmt: skip
        moment = wire_time(now())
        self._store.write(
            "INSERT OR REPLACE INTO instances (id, execution, name, version, status, input, parent, parent_execution, "
            "parent_task, created, updated) VALUES (?,?,?,?,?,?,?,?,?,?,?)", instance_id, live.execution, live.name,
            live.version, live.status, input_text, live.parent, live.parent_execution, live.parent_task, moment, moment,
        )  # fmt: skip
        self._live[instance_id] = live
        self.deliver(instance_id, live.execution, started(live), at_once=parent is None)
        log.debug("started", function=live.name, instance=instance_id, parent=live.parent)

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
        if self.status_of(instance_id) != ep.FAILED:
            return
        rewound, children = ep.rewound(self._histories.load(instance_id))
        for child in children:
            self.rewind(child, reason)
        self._histories.delete(instance_id)
        self._histories.append(instance_id, 0, rewound)
        self._store.write("UPDATE instances SET status=?, output=NULL, updated=? WHERE id=?", ep.RUNNING,
                          wire_time(now()), instance_id)  # fmt: skip
        self._adopt(instance_id)
        self.deliver(instance_id, None, event(Kind.GENERIC_EVENT, Data=f"Rewind: {reason or ''}"))

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
        seq = self._store.write("INSERT INTO messages (instance, execution, event) VALUES (?,?,?)", instance_id,
                                execution, item.text)  # fmt: skip
        live.inbox.append(Message(seq, execution, item))
        if item.kind in _SUCCESS and item.reference in live.quiet:
            live.arrived.add(item.reference)
            if len(live.arrived) < len(live.quiet):
                self._enqueue(live, ABSORB_SECONDS)
                return
        self._enqueue(live)

    def _may_take_now(self, live: Live, item: Event) -> bool:
        idle = not (live.busy or live.queued or live.inbox or live.wake) and live.status != ep.SUSPENDED
        waits_for_more = item.reference in live.quiet and len(live.arrived) + 1 < len(live.quiet)
        return (
            idle and not waits_for_more and item.kind not in CONTROL and live.length < DIRECT_EVENTS
            and self._invoker.is_quick(live.name) and time.monotonic() >= live.not_before
        )  # fmt: skip

    def _adopt(self, instance_id: str) -> None:
        row = self._store.row("SELECT execution, name, version, status, input, parent, parent_execution, parent_task"
                              " FROM instances WHERE id=?", instance_id)  # fmt: skip
        length = self._store.row("SELECT COALESCE(MAX(seq), -1) + 1 FROM history WHERE instance=?", instance_id)
        unread = self._store.rows("SELECT seq, execution, event FROM messages WHERE instance=? ORDER BY seq",
                                  instance_id)  # fmt: skip
        assert row is not None and length is not None
        live = Live(instance_id, *row)
        live.length, live.has_timers = length[0], True
        live.inbox.extend(Message(seq, execution, from_text(text)) for seq, execution, text in unread)
        self._live[instance_id] = live
        if live.inbox:
            self._enqueue(live)

    # -- scheduling ---------------------------------------------------------------------------------
    def _enqueue(self, live: Live, pause: float | None = None) -> None:
        """Let an instance run its next episode after a pause: by default what is left of that after its last one."""
        pause = live.not_before - time.monotonic() if pause is None else pause
        if pause > 0:
            live.wake = live.wake or asyncio.get_running_loop().call_later(pause, self._enqueue, live, 0.0)
            return
        if live.wake is not None:
            live.wake.cancel()
            live.wake = None
        if not (live.queued or live.busy or live.gone):
            live.queued = True
            self._ready.append(live)
            self._store.after_commit(self._pump)

    def _pump(self) -> None:
        while self._ready and self._running < self._parallel and not self._invoker.closing:
            live = self._ready.popleft()
            live.queued = False
            if not live.gone and not live.busy and self._begin(live) and self._ready:
                asyncio.get_running_loop().call_soon(self._pump)  # others get their turn between replays on the loop
                return

    # -- episodes -----------------------------------------------------------------------------------
    def _begin(self, live: Live) -> bool:
        """Begin an episode; True if it was replayed on the loop."""
        messages, stale = live.take()
        self._consume(stale)
        if not messages:
            return False
        new = [event(Kind.ORCHESTRATOR_STARTED), *(m.event for m in messages)]
        if messages[0].event.kind in CONTROL:
            self._apply_control(live, messages, new)
            return False
        refs = {m.event.reference for m in messages if m.event.kind in _SUCCESS}
        if len(refs) == len(messages) and refs < live.quiet:
            live.quiet -= refs
            live.arrived -= refs
            log.debug("absorbed", instance=live.instance_id, results=len(refs))
            self._commit(live, messages, new, ep.RUNNING)
            return False
        past = self._histories.load(live.instance_id)
        body = ep.request_body(live.instance_id, live.parent, live.input, past, new)
        if len(past) < DIRECT_EVENTS and self._invoker.is_quick(live.name):
            self._conclude(live, messages, past, new, self._invoker.replay(live.name, live.instance_id, body))
            return True
        live.busy = True
        self._running += 1
        future = asyncio.get_running_loop().run_in_executor(
            self._invoker.replays, self._invoker.replay, live.name, live.instance_id, body
        )
        future.add_done_callback(lambda done: self._finish(live, messages, past, new, done))
        return False

    def _finish(self, live: Live, messages: list[Message], past: list[Event], new: list[Event],
                done: asyncio.Future[tuple[ep.Reply, float]]) -> None:  # fmt: skip
        live.busy = False
        self._running -= 1
        if not done.cancelled() and not live.gone:
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
        if outcome.status == ep.CONTINUED:
            self._dispatch(live, outcome)
            self._continue_as_new(live, messages, outcome)
        else:
            self._commit(live, messages, [*new, *outcome.events], outcome.status, outcome.output)
            self._dispatch(live, outcome)

    def _commit(self, live: Live, messages: list[Message], events: list[Event], status: str,
                output: str | None = None) -> None:  # fmt: skip
        """Store an episode and, if the instance ends with it, tell who waits."""
        self._consume(messages)
        whole = [item.played() for item in (*events, event(Kind.ORCHESTRATOR_COMPLETED))]
        self._histories.append(live.instance_id, live.length, whole)
        live.length += len(whole)
        live.status = status
        self._store.write("UPDATE instances SET status=?, output=?, updated=? WHERE id=?", status, output,
                          wire_time(now()), live.instance_id)  # fmt: skip
        if status not in ep.FINISHED:
            if live.inbox:
                self._enqueue(live)
            return
        live.gone = True
        del self._live[live.instance_id]
        self._histories.release(live.instance_id)
        if live.inbox:
            self._store.write("DELETE FROM messages WHERE instance=?", live.instance_id)
        if live.has_timers:
            self._store.write("DELETE FROM timers WHERE instance=?", live.instance_id)
        if live.parent is not None:
            if status == ep.COMPLETED:
                answer = event(Kind.SUB_COMPLETED, TaskScheduledId=live.parent_task, Result=output)
            else:
                answer = event(Kind.SUB_FAILED, TaskScheduledId=live.parent_task, Reason=output, Details=None)
            self.deliver(live.parent, live.parent_execution, answer)
        say, detail = (log.info, None) if status == ep.COMPLETED else (log.warning, output)
        say("orchestration", function=live.name, instance=live.instance_id, status=status, output=detail)
        self._store.after_commit(lambda: self._ended(live.instance_id))

    def _ended(self, instance_id: str) -> None:
        for future in self._watchers.pop(instance_id, ()):
            if not future.done():
                future.set_result(None)

    def _apply_control(self, live: Live, messages: list[Message], new: list[Event]) -> None:
        item = messages[0].event
        if item.kind is Kind.EXECUTION_TERMINATED:
            reason = item.fields().get("Input")
            self._work.drop_activities(live.instance_id)
            self._commit(live, messages, [new[0], *ep.terminated(reason)], ep.TERMINATED, reason)
        else:
            self._commit(live, messages, new, ep.SUSPENDED if item.kind is Kind.EXECUTION_SUSPENDED else ep.RUNNING)

    def _continue_as_new(self, live: Live, messages: list[Message], outcome: ep.Outcome) -> None:
        # Unread events belong to the new execution and come after its start.
        unread = [*outcome.carried, *(m.event for m in live.inbox if m.execution is None)]
        self._consume([*messages, *live.inbox])
        live.inbox.clear()
        self._wipe(live.instance_id, keep_messages=True)
        live.execution, live.length, live.input = uuid.uuid4().hex, 0, outcome.next_input
        live.quiet = frozenset()
        moment = wire_time(now())
        self._store.write("UPDATE instances SET execution=?, status=?, input=?, created=?, updated=? WHERE id=?",
                          live.execution, ep.RUNNING, live.input, moment, moment, live.instance_id)  # fmt: skip
        self.deliver(live.instance_id, live.execution, started(live))
        for item in unread:
            self.deliver(live.instance_id, None, item)

    # -- effects ------------------------------------------------------------------------------------
    def _dispatch(self, live: Live, outcome: ep.Outcome) -> None:
        scheduled = {item.event_id: item for item in outcome.events}
        for task in outcome.tasks:
            self._dispatch_task(live, task, scheduled[task.task_id])
        for task_id in outcome.cancelled_timers:
            self._work.drop_timer(live.instance_id, live.execution, task_id)

    def _dispatch_task(self, live: Live, task: Task, item: Event) -> None:
        key = (live.instance_id, live.execution, task.task_id)
        fields = item.fields()
        if task.kind is Kind.TASK_SCHEDULED:
            function = self._invoker.index.durable("activity", task.name)
            self._work.add_activity(key, function.durable_name if function else HTTP_ACTIVITY, fields["Input"])
        elif task.kind is Kind.EVENT_SENT:
            self.entities.send(fields["InstanceId"], fields["Input"])
        elif task.kind is Kind.SUB_CREATED:
            try:
                self.start(fields["Name"], fields["InstanceId"], fields["Input"], fields["Version"], key)
            except ValueError as problem:
                refused = event(Kind.SUB_FAILED, TaskScheduledId=task.task_id, Reason=str(problem), Details=None)
                self.deliver(live.instance_id, live.execution, refused)
        elif not task.action.get("isCanceled") and task.fire_at is not None:
            live.has_timers = True
            self._work.add_timer(key, task.fire_at)

    # -- rows ---------------------------------------------------------------------------------------
    def _consume(self, messages: list[Message]) -> None:
        stored = [(m.seq,) for m in messages if m.seq is not None]
        self._store.write_many("DELETE FROM messages WHERE seq=?", stored)

    def _wipe(self, instance_id: str, *, keep_messages: bool = False) -> None:
        """Delete what an execution leaves behind."""
        self._histories.delete(instance_id)
        for table in ("activities", "timers", "messages")[: 2 if keep_messages else 3]:
            self._store.write(f"DELETE FROM {table} WHERE instance=?", instance_id)  # noqa: S608 (constant names)
