"""Blob triggers: containers are watched; a new or changed ETag is an event, kept until it is done.

Event Grid delivers at least once, and so does this: the ETag that was seen and its event are stored in one commit; an
event leaves the store when its function has succeeded, or after the last failure, with a message in the poison queue.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any
from urllib.parse import unquote, urlsplit

from azure.functions.meta import Datum

from devhost.background import Background
from devhost.bindings import Bindings
from devhost.durable.store import Store
from devhost.function_index import Function
from devhost.logs import EventLog

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
        self.prefix = pieces[0]
        last = len(pieces) - 2  # the last expression takes the rest of the name, slashes too
        pattern = "".join(
            f"(?P<{piece}>{'.+' if at == last else '[^/]+?'})" if at % 2 else re.escape(piece)
            for at, piece in enumerate(pieces)
        )
        self._pattern = re.compile(pattern or ".+", re.DOTALL)

    def match(self, name: str) -> dict[str, str] | None:
        """Values of the expressions, or None if the blob is not one of the trigger's."""
        found = self._pattern.fullmatch(name)
        return None if found is None else found.groupdict()


class Blobs:
    """All blob triggers of an app."""

    def __init__(self, bindings: Bindings, store: Store, background: Background) -> None:
        self._bindings, self._store, self._background = bindings, store, background
        self._functions = {f.name: f for f in bindings.index.with_trigger("blobTrigger")}
        all_triggers = (f for f in bindings.index.functions if f.trigger.type == "blobTrigger")
        self._paths = {f.name: BlobPath(f.trigger.text("path")) for f in all_triggers}
        self._slots = asyncio.Semaphore(_PARALLEL)

    def start(self) -> None:
        """Take up stored events and begin to watch."""
        for seq, name, blob, etag, failures in self._store.rows(
            "SELECT seq, function, blob, etag, failures FROM blob_arrivals ORDER BY seq"
        ):
            if name in self._functions:
                self._background.start(self._process(seq, self._functions[name], blob, etag, failures))
        watched: dict[tuple[str, str], list[Function]] = {}
        for name, function in self._functions.items():
            watched.setdefault((function.trigger.connection, self._paths[name].container), []).append(function)
        for (connection, container), functions in watched.items():
            self._bindings.storage.account(functions[0].trigger)  # a connection that is missing is told now
            self._background.start(self._watch(f"{connection}/{container}", container, functions))

    async def accept(self, function: Function, item: dict[str, Any]) -> None:
        """Store an Event Grid event for a function; it is on disk when this returns."""
        base = urlsplit(self._bindings.storage.account(function.trigger).blobs.url).path  # an emulator's account
        blob = unquote(urlsplit(item["data"]["url"]).path.removeprefix(base.rstrip("/"))).lstrip("/")
        self._add(function, blob, item["data"]["eTag"])
        await self._store.committed()

    def _add(self, function: Function, blob: str, etag: str) -> None:
        statement = "INSERT INTO blob_arrivals (function, blob, etag) VALUES (?,?,?)"
        seq = self._store.write(statement, function.name, blob, etag).lastrowid or 0
        self._store.after_commit(lambda: self._background.start(self._process(seq, function, blob, etag, 0)))

    async def _watch(self, place: str, container: str, functions: list[Function]) -> None:
        seen = dict(self._store.rows("SELECT blob, etag FROM blob_seen WHERE place=?", place))
        prefixes = {self._paths[f.name].prefix for f in functions}
        prefix = prefixes.pop() if len(prefixes) == 1 else ""
        account, troubled = self._bindings.storage.account(functions[0].trigger), False
        while True:
            began = time.monotonic()
            try:
                present, troubled = await account.etags(container, prefix), False
            except Exception as problem:
                if not troubled:
                    log.warning("container unreachable", container=container, error=problem)
                present, troubled = seen, True
            for name in [name for name, etag in present.items() if seen.get(name) != etag]:
                self._store.write("INSERT OR REPLACE INTO blob_seen VALUES (?,?,?)", place, name, present[name])
                for function in functions:
                    if self._paths[function.name].match(name) is not None:
                        self._add(function, f"{container}/{name}", present[name])
            gone = [(place, name) for name in seen if name not in present]
            self._store.write_many("DELETE FROM blob_seen WHERE place=? AND blob=?", gone)
            seen = present
            rest = (time.monotonic() - began) * _REST_FACTOR
            await asyncio.sleep(min(max(_SHORTEST_POLL, rest), _LONGEST_POLL))

    # -- running ------------------------------------------------------------------------------------
    async def _process(self, seq: int, function: Function, blob: str, etag: str, failures: int) -> None:
        async with self._slots:
            while failures < self._bindings.config.blob_max_failures:
                try:
                    await self.run_blob(function, blob)
                    break
                except Exception:
                    failures += 1
                    self._store.write("UPDATE blob_arrivals SET failures=? WHERE seq=?", failures, seq)
                    await asyncio.sleep(_RETRY_SECONDS)
            else:
                await self._poison(function, blob, etag)
        self._store.write("DELETE FROM blob_arrivals WHERE seq=?", seq)

    async def run_blob(self, function: Function, blob: str) -> None:
        """Run a function on a blob named container/name, if there is such a blob; raises what the function raises."""
        account, path = self._bindings.storage.account(function.trigger), self._paths[function.name]
        container, _, name = blob.partition("/")
        values = path.match(name) if container == path.container else None
        found = await account.read_blob(container, name)
        if values is None or found is None:
            log.info("not there, or not one of the trigger's", function=function.name, blob=blob)
            return
        content, about = found
        properties = {
            "ContentLength": about.size, "Length": about.size, "ETag": about.etag, "BlobType": about.blob_type,
            "ContentType": about.content_settings.content_type, "LastModified": str(about.last_modified),
        }  # fmt: skip
        address = account.blobs.get_blob_client(container, name).url
        metadata = {
            "BlobTrigger": Datum(blob, "string"),
            "Uri": Datum(address, "string"),
            "Properties": Datum(json.dumps(properties), "json"),
            "Metadata": Datum(json.dumps(about.metadata), "json"),
            **{key: Datum(value, "string") for key, value in values.items()},
        }
        filled = {**values, "blobTrigger": blob, "uri": address}
        await self._bindings.run(function, Datum(content, "bytes"), metadata, filled)

    async def _poison(self, function: Function, blob: str, etag: str) -> None:
        log.warning("poison", function=function.name, queue=POISON_QUEUE, blob=blob)
        container, _, name = blob.partition("/")
        document = {
            "Type": "BlobTrigger", "FunctionId": f"Host.Functions.{function.name}", "BlobType": "BlockBlob",
            "ContainerName": container, "BlobName": name, "ETag": etag,
        }  # fmt: skip
        account = self._bindings.storage.account(function.trigger)
        await account.put_message(POISON_QUEUE, account.encoded(json.dumps(document).encode()))
