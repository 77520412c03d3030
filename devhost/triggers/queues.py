"""Queue triggers: messages are hidden while they run, shown again after a failure, in the end <queue>-poison."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from typing import TYPE_CHECKING, Any

from azure.functions.meta import Datum

from devhost.background import Background
from devhost.bindings import Bindings
from devhost.function_index import Function
from devhost.logs import EventLog
from devhost.storage import Account

if TYPE_CHECKING:
    from azure.storage.queue import QueueMessage
    from azure.storage.queue.aio import QueueClient

log = EventLog("devhost.queues")
_HIDDEN_SECONDS = 30  # a message of a killed host comes back after that; renewed while the function runs
_SHORTEST_POLL = 0.1  # seconds between looks at an empty queue; host.json may name the longest


class Queues:
    """All queue triggers of an app."""

    def __init__(self, bindings: Bindings, background: Background) -> None:
        self._bindings, self._config, self._background = bindings, bindings.config, background
        self._queues = [(f, f.trigger.text("queueName")) for f in bindings.index.with_trigger("queueTrigger")]

    def start(self) -> None:
        """Begin to listen."""
        for function, queue in self._queues:
            account = self._bindings.storage.account(function.trigger)
            self._background.start(self._listen(function, account, queue))

    async def run_text(self, function: Function, body: str) -> None:
        """Run a function on a message that was never in a queue; raises what it raises."""
        from azure.storage.queue import QueueMessage

        await self._run(function, QueueMessage(content=body, id=str(uuid.uuid4()), dequeue_count=1), body)

    async def _run(self, function: Function, item: QueueMessage, body: str) -> None:
        message_id, count = item.id, int(item.dequeue_count or 1)
        times = {"InsertionTime": item.inserted_on, "ExpirationTime": item.expires_on,
                 "NextVisibleTime": item.next_visible_on}  # fmt: skip
        metadata = {
            "Id": Datum(message_id, "string"), "DequeueCount": Datum(count, "int"),
            "PopReceipt": Datum(item.pop_receipt or "", "string"),
            **{name: Datum(moment.isoformat() if moment else "", "string") for name, moment in times.items()},
        }  # fmt: skip
        values: dict[str, Any] = {"queueTrigger": body, "id": message_id, "dequeueCount": count}
        with contextlib.suppress(ValueError, TypeError):
            values |= dict(json.loads(body))
        await self._bindings.run(function, Datum(body, "string"), metadata, values)

    async def _listen(self, function: Function, account: Account, queue: str) -> None:
        client, pause = account.queue(queue), _SHORTEST_POLL
        running: set[asyncio.Task[None]] = set()
        while True:
            free = self._config.queue_batch - len(running)
            items = await self._take(client, free) if free else []
            running |= {asyncio.create_task(self._process(function, account, client, item)) for item in items}
            pause = _SHORTEST_POLL if items else min(pause * 1.5, self._config.queue_longest_poll)
            if running:
                _, running = await asyncio.wait(running, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(pause)

    async def _take(self, client: QueueClient, count: int) -> list[QueueMessage]:
        """Take messages and hide them for a while; none if there is no such queue, or it cannot be reached."""
        try:
            return [item async for item in client.receive_messages(
                max_messages=count, messages_per_page=count, visibility_timeout=_HIDDEN_SECONDS)]  # fmt: skip
        except Exception as problem:
            if getattr(problem, "error_code", "") != "QueueNotFound":
                log.warning("queue unreachable", queue=client.queue_name, error=type(problem).__name__)
            return []

    async def _process(self, function: Function, account: Account, client: QueueClient, item: QueueMessage) -> None:
        renewal = asyncio.create_task(_renew(client, item))
        try:
            try:
                await self._run(function, item, account.decoded(item.content))
            except Exception:
                if int(item.dequeue_count or 1) < self._config.max_dequeue_count:
                    await client.update_message(item, visibility_timeout=int(self._config.queue_retry_seconds))
                    return
                poison = f"{client.queue_name}-poison"
                log.warning("poison", function=function.name, queue=poison, message=item.id)
                await account.put_message(poison, item.content)
            await client.delete_message(item)
        except Exception as problem:
            log.warning("queue unreachable", queue=client.queue_name, error=problem)
        finally:
            renewal.cancel()


async def _renew(client: QueueClient, item: QueueMessage) -> None:
    while True:
        await asyncio.sleep(_HIDDEN_SECONDS / 2)
        item.pop_receipt = (await client.update_message(item, visibility_timeout=_HIDDEN_SECONDS)).pop_receipt
