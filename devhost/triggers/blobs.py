"""Blob triggers: containers are watched; a new or changed ETag is an event, kept until it is done.

Event Grid delivers at least once, and so does this: the ETag that was seen and its event are stored in one commit; an
event leaves the store when its function has succeeded, or after the last failure, with a message in the poison queue.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from azure.functions.meta import Datum

from devhost.app_settings import HostConfig, resolve
from devhost.background import Background
from devhost.bindings import Bindings
from devhost.durable.store import Store
from devhost.function_index import Binding, Function
from devhost.logs import EventLog
from devhost.storage import Storage

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

    def __init__(self, store: Store, bindings: Bindings, storage: Storage, functions: list[Function],
                 config: HostConfig, environ: Mapping[str, str], background: Background) -> None:  # fmt: skip
        self._store = store
        self._bindings = bindings
        self._storage = storage
        self._max_failures = config.blob_max_failures
        self._background = background
        self._functions = {f.name: f for f in functions}
        self._paths = {
            f.name: BlobPath(resolve(str(f.trigger.settings["path"]), environ, f"the path of {f.name}"))
            for f in functions
        }
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
            self._storage.account(functions[0].trigger)  # a connection that is missing is told now
            self._background.start(self._watch(f"{connection}/{container}", container, functions))

    async def accept(self, function: Function, item: dict[str, Any]) -> None:
        """Store an Event Grid event for a function; it is on disk when this returns."""
        self._add(function, self._blob_of(function.trigger, item["data"]["url"]), item["data"]["eTag"])
        await self._store.committed()

    def _blob_of(self, binding: Binding, url: str) -> str:
        """container/name of a blob's URL; the account's name is part of the path on an emulator."""
        base = urlsplit(self._storage.account(binding).blobs.url).path
        return unquote(urlsplit(url).path.removeprefix(base.rstrip("/"))).lstrip("/")

    def _add(self, function: Function, blob: str, etag: str) -> None:
        statement = "INSERT INTO blob_arrivals (function, blob, etag) VALUES (?,?,?)"
        seq = self._store.write(statement, function.name, blob, etag)
        self._store.after_commit(lambda: self._background.start(self._process(seq, function, blob, etag, 0)))

    async def _watch(self, place: str, container: str, functions: list[Function]) -> None:
        seen = dict(self._store.rows("SELECT blob, etag FROM blob_seen WHERE place=?", place))
        prefixes = {self._paths[f.name].prefix for f in functions}
        prefix = prefixes.pop() if len(prefixes) == 1 else ""
        account, troubled = self._storage.account(functions[0].trigger), False
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
            while failures < self._max_failures:
                try:
                    await self.run_blob(function, blob)
                    break
                except _Gone as problem:
                    log.info("blob gone", function=function.name, blob=blob, why=problem)
                    break
                except Exception:
                    failures += 1
                    self._store.write("UPDATE blob_arrivals SET failures=? WHERE seq=?", failures, seq)
                    await asyncio.sleep(_RETRY_SECONDS)
            else:
                await self._poison(function, blob, etag)
        self._store.write("DELETE FROM blob_arrivals WHERE seq=?", seq)


    async def run_blob(self, function: Function, blob: str) -> None:
        """Run a function on a blob named container/name; raises what it raises, or says that it is not there."""
        container, _, name = blob.partition("/")
        path = self._paths[function.name]
        values = path.match(name) if container == path.container else None
        if values is None:
            raise _Gone(f"it is not below {path.container}/{path.prefix}")
        found = await self._storage.account(function.trigger).read_blob(container, name)
        if found is None:
            raise _Gone("it is not there")
        content, about = found
        properties = {
            "ContentLength": about.size, "Length": about.size, "ETag": about.etag, "BlobType": about.blob_type,
            "ContentType": about.content_settings.content_type, "LastModified": str(about.last_modified),
        }  # fmt: skip
        address = self._storage.account(function.trigger).blobs.get_blob_client(container, name).url
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
        account = self._storage.account(function.trigger)
        try:
            await account.put_message(POISON_QUEUE, account.encoded(json.dumps(document).encode()))
        except Exception as problem:
            log.warning("queue unreachable", queue=POISON_QUEUE, error=problem)


class _Gone(Exception):
    """A blob that cannot be handed to a function any more."""
