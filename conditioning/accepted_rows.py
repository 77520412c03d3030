"""Rows that wait for the search for duplicates: as codes and the distinct cells of their block, a third of the text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from conditioning.batches import I64
from conditioning.column_blocks import I32, ColumnBlock
from conditioning.spool import Scratch, Spool

_CODE_TYPES = (np.uint8, np.uint16, np.int32)
_TYPES = tuple(np.dtype(kind) for kind in (*_CODE_TYPES, np.int64))
_ALIGNED = 8


@dataclass(frozen=True)
class AcceptedColumn:
    """One column of some rows; `lines` are the distinct cells as CSV text with comma, `ids` their ids in the column."""

    codes: npt.NDArray[Any]
    lines: pa.Array
    ids: I32  # empty where the column had ceased to count cells


@dataclass(frozen=True)
class AcceptedBlock:
    """Some rows in order; `numbers` are their record numbers."""

    numbers: I64
    columns: Sequence[AcceptedColumn]


class AcceptedRows:
    """All accepted rows of a file, written once and read back in order."""

    def __init__(self, scratch: Callable[[], Scratch]) -> None:
        self._spool = Spool(scratch)

    @property
    def rows(self) -> int:
        """How many rows there are so far."""
        return self._spool.rows

    def add(self, columns: Sequence[ColumnBlock], numbers: I64) -> None:
        """Take the kept rows of one block."""
        gaps = np.diff(numbers, prepend=numbers[:1])  # small and positive but where a source gathers its records
        if gaps.min() >= 0 and gaps.max() < 256:
            gaps = gaps.astype(np.uint8)
        arrays: list[npt.NDArray[Any]] = [numbers[:1], gaps]
        for column in columns:
            lines = column.cells.lines()
            kind = next(kind for kind in _CODE_TYPES if len(lines) <= np.iinfo(kind).max)
            offsets = np.frombuffer(lines.buffers()[1], np.int32)[lines.offset : lines.offset + len(lines) + 1]
            texts = np.frombuffer(lines.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
            arrays += [column.codes.astype(kind), offsets - offsets[0], texts, column.cells.ids()]
        self._spool.write(_pack(arrays), len(numbers))

    def blocks(self) -> Iterator[AcceptedBlock]:
        """Yield the rows, block by block."""
        for data, _ in self._spool.blocks():
            first, gaps, *arrays = _unpack(data)
            columns = []
            for codes, offsets, texts, ids in zip(*[iter(arrays)] * 4, strict=True):
                buffers = [None, pa.py_buffer(offsets), pa.py_buffer(texts)]
                columns.append(
                    AcceptedColumn(codes, pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers), ids)
                )
            yield AcceptedBlock(first + np.cumsum(gaps, dtype=np.int64), columns)

    def discard(self) -> None:
        """Give memory and scratch space back."""
        self._spool.discard()


def _pack(arrays: Sequence[npt.NDArray[Any]]) -> bytes:
    """Write arrays one behind the other: how many, type and length of each, then their bytes, each part aligned."""
    head = [len(arrays)]
    parts: list[bytes | memoryview] = []
    for array in arrays:
        head += [_TYPES.index(array.dtype), len(array)]
        parts += [array.data, bytes(-array.nbytes % _ALIGNED)]
    return b"".join([np.array(head, np.int64).data, *parts])


def _unpack(data: bytes) -> list[npt.NDArray[Any]]:
    count = int(np.frombuffer(data, np.int64, 1)[0])
    head = np.frombuffer(data, np.int64, 2 * count, _ALIGNED).tolist()
    at = _ALIGNED * (1 + 2 * count)
    found = []
    for kind, length in zip(head[0::2], head[1::2], strict=True):
        found.append(np.frombuffer(data, _TYPES[kind], length, at))
        at += -(-found[-1].nbytes // _ALIGNED) * _ALIGNED
    return found
