"""Queue triggers: messages are hidden while they run, shown again after a failure, in the end <queue>-poison."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import uuid
from collections.abc import Mapping
from typing import Any

from azure.functions.meta import Datum

from devhost.app_settings import HostConfig, resolve
from devhost.bindings import Bindings
from devhost.function_index import Function
from devhost.logs import EventLog
from devhost.storage_rest import Account, QueueItem, Storage

log = EventLog("devhost.queues")
_HIDDEN_SECONDS = 30  # a message of a killed host comes back after that; renewed while the function runs
_SHORTEST_POLL, _LONGEST_POLL = 0.1, 2.0  # seconds between looks at an empty queue


class Queues:
    """All queue triggers of an app."""

    def __init__(self, bindings: Bindings, storage: Storage, functions: list[Function], config: HostConfig,
                 environ: Mapping[str, str]) -> None:  # fmt: skip
        self._bindings = bindings
        self._storage = storage
        self._config = config
        self._listeners = [
            (f, resolve(str(f.trigger.settings["queueName"]), environ, f"the queue of {f.name}")) for f in functions
        ]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to listen."""
        loop = asyncio.get_running_loop()
        for function, queue in self._listeners:
            account = self._storage.account(str(function.trigger.settings.get("connection") or "AzureWebJobsStorage"))
            self._tasks.append(loop.create_task(self._listen(function, account, queue)))

    async def close(self) -> None:
        """Stop listening."""
        for task in self._tasks:
            task.cancel()

    async def run(self, function: Function, item: QueueItem) -> None:
        """Run a function on a message; raises what it raises."""
        await self._run(function, item, self._decoded(item.body))

    async def run_text(self, function: Function, body: str) -> None:
        """Run a function on a message that was never in a queue."""
        await self._run(function, QueueItem(str(uuid.uuid4()), "", body, 1, "", "", ""), body)

    async def _run(self, function: Function, item: QueueItem, body: str) -> None:
        metadata = {
            "Id": Datum(item.id, "string"), "DequeueCount": Datum(item.dequeue_count, "int"),
            "PopReceipt": Datum(item.receipt, "string"), "InsertionTime": Datum(_iso(item.inserted), "string"),
            "ExpirationTime": Datum(_iso(item.expires), "string"),
            "NextVisibleTime": Datum(_iso(item.next_visible), "string"),
        }  # fmt: skip
        values: dict[str, Any] = {"queueTrigger": body, "id": item.id, "dequeueCount": item.dequeue_count}
        try:
            document = json.loads(body)
            values.update(document if isinstance(document, dict) else {})
        except ValueError:
            pass
        await self._bindings.run(function, Datum(body, "string"), metadata, values)

    async def _listen(self, function: Function, account: Account, queue: str) -> None:
        pause = _SHORTEST_POLL
        running: set[asyncio.Task[None]] = set()
        while True:
            try:
                free = self._config.queue_batch - len(running)
                items = await account.take_messages(queue, free, _HIDDEN_SECONDS) if free > 0 else []
            except Exception as problem:
                log.warning("queue unreachable", queue=queue, error=problem)
                items, pause = [], _LONGEST_POLL
            for item in items:
                task = asyncio.get_running_loop().create_task(self._process(function, account, queue, item))
                running.add(task)
                task.add_done_callback(running.discard)
            pause = _SHORTEST_POLL if items else min(pause * 1.5, _LONGEST_POLL)
            if running:
                await asyncio.wait(running, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(pause)

    async def _process(self, function: Function, account: Account, queue: str, item: QueueItem) -> None:
        holder = [item]
        renewal = asyncio.get_running_loop().create_task(_renew(account, queue, holder))
        try:
            await self.run(function, item)
            failed = False
        except asyncio.CancelledError:
            raise
        except BaseException:
            failed = True
        finally:
            renewal.cancel()
        try:
            if not failed:
                await account.delete_message(queue, holder[0])
            elif item.dequeue_count >= self._config.max_dequeue_count:
                log.warning("poison", function=function.name, queue=f"{queue}-poison", message=item.id)
                await account.put_message(f"{queue}-poison", item.body.encode(), base64_text=False)
                await account.delete_message(queue, holder[0])
            else:
                await account.hide_message(queue, holder[0], int(self._config.queue_retry_seconds))
        except Exception as problem:
            log.warning("queue unreachable", queue=queue, error=problem)

    def _decoded(self, text: str) -> str:
        if not self._config.queue_base64:
            return text
        try:
            return base64.b64decode(text, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError) as problem:
            raise ValueError(f"the message is not base64 as host.json's messageEncoding says: {problem}") from problem


async def _renew(account: Account, queue: str, holder: list[QueueItem]) -> None:
    while True:
        await asyncio.sleep(_HIDDEN_SECONDS / 2)
        renewed = await account.hide_message(queue, holder[0], _HIDDEN_SECONDS)
        if renewed is not None:
            holder[0] = renewed


def _iso(text: str) -> str:
    """Queue times come as RFC 1123; functions get ISO-8601."""
    from email.utils import parsedate_to_datetime

    if not text:
        return ""
    return parsedate_to_datetime(text).strftime("%Y-%m-%dT%H:%M:%S+00:00")
