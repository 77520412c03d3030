"""Output that waits for a verdict: in memory while small, then in scratch space (local temp file or temporary blob)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Protocol

MEMORY_BYTES = 8 << 20


class Scratch(Protocol):
    """Space for one large temporary output."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""

    def reread(self) -> Callable[[int], bytes]:
        """End writing; return read(n) from the start."""

    def discard(self) -> None:
        """Give the space back."""


class TempFile:
    """Scratch on local temp disk."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by discard

    def write(self, data: bytes) -> int:
        """Take the next bytes."""
        return self._file.write(data)

    def reread(self) -> Callable[[int], bytes]:
        """End writing; return read(n) from the start."""
        self._file.seek(0)
        return self._file.read

    def discard(self) -> None:
        """Delete the file."""
        self._file.close()


class Spool:
    """Blocks of lines, written once and read back in the same blocks."""

    def __init__(self, scratch: Callable[[], Scratch], memory_bytes: int = MEMORY_BYTES) -> None:
        self.bytes = 0
        self.rows = 0
        self._open_scratch = scratch
        self._memory_bytes = memory_bytes
        self._held: list[bytes] = []
        self._scratch: Scratch | None = None
        self._blocks: list[tuple[int, int]] = []

    def write(self, data: bytes, rows: int) -> None:
        """Take one block of whole lines."""
        if not data:
            return
        self.bytes += len(data)
        self.rows += rows
        self._blocks.append((len(data), rows))
        if self._scratch is None and self.bytes > self._memory_bytes:
            self._scratch = self._open_scratch()
            for held in self._held:
                self._scratch.write(held)
            self._held = []
        if self._scratch is None:
            self._held.append(data)
        else:
            self._scratch.write(data)

    def blocks(self) -> Iterator[tuple[bytes, int]]:
        """Yield (bytes, rows) of each block, in order."""
        if self._scratch is None:
            for data, (_, rows) in zip(self._held, self._blocks, strict=True):
                yield data, rows
            return
        read = self._scratch.reread()
        for size, rows in self._blocks:
            parts, have = [], 0
            while have < size:
                part = read(size - have)
                if not part:
                    raise EOFError("scratch space lost bytes")
                parts.append(part)
                have += len(part)
            yield b"".join(parts), rows

    def discard(self) -> None:
        """Give memory and scratch space back."""
        self._held = []
        if self._scratch is not None:
            self._scratch.discard()
            self._scratch = None
