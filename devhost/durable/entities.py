"""Entities: one batch of requests at a time for each, in order; state, answers and signals are stored in one commit."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from devhost.durable.history import Event, Kind, compact, event, now, wire_time
from devhost.durable.store import Store
from devhost.invocation import Invoker
from devhost.logs import EventLog

log = EventLog("devhost.durable")
MAX_BATCH = 500  # requests handed to an entity in one call
_NO_STATE = "null"


def entity_id(name: str, key: str) -> str:
    """Scheduler id of an entity; names ignore case, keys do not."""
    return f"@{name.lower()}@{key}"


class Deliver(Protocol):
    """Stores an event for an orchestration, see TaskHub.deliver."""

    def __call__(self, instance_id: str, execution: str | None, item: Event, *, at_once: bool = False) -> None:
        """Store it."""


@dataclass(slots=True)
class _Entity:
    waiting: deque[tuple[int, dict[str, Any]]] = field(default_factory=deque)
    busy: bool = False


class EntityHub:
    """All entities of a task hub. Construct, then `recover`."""

    def __init__(self, store: Store, invoker: Invoker, deliver: Deliver) -> None:
        self._store = store
        self._invoker = invoker
        self._deliver = deliver
        self._active: dict[str, _Entity] = {}

    def signal(self, name: str, key: str, operation: str, input_text: str | None) -> None:
        """Store a one-way request from outside."""
        request = {"op": operation, "signal": True, "input": input_text, "id": str(uuid.uuid4())}
        self.send(entity_id(name, key), compact(request))

    def send(self, scheduler_id: str, request: str) -> None:
        """Store a request as part of the running commit; it is served after that."""
        seq = self._store.write("INSERT INTO messages (instance, event) VALUES (?,?)", scheduler_id, request)
        self._active.setdefault(scheduler_id, _Entity()).waiting.append((seq, json.loads(request)))
        self._store.after_commit(lambda: self._serve(scheduler_id))

    def recover(self) -> None:
        """Take up unread requests."""
        for seq, scheduler_id, text in self._store.rows(
            "SELECT seq, instance, event FROM messages WHERE instance LIKE '@%' ORDER BY seq"
        ):
            self._active.setdefault(scheduler_id, _Entity()).waiting.append((seq, json.loads(text)))
        for scheduler_id in list(self._active):
            self._serve(scheduler_id)

    def state(self, scheduler_id: str) -> str | None:
        """Return the JSON of an entity's state, or None if there is no such entity."""
        row = self._store.row("SELECT state FROM entities WHERE id=?", scheduler_id)
        return None if row is None else (row[0] or _NO_STATE)

    def _serve(self, scheduler_id: str) -> None:
        entity = self._active.get(scheduler_id)
        if entity is None or entity.busy or self._invoker.closing:
            return
        if not entity.waiting:
            del self._active[scheduler_id]
            return
        batch = [entity.waiting.popleft() for _ in range(min(MAX_BATCH, len(entity.waiting)))]
        row = self._store.row("SELECT state FROM entities WHERE id=?", scheduler_id)
        _, name, key = scheduler_id.split("@", 2)
        operations = [
            {"name": item["op"], "input": item.get("input"), "isSignal": bool(item.get("signal"))} for _, item in batch
        ]
        body = compact({
            "self": {"name": name, "key": key}, "exists": row is not None, "state": row[0] if row else None,
            "batch": operations,
        })  # fmt: skip
        entity.busy = True
        future = asyncio.get_running_loop().run_in_executor(
            self._invoker.replays, self._invoker.run_entity, name, scheduler_id, body
        )
        future.add_done_callback(lambda done: self._store_batch(scheduler_id, entity, batch, done))

    def _store_batch(self, scheduler_id: str, entity: _Entity, batch: list[tuple[int, dict[str, Any]]],
                     done: asyncio.Future[str]) -> None:  # fmt: skip
        entity.busy = False
        if done.cancelled():
            return
        problem = done.exception()
        if problem is not None:
            said = f"{type(problem).__name__}: {problem}"
            log.error("entity", entity=scheduler_id, error=said)
            reply: dict[str, Any] = {"results": [{"isError": True, "result": compact(said)} for _ in batch]}
        else:
            reply = json.loads(done.result())
            self._store.write("DELETE FROM entities WHERE id=?", scheduler_id)
            if reply["entityExists"]:
                self._store.write("INSERT INTO entities VALUES (?,?,?)", scheduler_id, reply["entityState"],
                                  wire_time(now()))  # fmt: skip
        self._store.write_many("DELETE FROM messages WHERE seq=?", [(seq,) for seq, _ in batch])
        for (_, request), result in zip(batch, reply["results"], strict=True):
            self._answer(scheduler_id, request, result)
        for item in reply.get("signals", ()):
            self.signal(item["target"]["name"], item["target"]["key"], item["name"], item.get("input"))
        self._store.after_commit(lambda: self._serve(scheduler_id))

    def _answer(self, scheduler_id: str, request: dict[str, Any], result: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"result": result["result"]}
        if result.get("isError"):
            answer["exceptionType"] = "Error"
        if request.get("parent") and not request.get("signal"):
            raised = event(Kind.EVENT_RAISED, Name=request["id"], Input=compact(answer))
            self._deliver(request["parent"], request.get("parentExecution"), raised)
        elif result.get("isError"):
            log.warning("entity", entity=scheduler_id, operation=request["op"], error=result["result"])
