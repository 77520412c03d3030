"""Moves folders between the lake and the local platform: inputs once per content, outputs file by file."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

from domain.errors import JobRejected, Unavailable
from domain.lake_paths import parse_datastore_uri
from domain.ports import Lake

RETRY_SECONDS = (0.5, 1, 2, 4, 8, 15, 30, 60, 60, 60, 60)  # a lake that is away for five minutes costs no job
KEEP_SECONDS = 14 * 24 * 3600.0  # a cached folder that nobody used for this long is dropped
SMALL_BYTES = 4 * 1024 * 1024  # up to here one request instead of two

T = TypeVar("T")


class Transfers:
    """Cache of input folders plus upload of outputs; safe for the agent's threads."""

    def __init__(self, cache: Path, lake_connection: str) -> None:
        """Keep the settings; the lake is connected on first use."""
        self._cache = cache
        self._connection = lake_connection
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._connecting = threading.Lock()

    @cached_property
    def _connected(self) -> Lake:
        from adapters.lake import connect

        return connect(self._connection)

    @property
    def _lake(self) -> Lake:
        with self._connecting:
            return self._connected

    def fetch(self, uri: str) -> Path:
        """Return a local folder with the content that the URI has now; jobs share it and only read it.

        Raise JobRejected if there is nothing.
        """
        container, prefix = parse_datastore_uri(uri)
        return _patiently(lambda: self._fetch(uri, container, prefix))

    def _fetch(self, uri: str, container: str, prefix: str) -> Path:
        blobs = list(self._lake.list(container, prefix))
        if not blobs:
            raise JobRejected(f"the input {uri} is empty: no blob below {container}/{prefix}", uri=uri)
        listing = "\n".join(f"{blob.path} {blob.etag}" for blob in blobs)
        target = self._cache / container / hashlib.sha256(f"{prefix}\n{listing}".encode()).hexdigest()[:32]
        with self._locks[str(target)]:
            if target.is_dir():
                target.touch()
                return target
            draft = target.with_suffix(".draft")
            shutil.rmtree(draft, ignore_errors=True)
            for blob in blobs:
                file = draft / blob.path[len(prefix):]
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("wb") as to:
                    self._lake.download(container, blob.path, to)
            draft.rename(target)
        return target

    def empty_folders(self, parent: Path, outputs: Mapping[str, str]) -> dict[str, str]:
        """Return a new, empty folder for each output."""
        self.discard(parent)
        folders = {name: parent / name for name in outputs}
        for folder in folders.values():
            folder.mkdir(parents=True)
        return {name: str(folder) for name, folder in folders.items()}

    def upload(self, parent: Path, outputs: Mapping[str, str]) -> None:
        """Write every file of every output folder to its place in the lake; repeating it changes nothing."""
        for name, uri in outputs.items():
            container, prefix = parse_datastore_uri(uri)
            folder = parent / name
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                path = prefix + file.relative_to(folder).as_posix()
                _patiently(partial(self._upload, container, path, file))

    def _upload(self, container: str, path: str, file: Path) -> None:
        if file.stat().st_size <= SMALL_BYTES:
            self._lake.write(container, path, file.read_bytes())
            return
        with self._lake.open_writer(container, path) as writer, file.open("rb") as source:
            while chunk := source.read(SMALL_BYTES):
                writer.write(chunk)
            writer.commit()

    def discard(self, folder: Path) -> None:
        """Delete a folder that is in the lake or not wanted."""
        shutil.rmtree(folder, ignore_errors=True)

    def evict(self) -> None:
        """Drop cached folders that were not used for a long time."""
        limit = time.time() - KEEP_SECONDS
        for folder in self._cache.glob("*/*"):
            if folder.stat().st_mtime < limit:
                self.discard(folder)


def _patiently(action: Callable[[], T]) -> T:
    """Do it again after a pause while only time can help; the last error goes to the caller."""
    for pause in RETRY_SECONDS:
        try:
            return action()
        except Unavailable:
            time.sleep(pause)
    return action()
