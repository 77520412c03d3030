"""Which rows repeat a key: 20 bytes a row, in memory while they are few, then on local temp disk; flat for any size.

A row logs the hash of its key, a check word (32 more bits of the key, 32 bits of the whole content) and its record
number. Keys count as equal when 96 bits agree: at 20 million rows the chance of one wrong pair is about 3e-15.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from conditioning.batches import I64
from conditioning.hashing import U64

MEMORY_ROWS = 1_000_000  # 20 MB
PASS_ROWS = 2_000_000  # keys sorted at once: 16 MB
_BLOOM_BITS = 22
_LOW = np.uint64(0xFFFFFFFF)


@dataclass(frozen=True)
class Duplicates:
    """Rows (by their order among the accepted ones) that repeat an earlier row's key."""

    ordinals: I64
    first_numbers: I64  # record number of the row that came first
    identical: npt.NDArray[np.bool_]  # whether all cells agree, not only the key


class KeyLog:
    """Log of the keys of all accepted rows, in order."""

    def __init__(self, memory_rows: int = MEMORY_ROWS, pass_rows: int = PASS_ROWS) -> None:
        self.rows = 0
        self._memory_rows = memory_rows
        self._pass_rows = pass_rows
        self._held: list[tuple[npt.NDArray[Any], ...]] = []
        self._held_rows = 0
        self._files: list[IO[bytes]] | None = None

    def add(self, keys: U64, content: U64, numbers: I64, second: U64) -> None:
        """Log one block: key hashes, content hashes, record numbers, and second hashes of the keys."""
        check = (second & _LOW) | (content & ~_LOW)
        self._held.append((keys, check, numbers.astype(np.uint32)))
        self.rows += len(keys)
        self._held_rows += len(keys)
        if self._files is not None or self._held_rows > self._memory_rows:
            self._spill()

    def _spill(self) -> None:
        if self._files is None:
            self._files = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115 - closed by close()
        for lanes in self._held:
            for file, lane in zip(self._files, lanes, strict=True):
                file.write(lane.tobytes())
        self._held, self._held_rows = [], 0

    def close(self) -> None:
        """Give the temp disk back."""
        for file in self._files or []:
            file.close()
        self._held = []

    def _lane(self, lane: int) -> Iterator[npt.NDArray[Any]]:
        if self._files is None:
            yield from (block[lane] for block in self._held)
            return
        file = self._files[lane]
        file.flush()
        file.seek(0)
        width = 4 if lane == 2 else 8
        while data := file.read(width << 17):
            yield np.frombuffer(data, np.uint32 if lane == 2 else np.uint64)

    def duplicates(self) -> Duplicates:
        """Find every row whose key was seen before; rows in order."""
        repeated = self._repeated_hashes()
        if not len(repeated):
            return Duplicates(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_))
        ordinals, keys, checks, numbers = self._rows_of(repeated)
        order = np.lexsort((ordinals, checks & _LOW, keys))
        keys, checks, numbers, ordinals = keys[order], checks[order], numbers[order], ordinals[order]
        same = np.zeros(len(keys), np.bool_)
        same[1:] = (keys[1:] == keys[:-1]) & ((checks[1:] & _LOW) == (checks[:-1] & _LOW))
        group_start = np.maximum.accumulate(np.where(same, 0, np.arange(len(keys))))
        picked = np.flatnonzero(same)
        first = group_start[picked]
        found = np.argsort(ordinals[picked])
        picked, first = picked[found], first[found]
        return Duplicates(ordinals[picked], numbers[first].astype(np.int64), checks[picked] == checks[first])

    def _repeated_hashes(self) -> U64:
        passes = max(1, -(-self.rows // self._pass_rows))
        edges = [(index << 64) // passes for index in range(passes + 1)]
        found: list[U64] = []
        for low, high in zip(edges, edges[1:], strict=False):
            parts = []
            for keys in self._lane(0):
                if passes == 1:
                    parts.append(keys)
                else:
                    parts.append(keys[(keys >= np.uint64(low)) & (keys <= np.uint64(high - 1))])
            ordered = np.concatenate(parts) if parts else np.empty(0, np.uint64)
            del parts
            ordered.sort()
            found.append(np.unique(ordered[1:][ordered[1:] == ordered[:-1]]))
        return np.concatenate(found)

    def _rows_of(self, repeated: U64) -> tuple[I64, U64, U64, I64]:
        shift = np.uint64(64 - _BLOOM_BITS)
        bloom = np.zeros(1 << _BLOOM_BITS, np.bool_)
        bloom[(repeated >> shift).astype(np.int64)] = True
        ordinals: list[I64] = []
        keys_found: list[U64] = []
        start = 0
        for keys in self._lane(0):
            maybe = np.flatnonzero(bloom[(keys >> shift).astype(np.int64)])
            candidates = keys[maybe]
            at = np.minimum(np.searchsorted(repeated, candidates), len(repeated) - 1)
            hit = repeated[at] == candidates
            ordinals.append(maybe[hit] + start)
            keys_found.append(candidates[hit])
            start += len(keys)
        rows = np.concatenate(ordinals)
        return rows, np.concatenate(keys_found), self._gather(1, rows), self._gather(2, rows).astype(np.int64)

    def _gather(self, lane: int, rows: I64) -> U64:
        found: list[U64] = []
        start = at = 0
        for values in self._lane(lane):
            upto = int(np.searchsorted(rows, start + len(values)))
            found.append(values[rows[at:upto] - start])
            start, at = start + len(values), upto
        return np.concatenate(found)
