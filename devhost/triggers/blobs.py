"""Blob triggers: containers are watched, a new or changed ETag becomes an Event Grid event, kept until it is done.

Event Grid delivers at least once, and so does this: the ETag that was seen and its event are stored in one commit; an
event leaves the store when its function has succeeded, or after five failures, with a message in the poison queue.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from azure.functions.meta import Datum

from devhost.app_settings import resolve
from devhost.bindings import Bindings
from devhost.durable.history import now, wire_time
from devhost.durable.store import Store
from devhost.function_index import Function
from devhost.logs import EventLog
from devhost.storage_rest import Account, BlobItem, Storage

log = EventLog("devhost.blobs")
POISON_QUEUE = "webjobs-blobtrigger-poison"
_SHORTEST_POLL = 0.5  # seconds between listings of a container
_REST_FACTOR = 10  # a listing that takes long is repeated after ten times as long
_LONGEST_POLL = 10.0
_PARALLEL = 8  # functions running on blobs at once
_RETRY_SECONDS = 0.5


class BlobPath:
    """A trigger's path, like landing/{source}/{name}.csv."""

    def __init__(self, template: str) -> None:
        self.container, _, rest = template.partition("/")
        pieces = re.split(r"\{(\w+)\}", rest)
        self.prefix = pieces[0] if len(pieces) > 1 else rest
        pattern = ""
        for at, piece in enumerate(pieces):
            # The last expression takes the rest of the name, slashes too.
            value = ".+" if at == len(pieces) - 2 else "[^/]+?"
            pattern += f"(?P<{piece}>{value})" if at % 2 else re.escape(piece)
        self._pattern = re.compile(pattern if rest else ".+", re.DOTALL)

    def match(self, name: str) -> dict[str, str] | None:
        """Values of the expressions, or None if the blob is not one of the trigger's."""
        found = self._pattern.fullmatch(name)
        return None if found is None else found.groupdict()


