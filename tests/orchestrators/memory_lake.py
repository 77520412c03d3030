"""The lake port in memory, for tests that run the same thing hundreds of times."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from domain.errors import BlobConflict, BlobNotFound, IntegrityError
from domain.ports import BlobContent, BlobInfo

EPOCH = datetime(2017, 11, 6, tzinfo=UTC)


class Reader:
    def __init__(self, data: bytes, info: BlobInfo) -> None:
        self.info, self._data = info, data

    def read(self, size: int = -1, /) -> bytes:
        end = len(self._data) if size < 0 else size
        chunk, self._data = self._data[:end], self._data[end:]
        return chunk

    def close(self) -> None:
        self._data = b""


@dataclass
class Writer:
    lake: MemoryLake
    container: str
    path: str
    parts: list[bytes] = field(default_factory=list)

    def write(self, data: bytes) -> int:
        self.parts.append(data)
        return len(data)

    def commit(self, *, metadata: Mapping[str, str] | None = None, if_none_match: bool = False) -> str:
        return self.lake.write(self.container, self.path, b"".join(self.parts), if_none_match=if_none_match)


@dataclass(eq=False)  # a lake is itself, as a connection is
class MemoryLake:
    blobs: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)
    writes: int = 0

    def read(self, container: str, path: str) -> BlobContent:
        if (container, path) not in self.blobs:
            raise BlobNotFound(f"{container}/{path} does not exist")
        return BlobContent(*self.blobs[container, path])

    def read_json(self, container: str, path: str) -> tuple[Any, str]:
        content = self.read(container, path)
        try:
            return json.loads(content.data), content.etag
        except ValueError as error:
            raise IntegrityError(f"{container}/{path} is not JSON") from error

    def write(
        self, container: str, path: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None,
        metadata: Mapping[str, str] | None = None, content_type: str | None = None,
    ) -> str:
        known = self.blobs.get((container, path))
        if (if_none_match and known) or (if_match is not None and (known is None or known[1] != if_match)):
            raise BlobConflict(f"{container}/{path} was written by somebody else meanwhile")
        self.writes += 1
        self.blobs[container, path] = (data, str(self.writes))
        return str(self.writes)

    def write_json(
        self, container: str, path: str, document: Any, *, if_none_match: bool = False, if_match: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        data = json.dumps(document, sort_keys=True).encode()
        return self.write(container, path, data, if_none_match=if_none_match, if_match=if_match)

    def list(self, container: str, prefix: str = "") -> Iterator[BlobInfo]:
        for zone, path in sorted(self.blobs):
            if zone == container and path.startswith(prefix):
                data, etag = self.blobs[zone, path]
                yield BlobInfo(path, etag, len(data), EPOCH)

    def folders(self, container: str, prefix: str = "") -> Iterator[str]:
        inside = (blob.path.removeprefix(prefix) for blob in self.list(container, prefix))
        yield from sorted({path.split("/")[0] for path in inside if "/" in path})

    def read_range(self, container: str, path: str, offset: int, length: int) -> bytes:
        return self.read(container, path).data[offset:offset + length]

    def info(self, container: str, path: str) -> BlobInfo | None:
        found = self.blobs.get((container, path))
        return BlobInfo(path, found[1], len(found[0]), EPOCH) if found else None

    def open_reader(self, container: str, path: str, *, etag: str | None = None) -> Reader:
        content = self.read(container, path)
        return Reader(content.data, BlobInfo(path, content.etag, len(content.data), EPOCH))

    @contextmanager
    def open_writer(self, container: str, path: str, *, content_type: str | None = None) -> Iterator[Writer]:
        yield Writer(self, container, path)

    def copy(self, container: str, path: str, to_container: str, to_path: str, *, if_none_match: bool = False) -> str:
        return self.write(to_container, to_path, self.read(container, path).data, if_none_match=if_none_match)

    def append(self, container: str, path: str, data: bytes, *, if_length: int) -> int:
        known = self.blobs.get((container, path), (b"", ""))[0]
        if len(known) != if_length:
            raise BlobConflict(f"{container}/{path} has {len(known)} bytes, not {if_length}")
        self.write(container, path, known + data)
        return if_length + len(data)

    def delete(self, container: str, path: str) -> None:
        self.blobs.pop((container, path), None)
