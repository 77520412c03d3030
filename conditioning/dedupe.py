"""Which rows repeat a key: 24 bytes a row, in memory while they are few, then on local temp disk; flat for any size.

A row logs the hash of its key, the hash of its content, 32 more bits of its key and its record number. Keys count as
equal when 96 bits agree: at 20 million rows the chance of one wrong pair is about 3e-15 (a key of one column has the 64
bits of its cell's hash: 1e-5). Only keys that are met more than once are held while the rows are gone through again, so
that a file of one row over and over costs no memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from conditioning.batches import I64, Mask
from conditioning.hashing import U64

U32 = npt.NDArray[np.uint32]

MEMORY_ROWS = 500_000  # 12 MB
PASS_ROWS = 5_000_000  # keys sorted in one pass, by their upper half: 20 MB
_FEW_ROWS = 50_000
_BUCKETS = 256  # parts of a pass, sorted one by one near the processor
_CROWDED = 32  # a bucket of more than this part of its block is crowded by a few keys
_UNMERGED_KEYS = 500_000
_BLOOM_BITS = 22
_KEY, _CONTENT, _CHECK, _NUMBER = range(4)
_HALF = np.uint64(32)
_TYPES = tuple(np.dtype(kind) for kind in (np.uint64, np.uint64, np.uint32, np.uint32))


@dataclass(frozen=True)
class Duplicates:
    """Rows of one block that repeat an earlier row's key."""

    rows: I64
    first_numbers: I64  # record number of the row that came first
    identical: Mask  # whether all cells agree, not only the key
    content: U64  # content hash of the row


NO_DUPLICATES = Duplicates(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_), np.empty(0, np.uint64))


