"""Lines of the data: every text that a block's lines are made of lies once in a pool, a line is a row of places in it.

Arrow gathers the pool's texts into one buffer, and that buffer is the output: no line is ever put together by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from conditioning import arrow_arrays
from conditioning.accepted_rows import AcceptedBlock
from conditioning.batches import I64
from conditioning.standard_csv import quoted

LINES_AT_ONCE = 16_384  # so that they are still near the processor when they are hashed and written
_THOUSAND = 1000


class DataLines:
    """Makes lines of canonical cells, the file's name and the record's number."""

    def __init__(self, source_file: str) -> None:
        self._file = quoted(source_file) + ","
        digits = [f"{number:03d}\n" for number in range(_THOUSAND)] + [f"{number}\n" for number in range(_THOUSAND)]
        self._ends = arrow_arrays.binary([text.encode() for text in digits])

    def of(self, block: AcceptedBlock) -> BlockLines:
        """Return the lines of a block."""
        return BlockLines(block, self._file, self._ends)


class BlockLines:
    """The lines of one block."""

    def __init__(self, block: AcceptedBlock, file: str, ends: pa.Array) -> None:
        self._columns = block.columns
        self._numbers = block.numbers
        self._thousands = block.numbers // _THOUSAND
        lowest, highest = int(self._thousands.min()), int(self._thousands.max())
        heads = [f"{file}{number or ''}".encode() for number in range(lowest, highest + 1)]
        parts = [column.lines for column in block.columns] + [arrow_arrays.binary(heads), ends]
        self._pool = pa.concat_arrays(parts)
        self._begins = np.cumsum([0, *map(len, parts[:-1])]).tolist()
        self._begins[-2] -= lowest

    def of(self, rows: I64 | None) -> Iterator[pa.Array]:
        """Yield the lines of some rows (None = all), in arrays of one element a line."""
        count = len(self._numbers) if rows is None else len(rows)
        for start in range(0, count, LINES_AT_ONCE):
            which = slice(start, start + LINES_AT_ONCE)
            yield self._lines(which if rows is None else rows[which])

    def _lines(self, rows: I64 | slice) -> pa.Array:
        thousands = self._thousands[rows]
        width = len(self._columns) + 2
        places = np.empty((len(thousands), width), np.int32)
        for index, column in enumerate(self._columns):
            np.add(column.codes[rows], self._begins[index], out=places[:, index], dtype=np.int32, casting="unsafe")
        places[:, -2] = thousands + self._begins[-2]
        # Behind a first part the last three digits keep their zeros; numbers below a thousand have no first part.
        places[:, -1] = self._numbers[rows] - thousands * _THOUSAND + self._begins[-1]
        places[:, -1][thousands == 0] += _THOUSAND
        cells = arrow_arrays.take(self._pool, places.reshape(-1))
        offsets = np.frombuffer(cells.buffers()[1], np.int32)[: len(cells) + 1 : width].copy()
        return pa.Array.from_buffers(pa.binary(), len(thousands), [None, pa.py_buffer(offsets), cells.buffers()[2]])
