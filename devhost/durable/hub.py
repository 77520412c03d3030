"""The task hub: takes messages to orchestrations, runs episodes, and stores each with all its effects in one commit.

Everything here runs on the host's event loop; user code runs elsewhere (see `devhost.invocation`). An instance runs one
episode at a time. Whatever must not be lost is a row before anybody hears of it: a start, an event, a result, a timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid

from devhost.background import Background
from devhost.bindings import Bindings
from devhost.durable import episode as ep
from devhost.durable.entities import EntityHub
from devhost.durable.history import Event, Kind, compact, event, from_text, now, wire_time
from devhost.durable.live import CONTROL, Live, Message, started
from devhost.durable.store import Store
from devhost.durable.work import Work
from devhost.logs import EventLog

log = EventLog("devhost.durable")

PAUSE_FACTOR = 4  # of a replay's CPU time: so long results gather before the next one, if more than one is awaited
LONGEST_PAUSE = 0.25  # seconds
REMEMBERED_EVENTS = 30_000  # about 15 MB; then all histories are on disk only, until they are needed
_NOUNS = {Kind.TASK_SCHEDULED: "activity", Kind.SUB_CREATED: "orchestrator", Kind.EVENT_SENT: "entity"}


class TaskHub:
    """Orchestrations and entities on a store. Construct, then `recover`."""

    def __init__(self, store: Store, bindings: Bindings, background: Background) -> None:
        self._store, self._invoker, self._config = store, bindings.invoker, bindings.config
        self._work = Work(store, bindings, self.deliver, background)
        self.entities = EntityHub(store, bindings.invoker, self.deliver, background)
        self._background = background
        self._slots = asyncio.Semaphore(bindings.config.max_orchestrators)
        self._live: dict[str, Live] = {}
        self._remembered = 0  # events of histories in memory, at most

    def recover(self) -> None:
        """Take up every unfinished instance, its unread messages, its work, and the entities."""
        marks = ",".join("?" * len(ep.FINISHED))
        unfinished = f"SELECT id FROM instances WHERE status NOT IN ({marks})"  # noqa: S608 (marks)
        for (instance_id,) in self._store.rows(unfinished, *ep.FINISHED):
            self._adopt(instance_id)
        if self._live:
            log.info("recovered", instances=len(self._live))
        self._work.recover()
        self.entities.recover()

    # -- what clients ask ---------------------------------------------------------------------------
    def check(self, kind: Kind, name: str) -> None:
        """Raise UnknownFunction if the app cannot do such work."""
        self._invoker.index.durable(_NOUNS[kind], name)

    def status_of(self, instance_id: str) -> str | None:
        """Runtime status, or None for an id that is not known."""
        found = self._store.row("SELECT status FROM instances WHERE id=?", instance_id)
        return None if found is None else str(found[0])

    def start(self, name: str, instance_id: str, input_text: str | None, version: str | None = None,
              parent: tuple[str, str, int] | None = None) -> None:  # fmt: skip
        """Create an instance; a finished one with the same id is replaced.

        Raises UnknownFunction, or ValueError if the id belongs to an instance that runs.
        """
        function = self._invoker.index.durable("orchestrator", name)
        status = self.status_of(instance_id)
        if status is not None:
            if status not in ep.FINISHED:
                raise ValueError(f"An Orchestration instance with the status {status} already exists.")
            self._wipe(instance_id)
        moment = wire_time(now())
        self._store.write(
            "INSERT OR REPLACE INTO instances (id, execution, name, version, status, input, created, updated, parent, "
            "parent_execution, parent_task) VALUES (?,?,?,?,?,?,?,?,?,?,?)", instance_id, uuid.uuid4().hex,
            function.durable_name, version or self._config.default_version, ep.PENDING, input_text, moment, moment,
            *(parent or (None, None, None)),
        )  # fmt: skip
        live = self._adopt(instance_id)
        live.history = []
        self.deliver(instance_id, live.execution, started(live))
        log.debug("started", function=live.name, instance=instance_id, parent=live.parent)

    async def wait(self, instance_id: str, timeout: float) -> None:
        """Wait until an unfinished instance ends, at most some seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._live[instance_id].ended.wait(), timeout)

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
        update = "UPDATE instances SET status=?, output=NULL, updated=? WHERE id=?"
        self._store.write(update, ep.RUNNING, wire_time(now()), instance_id)
        live = self._adopt(instance_id)
        rewound, children = ep.rewound(self._past(live))
        for child in children:
            self.rewind(child, reason)
        self._store.write("DELETE FROM history WHERE instance=?", instance_id)
        live.history = []
        self._append(live, rewound)
        self.deliver(instance_id, None, event(Kind.GENERIC_EVENT, Data=f"Rewind: {reason or ''}"))

    # -- messages -----------------------------------------------------------------------------------
    def deliver(self, instance_id: str, execution: str | None, item: Event) -> None:
        """Store an event for an instance; one that has ended, or whose execution is over, does not get it."""
        live = self._live.get(instance_id)
        if live is None or (execution is not None and execution != live.execution):
            return
        statement = "INSERT INTO messages (instance, execution, event) VALUES (?,?,?)"
        seq = self._store.write(statement, instance_id, execution, item.text).lastrowid
        live.inbox.append(Message(seq, execution, item))
        self._wake(live)

    def _adopt(self, instance_id: str) -> Live:
        """Take an unfinished instance into memory, with what it has not read."""
        row = self._store.row("SELECT execution, name, version, status, input, parent, parent_execution, parent_task"
                              " FROM instances WHERE id=?", instance_id)  # fmt: skip
        unread = self._store.rows("SELECT seq, execution, event FROM messages WHERE instance=? ORDER BY seq",
                                  instance_id)  # fmt: skip
        assert row is not None
        live = Live(instance_id, *row)
        live.inbox.extend(Message(seq, execution, from_text(text)) for seq, execution, text in unread)
        self._live[instance_id] = live
        if live.inbox:
            self._wake(live)
        return live

    # -- episodes -----------------------------------------------------------------------------------
    def _wake(self, live: Live) -> None:
        if not live.awake:
            live.awake = True
            self._background.start(self._run(live))

    async def _run(self, live: Live) -> None:
        """Run episodes until everything is read; in the pauses others get their turn, and results gather."""
        while not live.gone and not self._invoker.closing:
            async with self._slots:
                pause = await self._episode(live)
            if pause is None or not (pause or live.inbox):
                break
            await asyncio.sleep(pause)
        live.awake = False

    async def _episode(self, live: Live) -> float | None:
        """Run one episode; gives the seconds to pause after it, or None if there is nothing to read."""
        messages = live.take()
        if not messages:
            return None
        new = [event(Kind.ORCHESTRATOR_STARTED), *(m.event for m in messages)]
        if messages[0].event.kind in CONTROL:
            self._apply_control(live, messages, new)
        else:
            past = self._past(live)
            body = ep.request_body(live.instance_id, live.parent, live.input, past, new)
            answer = await self._invoker.replay(live.name, live.instance_id, body)
            if not live.gone:
                return self._conclude(live, messages, past, new, answer)
        return 0.0

    def _conclude(self, live: Live, messages: list[Message], past: list[Event], new: list[Event],
                  answer: tuple[ep.Reply, float]) -> float:  # fmt: skip
        reply, seconds = answer
        outcome = ep.conclude(live.name, live.execution, live.instance_id, reply, [*past, *new], self.check)
        if reply.custom_status is not None:
            shown = compact(reply.custom_status)
            self._store.write("UPDATE instances SET custom_status=? WHERE id=?", shown, live.instance_id)
        log.debug("replayed", instance=live.instance_id, history=len(past) + len(new), tasks=len(outcome.tasks),
                  status=outcome.status, ms=round(seconds * 1000, 1))  # fmt: skip
        if outcome.status == ep.CONTINUED:
            self._dispatch(live, outcome)
            self._continue_as_new(live, outcome)
        else:
            self._commit(live, messages, [*new, *outcome.events], outcome.status, outcome.output)
            self._dispatch(live, outcome)
        return min(PAUSE_FACTOR * seconds, LONGEST_PAUSE) if outcome.open_tasks > 1 else 0.0

    def _commit(self, live: Live, messages: list[Message], events: list[Event], status: str,
                output: str | None = None) -> None:  # fmt: skip
        """Store an episode and, if the instance ends with it, tell who waits."""
        self._consume(messages)
        self._append(live, [item.played() for item in (*events, event(Kind.ORCHESTRATOR_COMPLETED))])
        live.status = status
        self._store.write("UPDATE instances SET status=?, output=?, updated=? WHERE id=?", status, output,
                          wire_time(now()), live.instance_id)  # fmt: skip
        if status not in ep.FINISHED:
            return
        live.gone = True
        del self._live[live.instance_id]
        self._store.write("DELETE FROM messages WHERE instance=?", live.instance_id)
        self._store.write("DELETE FROM timers WHERE instance=?", live.instance_id)
        if live.parent is not None:
            if status == ep.COMPLETED:
                answer = event(Kind.SUB_COMPLETED, TaskScheduledId=live.parent_task, Result=output)
            else:
                answer = event(Kind.SUB_FAILED, TaskScheduledId=live.parent_task, Reason=output, Details=None)
            self.deliver(live.parent, live.parent_execution, answer)
        say, detail = (log.info, None) if status == ep.COMPLETED else (log.warning, output)
        say("orchestration", function=live.name, instance=live.instance_id, status=status, output=detail)
        self._store.after_commit(live.ended.set)

    def _apply_control(self, live: Live, messages: list[Message], new: list[Event]) -> None:
        item = messages[0].event
        if item.kind is Kind.EXECUTION_TERMINATED:
            reason = item.fields().get("Input")
            self._work.drop_activities(live.instance_id)
            self._commit(live, messages, [new[0], *ep.terminated(reason)], ep.TERMINATED, reason)
        else:
            self._commit(live, messages, new, ep.SUSPENDED if item.kind is Kind.EXECUTION_SUSPENDED else ep.RUNNING)

    def _continue_as_new(self, live: Live, outcome: ep.Outcome) -> None:
        # Unread events belong to the new execution and come after its start.
        unread = [*outcome.carried, *(m.event for m in live.inbox if m.execution is None)]
        live.inbox.clear()
        self._wipe(live.instance_id)
        live.execution, live.history, live.input = uuid.uuid4().hex, [], outcome.next_input
        moment = wire_time(now())
        self._store.write("UPDATE instances SET execution=?, status=?, input=?, created=?, updated=? WHERE id=?",
                          live.execution, ep.RUNNING, live.input, moment, moment, live.instance_id)  # fmt: skip
        self.deliver(live.instance_id, live.execution, started(live))
        for item in unread:
            self.deliver(live.instance_id, None, item)

    # -- effects ------------------------------------------------------------------------------------
    def _dispatch(self, live: Live, outcome: ep.Outcome) -> None:
        scheduled = {item.event_id: item.fields() for item in outcome.events}
        for task in outcome.tasks:
            key, fields = (live.instance_id, live.execution, task.task_id), scheduled[task.task_id]
            if task.kind is Kind.TASK_SCHEDULED:
                self._work.add_activity(key, task.name, fields["Input"])
            elif task.kind is Kind.EVENT_SENT:
                self.entities.send(fields["InstanceId"], fields["Input"])
            elif task.kind is Kind.SUB_CREATED:
                try:
                    self.start(fields["Name"], fields["InstanceId"], fields["Input"], fields["Version"], key)
                except ValueError as problem:
                    refused = event(Kind.SUB_FAILED, TaskScheduledId=task.task_id, Reason=str(problem), Details=None)
                    self.deliver(live.instance_id, live.execution, refused)
            elif not task.action.get("isCanceled") and task.fire_at is not None:
                self._work.add_timer(key, task.fire_at)
        for task_id in outcome.cancelled_timers:
            self._work.drop_timer(live.instance_id, live.execution, task_id)

    # -- histories ----------------------------------------------------------------------------------
    def _past(self, live: Live) -> list[Event]:
        """The whole history; the list never changes: an episode that is under way keeps what it was given."""
        if live.history is None:
            rows = self._store.rows("SELECT event FROM history WHERE instance=? ORDER BY seq", live.instance_id)
            live.history = [from_text(text) for (text,) in rows]
            self._remembered += len(rows)
        return live.history

    def _append(self, live: Live, events: list[Event]) -> None:
        past = self._past(live)
        rows = [(live.instance_id, len(past) + i, item.text) for i, item in enumerate(events)]
        self._store.write_many("INSERT INTO history VALUES (?,?,?)", rows)
        live.history = [*past, *events]
        self._remembered += len(events)
        if self._remembered > REMEMBERED_EVENTS:
            self._remembered = 0
            for other in self._live.values():
                other.history = None

    # -- rows ---------------------------------------------------------------------------------------
    def _consume(self, messages: list[Message]) -> None:
        self._store.write_many("DELETE FROM messages WHERE seq=?", [(m.seq,) for m in messages])

    def _wipe(self, instance_id: str) -> None:
        """Delete what an execution leaves behind."""
        for table in ("history", "activities", "timers", "messages"):
            self._store.write(f"DELETE FROM {table} WHERE instance=?", instance_id)  # noqa: S608 (constant names)
