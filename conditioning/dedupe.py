"""Which rows repeat a key: 24 bytes a row, in memory while they are few, then on local temp disk; flat for any size.

A row logs the hash of its key, the hash of its content, 32 more bits of its key and its record number. Keys count as
equal when 96 bits agree: at 20 million rows the chance of one wrong pair is about 3e-15.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from conditioning.batches import I64
from conditioning.hashing import U64

U32 = npt.NDArray[np.uint32]

MEMORY_ROWS = 500_000  # 12 MB
PASS_ROWS = 2_000_000  # keys sorted at once, by their upper half: 8 MB
_BLOOM_BITS = 22
_KEY, _CONTENT, _CHECK, _NUMBER = range(4)
_HALF = np.uint64(32)
_TYPES = (np.uint64, np.uint64, np.uint32, np.uint32)


@dataclass(frozen=True)
class Duplicates:
    """Rows (by their order among the accepted ones) that repeat an earlier row's key."""

    ordinals: I64
    first_numbers: I64  # record number of the row that came first
    identical: npt.NDArray[np.bool_]  # whether all cells agree, not only the key
    content: U64  # content hash of the row


class KeyLog:
    """Log of the keys of all accepted rows, in order."""

    def __init__(self, memory_rows: int = MEMORY_ROWS, pass_rows: int = PASS_ROWS) -> None:
        self.rows = 0
        self._memory_rows = memory_rows
        self._pass_rows = pass_rows
        self._held: list[tuple[npt.NDArray[Any], ...]] = []
        self._held_rows = 0
        self._files: list[IO[bytes]] | None = None

    def add(self, keys: U64, content: U64, checks: U64, numbers: I64) -> None:
        """Log one block: key hashes, content hashes, second hashes of the keys, record numbers."""
        self._held.append((keys, content, checks.astype(np.uint32), numbers.astype(np.uint32)))
        self.rows += len(keys)
        self._held_rows += len(keys)
        if self._files is not None or self._held_rows > self._memory_rows:
            self._spill()

    def _spill(self) -> None:
        if self._files is None:
            self._files = [tempfile.TemporaryFile() for _ in _TYPES]  # noqa: SIM115 - closed by close()
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
        while data := file.read(1 << 20):
            yield np.frombuffer(data, _TYPES[lane])

    def duplicates(self) -> Duplicates:
        """Find every row whose key was seen before; rows in order."""
        repeated = self._repeated_halves()
        if not len(repeated):
            return NO_DUPLICATES
        rows, keys = self._rows_of(repeated)
        content, checks, numbers = (self._gather(lane, rows) for lane in (_CONTENT, _CHECK, _NUMBER))
        order = np.lexsort((rows, checks, keys))
        rows, keys = rows[order], keys[order]
        content, checks, numbers = content[order], checks[order], numbers[order]
        same = np.zeros(len(keys), np.bool_)
        same[1:] = (keys[1:] == keys[:-1]) & (checks[1:] == checks[:-1])
        group_start = np.maximum.accumulate(np.where(same, 0, np.arange(len(keys))))
        picked = np.flatnonzero(same)
        picked = picked[np.argsort(rows[picked])]
        first = group_start[picked]
        return Duplicates(
            rows[picked], numbers[first].astype(np.int64), content[picked] == content[first], content[picked]
        )

    def _repeated_halves(self) -> U32:
        """Return the upper halves that several keys have: half the bytes to sort, and few rows to look at again."""
        passes = max(1, -(-self.rows // self._pass_rows))
        edges = [(index << 32) // passes for index in range(passes + 1)]
        found: list[U32] = []
        for low, high in pairwise(edges):
            parts = []
            for keys in self._lane(_KEY):
                halves = (keys >> _HALF).astype(np.uint32)
                if passes > 1:
                    halves = halves[(halves >= np.uint32(low)) & (halves <= np.uint32(high - 1))]
                parts.append(halves)
            ordered = np.concatenate(parts) if parts else np.empty(0, np.uint32)
            del parts
            ordered.sort()
            found.append(np.unique(ordered[1:][ordered[1:] == ordered[:-1]]))
        return np.concatenate(found)

    def _rows_of(self, repeated: U32) -> tuple[I64, U64]:
        shift = np.uint64(64 - _BLOOM_BITS)
        bloom = np.zeros(1 << _BLOOM_BITS, np.bool_)
        bloom[repeated >> np.uint32(32 - _BLOOM_BITS)] = True
        ordinals: list[I64] = []
        keys_found: list[U64] = []
        start = 0
        for keys in self._lane(_KEY):
            maybe = np.flatnonzero(bloom[(keys >> shift).astype(np.int64)])
            candidates = keys[maybe]
            halves = (candidates >> _HALF).astype(np.uint32)
            at = np.minimum(np.searchsorted(repeated, halves), len(repeated) - 1)
            hit = repeated[at] == halves
            ordinals.append(maybe[hit] + start)
            keys_found.append(candidates[hit])
            start += len(keys)
        return np.concatenate(ordinals), np.concatenate(keys_found)

    def _gather(self, lane: int, rows: I64) -> npt.NDArray[Any]:
        found: list[npt.NDArray[Any]] = []
        start = at = 0
        for values in self._lane(lane):
            upto = int(np.searchsorted(rows, start + len(values)))
            found.append(values[rows[at:upto] - start])
            start, at = start + len(values), upto
        return np.concatenate(found)


NO_DUPLICATES = Duplicates(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_), np.empty(0, np.uint64))


def merged(found: Sequence[Duplicates]) -> Duplicates:
    """Join the duplicates by several keys; a row that several keys drop is dropped once."""
    if len(found) < 2:
        return found[0] if found else NO_DUPLICATES
    rows = np.concatenate([item.ordinals for item in found])
    _, first = np.unique(rows, return_index=True)
    return Duplicates(
        rows[first],
        *(
            np.concatenate([getattr(item, name) for item in found])[first]
            for name in ("first_numbers", "identical", "content")
        ),
    )
