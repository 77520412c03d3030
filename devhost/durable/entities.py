"""Entities: one batch of requests at a time for each, in order; state, answers and signals are stored in one commit."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

from devhost.background import Background
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


Deliver = Callable[[str, str | None, Event], None]
"""Stores an event for an execution of an instance, see TaskHub.deliver."""


class EntityHub:
    """All entities of a task hub. Construct, then `recover`."""

    def __init__(self, store: Store, invoker: Invoker, deliver: Deliver, background: Background) -> None:
        self._store, self._invoker, self._deliver, self._background = store, invoker, deliver, background
        self._busy: set[str] = set()

    def signal(self, name: str, key: str, operation: str, input_text: str | None) -> None:
        """Store a one-way request from outside."""
        request = {"op": operation, "signal": True, "input": input_text, "id": str(uuid.uuid4())}
        self.send(entity_id(name, key), compact(request))

    def send(self, scheduler_id: str, request: str) -> None:
        """Store a request as part of the running commit; it is served after that."""
        self._store.write("INSERT INTO messages (instance, event) VALUES (?,?)", scheduler_id, request)
        self._store.after_commit(lambda: self._wake(scheduler_id))

    def recover(self) -> None:
        """Take up unread requests."""
        for (scheduler_id,) in self._store.rows("SELECT DISTINCT instance FROM messages WHERE instance LIKE '@%'"):
            self._wake(scheduler_id)

    def state(self, scheduler_id: str) -> str | None:
        """Return the JSON of an entity's state, or None if there is no such entity."""
        row = self._store.row("SELECT state FROM entities WHERE id=?", scheduler_id)
        return None if row is None else (row[0] or _NO_STATE)

    def _wake(self, scheduler_id: str) -> None:
        if scheduler_id not in self._busy and not self._invoker.closing:
            self._busy.add(scheduler_id)
            self._background.start(self._serve(scheduler_id))

    async def _serve(self, scheduler_id: str) -> None:
        unread = "SELECT seq, event FROM messages WHERE instance=? ORDER BY seq LIMIT ?"
        while rows := self._store.rows(unread, scheduler_id, MAX_BATCH):
            requests = [json.loads(text) for _, text in rows]
            try:
                reply = await self._call(scheduler_id, requests)
                self._store.write("DELETE FROM entities WHERE id=?", scheduler_id)
                if reply["entityExists"]:
                    new = (scheduler_id, reply["entityState"], wire_time(now()))
                    self._store.write("INSERT INTO entities VALUES (?,?,?)", *new)
            except Exception as problem:
                said = f"{type(problem).__name__}: {problem}"
                log.error("entity", entity=scheduler_id, error=said)
                reply = {"results": [{"isError": True, "result": compact(said)} for _ in rows]}
            self._store.write_many("DELETE FROM messages WHERE seq=?", [(seq,) for seq, _ in rows])
            for request, result in zip(requests, reply["results"], strict=True):
                self._answer(scheduler_id, request, result)
            for item in reply.get("signals", ()):
                self.signal(item["target"]["name"], item["target"]["key"], item["name"], item.get("input"))
            await self._store.committed()
        self._busy.discard(scheduler_id)

    async def _call(self, scheduler_id: str, requests: list[dict[str, Any]]) -> dict[str, Any]:
        _, name, key = scheduler_id.split("@", 2)
        row = self._store.row("SELECT state FROM entities WHERE id=?", scheduler_id)
        batch = [{"name": r["op"], "input": r.get("input"), "isSignal": bool(r.get("signal"))} for r in requests]
        body = compact({
            "self": {"name": name, "key": key}, "exists": row is not None, "state": row[0] if row else None,
            "batch": batch,
        })  # fmt: skip
        return dict(json.loads(await self._invoker.entity(name, scheduler_id, body)))

    def _answer(self, scheduler_id: str, request: dict[str, Any], result: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"result": result["result"]}
        if result.get("isError"):
            answer["exceptionType"] = "Error"
        if request.get("parent") and not request.get("signal"):
            raised = event(Kind.EVENT_RAISED, Name=request["id"], Input=compact(answer))
            self._deliver(request["parent"], request.get("parentExecution"), raised)
        elif result.get("isError"):
            log.warning("entity", entity=scheduler_id, operation=request["op"], error=result["result"])