class KeyLog:
    """Log of the keys of all accepted rows, in order, block by block."""

    def __init__(self, memory_rows: int = MEMORY_ROWS, pass_rows: int = PASS_ROWS) -> None:
        self.rows = 0
        self._memory_rows = memory_rows
        self._pass_rows = pass_rows
        self._sizes: list[int] = []  # rows of each block
        self._held: list[tuple[npt.NDArray[Any], ...]] = []
        self._files: list[IO[bytes]] | None = None

    def add(self, keys: U64, content: U64, checks: U64, numbers: I64) -> None:
        """Log one block: key hashes, content hashes, second hashes of the keys, record numbers."""
        self._held.append((keys, content, checks.astype(np.uint32), numbers.astype(np.uint32)))
        self._sizes.append(len(keys))
        self.rows += len(keys)
        if self.rows > self._memory_rows:
            self._spill()

    def _spill(self) -> None:
        if self._files is None:
            self._files = [tempfile.TemporaryFile() for _ in _TYPES]  # noqa: SIM115 - closed by close()
        for lanes in self._held:
            for file, lane in zip(self._files, lanes, strict=True):
                file.write(lane.data)
        self._held = []

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
        for size in self._sizes:
            yield np.frombuffer(file.read(size * _TYPES[lane].itemsize), _TYPES[lane])

    def duplicates(self) -> Iterator[Duplicates]:
        """Yield of each block the rows whose key was seen before."""
        repeated = self._repeated_halves()
        if not len(repeated):
            yield from (NO_DUPLICATES for _ in self._sizes)
            return
        keys, checks, candidates = self._candidates(repeated)
        numbers = np.zeros(len(keys), np.int64)  # record that has the key first; 0: not yet met
        contents = np.zeros(len(keys), np.uint64)
        for packed, *lanes in zip(candidates, *map(self._lane, range(len(_TYPES))), strict=True):
            rows = np.flatnonzero(np.unpackbits(packed, count=len(lanes[_KEY])))
            key, content, check, number = (lane[rows] for lane in lanes)
            places = np.searchsorted(keys, key)
            while (other := checks[places] != check).any():  # keys of which only 64 bits agree lie side by side
                places[other] += 1
            new = np.flatnonzero(numbers[places] == 0)
            met, first = np.unique(places[new], return_index=True)
            first = new[first]
            numbers[met], contents[met] = number[first], content[first]
            again = np.delete(np.arange(len(rows)), first)
            places = places[again]
            yield Duplicates(rows[again], numbers[places], content[again] == contents[places], content[again])

    def _repeated_halves(self) -> U32:
        """Return the upper halves that several keys have: half the bytes to sort, and few rows to look at again."""
        if self.rows < min(_FEW_ROWS, self._pass_rows):
            return _repeated([_upper_half(keys) for keys in self._lane(_KEY)])
        pass_bits = (-(-self.rows // self._pass_rows) - 1).bit_length()
        found: list[U32] = []
        for number in range(1 << pass_bits):
            blocks = []
            for keys in self._lane(_KEY):
                halves = _upper_half(keys)
                if pass_bits:
                    halves = np.compress(halves >> np.uint32(32 - pass_bits) == number, halves)
                blocks.append(_Bucketed(halves, pass_bits))
            found += [_repeated([block.bucket(at) for block in blocks]) for at in range(_BUCKETS)]
        return np.concatenate(found)

    def _candidates(self, repeated: U32) -> tuple[U64, U32, list[npt.NDArray[np.uint8]]]:
        """Return the keys of a repeated half with their checks, in order, and a bit a row, whether it has one."""
        shift = np.uint64(64 - _BLOOM_BITS)
        bloom = np.zeros(1 << _BLOOM_BITS, np.bool_)
        bloom[repeated >> np.uint32(32 - _BLOOM_BITS)] = True
        candidates = []
        found, unmerged = [_distinct([])], 0
        for keys, checks in zip(self._lane(_KEY), self._lane(_CHECK), strict=True):
            rows = np.flatnonzero(np.take(bloom, (keys >> shift).astype(np.int64)))
            halves = _upper_half(keys[rows])
            at = np.minimum(np.searchsorted(repeated, halves), len(repeated) - 1)
            rows = rows[repeated[at] == halves]
            hit = np.zeros(len(keys), np.bool_)
            hit[rows] = True
            candidates.append(np.packbits(hit))
            found.append((keys[rows], checks[rows]))
            unmerged += len(rows)
            if unmerged > max(_UNMERGED_KEYS, len(found[0][0])):
                found, unmerged = [_distinct(found)], 0
        return *_distinct(found), candidates


class _Bucketed:
    """Some 32-bit numbers, parted by the eight bits that follow those which all of them share.

    Where one bucket holds far more than its part, few keys fill the file: each is then kept twice at most, which says
    as much about repetition, so that no bucket grows with the file.
    """

    def __init__(self, numbers: U32, shared_bits: int) -> None:
        shift = np.uint32(24 - shared_bits)
        sizes = np.bincount((numbers >> shift).astype(np.uint8), minlength=_BUCKETS)
        if _CROWDED * int(sizes.max()) > len(numbers):
            numbers = _at_most_twice(numbers)
        buckets = (numbers >> shift).astype(np.uint8)
        self._numbers = numbers[np.argsort(buckets, kind="stable")]
        self._edges = np.cumsum([0, *np.bincount(buckets, minlength=_BUCKETS).tolist()]).tolist()

    def bucket(self, at: int) -> U32:
        """Return the numbers of one bucket."""
        return self._numbers[self._edges[at] : self._edges[at + 1]]


def _upper_half(keys: U64) -> U32:
    return (keys >> _HALF).astype(np.uint32)


def _at_most_twice(numbers: U32) -> U32:
    ordered = np.sort(numbers)
    kept = np.ones(len(ordered), np.bool_)
    kept[2:] = ordered[2:] != ordered[:-2]
    return ordered[kept]


def _repeated(parts: Sequence[U32]) -> U32:
    """Return the numbers that are there more than once, in order."""
    numbers = np.concatenate([np.empty(0, np.uint32), *parts])
    # By the lower, then the upper bits: 16 of them NumPy sorts by counting, the quickest way on any processor.
    numbers = numbers[np.argsort(numbers.astype(np.uint16), kind="stable")]
    numbers = numbers[np.argsort((numbers >> np.uint32(16)).astype(np.uint16), kind="stable")]
    return np.unique(numbers[1:][numbers[1:] == numbers[:-1]])


def _distinct(pairs: Sequence[tuple[U64, U32]]) -> tuple[U64, U32]:
    """Return the distinct pairs of key and check, in order."""
    keys = np.concatenate([np.empty(0, np.uint64), *(key for key, _ in pairs)])
    checks = np.concatenate([np.empty(0, np.uint32), *(check for _, check in pairs)])
    order = np.lexsort((checks, keys))
    keys, checks = keys[order], checks[order]
    fresh = np.ones(len(keys), np.bool_)
    fresh[1:] = (keys[1:] != keys[:-1]) | (checks[1:] != checks[:-1])
    return keys[fresh], checks[fresh]


def merged(found: Sequence[Duplicates]) -> Duplicates:
    """Join the duplicates of one block by several keys; a row that several keys drop is dropped once."""
    if len(found) == 1:
        return found[0]
    rows = np.concatenate([NO_DUPLICATES.rows, *(item.rows for item in found)])
    _, first = np.unique(rows, return_index=True)
    return Duplicates(
        rows[first],
        *(
            np.concatenate([getattr(NO_DUPLICATES, name), *(getattr(item, name) for item in found)])[first]
            for name in ("first_numbers", "identical", "content")
        ),
    )