class Blobs:
    """All blob triggers of an app."""

    def __init__(self, store: Store, bindings: Bindings, storage: Storage, functions: list[Function], max_failures: int,
                 environ: Mapping[str, str]) -> None:  # fmt: skip
        self._store = store
        self._bindings = bindings
        self._storage = storage
        self._max_failures = max_failures
        self._paths = {
            f.name: BlobPath(resolve(str(f.trigger.settings["path"]), environ, f"the path of {f.name}"))
            for f in functions
        }
        self._functions = {f.name: f for f in functions}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_PARALLEL)

    def start(self) -> None:
        """Take up stored events and begin to watch."""
        stored = self._store.rows("SELECT seq, function, event, failures FROM blob_events ORDER BY seq")
        for seq, name, text, failures in stored:
            if name in self._functions:
                self._spawn(self._process(seq, self._functions[name], json.loads(text), failures))
        watched: dict[tuple[str, str], list[Function]] = {}
        for name, function in self._functions.items():
            watched.setdefault((_connection(function), self._paths[name].container), []).append(function)
        for (connection, container), functions in watched.items():
            account = self._storage.account(connection)
            self._spawn(self._watch(account, f"{connection}/{container}", container, functions))

    async def close(self) -> None:
        """Stop watching; events that are not done are taken up by the next host."""
        for task in list(self._tasks):
            task.cancel()

    async def accept(self, function: Function, item: dict[str, Any]) -> None:
        """Store an Event Grid event for a function; it is on disk when this returns."""
        self._add(function, item)
        await self._store.committed()

    async def run_path(self, function: Function, path: str) -> None:
        """Run a function on a blob named container/name; raises LookupError if it is not there, or what it raises."""
        container, _, name = path.partition("/")
        await self._run(function, container, name)

    def _add(self, function: Function, item: dict[str, Any]) -> None:
        text = json.dumps(item)
        seq = self._store.insert("INSERT INTO blob_events (function, event) VALUES (?,?)", function.name, text)
        self._store.after_commit(lambda: self._spawn(self._process(seq, function, item, 0)))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            asyncio.get_running_loop().call_exception_handler({"message": "blobs", "exception": task.exception()})

    # -- watching -----------------------------------------------------------------------------------
    async def _watch(self, account: Account, place: str, container: str, functions: list[Function]) -> None:
        seen = dict(self._store.rows("SELECT blob, etag FROM blob_seen WHERE place=?", place))
        prefixes = {self._paths[f.name].prefix for f in functions}
        prefix = prefixes.pop() if len(prefixes) == 1 else ""
        troubled = False
        while True:
            began = time.monotonic()
            try:
                present: set[str] = set()
                async for item in account.list_blobs(container, prefix):
                    present.add(item.name)
                    if seen.get(item.name) != item.etag:
                        seen[item.name] = item.etag
                        self._found(account, place, container, item, functions)
                for name in [name for name in seen if name not in present]:
                    del seen[name]
                    self._store.write("DELETE FROM blob_seen WHERE place=? AND blob=?", place, name)
                troubled = False
            except asyncio.CancelledError:
                raise
            except Exception as problem:
                if not troubled:
                    log.warning("container unreachable", container=container, error=problem)
                troubled = True
            took = time.monotonic() - began
            await asyncio.sleep(min(max(_SHORTEST_POLL, took * _REST_FACTOR), _LONGEST_POLL))

    def _found(self, account: Account, place: str, container: str, item: BlobItem, functions: list[Function]) -> None:
        self._store.write("INSERT OR REPLACE INTO blob_seen VALUES (?,?,?)", place, item.name, item.etag)
        event = {
            "topic": "/subscriptions/local/resourceGroups/local/providers/Microsoft.Storage/storageAccounts/local",
            "subject": f"/blobServices/default/containers/{container}/blobs/{item.name}",
            "eventType": "Microsoft.Storage.BlobCreated",
            "id": str(uuid.uuid4()),
            "data": {
                "api": "PutBlob", "requestId": str(uuid.uuid4()), "eTag": item.etag,
                "contentType": item.content_type, "contentLength": item.length, "blobType": item.blob_type,
                "url": f"{account.blobs}/{container}/{quote(item.name)}",
            },
            "dataVersion": "", "metadataVersion": "1", "eventTime": wire_time(now()),
        }  # fmt: skip
        for function in functions:
            if self._paths[function.name].match(item.name) is not None:
                self._add(function, event)

    # -- running ------------------------------------------------------------------------------------
    async def _process(self, seq: int, function: Function, item: dict[str, Any], failures: int) -> None:
        container, name = self._place(function, item["data"]["url"])
        async with self._slots:
            while True:
                try:
                    await self._run(function, container, name)
                    break
                except asyncio.CancelledError:
                    raise
                except LookupError as problem:
                    log.info("blob gone", function=function.name, blob=f"{container}/{name}", why=problem)
                    break
                except BaseException:
                    failures += 1
                    self._store.write("UPDATE blob_events SET failures=? WHERE seq=?", failures, seq)
                    if failures >= self._max_failures:
                        await self._poison(function, container, name, item["data"].get("eTag"))
                        break
                    await asyncio.sleep(_RETRY_SECONDS)
        self._store.write("DELETE FROM blob_events WHERE seq=?", seq)

    def _place(self, function: Function, url: str) -> tuple[str, str]:
        """Container and name of a blob's URL; the account's name is part of the path on an emulator."""
        base = urlsplit(self._storage.account(_connection(function)).blobs).path
        path = unquote(urlsplit(url).path)
        container, _, name = path.removeprefix(unquote(base)).lstrip("/").partition("/")
        return container, name

    async def _run(self, function: Function, container: str, name: str) -> None:
        path = self._paths[function.name]
        values = path.match(name) if container == path.container else None
        if values is None:
            raise LookupError(f"it is not below {path.container}/{path.prefix}")
        account = self._storage.account(_connection(function))
        blob = await account.read_blob(container, name)
        if blob is None:
            raise LookupError("it was deleted")
        metadata = {
            "BlobTrigger": Datum(f"{container}/{name}", "string"),
            "Uri": Datum(blob.url, "string"),
            "Properties": Datum(json.dumps(blob.properties), "json"),
            "Metadata": Datum(json.dumps(blob.metadata), "json"),
            **{key: Datum(value, "string") for key, value in values.items()},
        }
        filled = {**values, "blobTrigger": f"{container}/{name}", "uri": blob.url}
        await self._bindings.run(function, Datum(blob.content, "bytes"), metadata, filled)

    async def _poison(self, function: Function, container: str, name: str, etag: str | None) -> None:
        log.warning("poison", function=function.name, queue=POISON_QUEUE, blob=f"{container}/{name}")
        document = {
            "Type": "BlobTrigger", "FunctionId": f"Host.Functions.{function.name}", "BlobType": "BlockBlob",
            "ContainerName": container, "BlobName": name, "ETag": etag,
        }  # fmt: skip
        try:
            await self._storage.account(_connection(function)).put_message(POISON_QUEUE, json.dumps(document).encode())
        except Exception as problem:
            log.warning("queue unreachable", queue=POISON_QUEUE, error=problem)


def _connection(function: Function) -> str:
    return str(function.trigger.settings.get("connection") or "AzureWebJobsStorage")
