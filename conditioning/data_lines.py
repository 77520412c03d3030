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
from conditioning.column_blocks import I32
from conditioning.standard_csv import quoted

LINES_AT_ONCE = 16_384  # so that they are still near the processor when they are hashed and written
_THOUSAND = 1000
_NOTHING = arrow_arrays.binary([b""])


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
        lowest, highest = int(block.numbers.min()) // _THOUSAND, int(block.numbers.max()) // _THOUSAND
        heads = [f"{file}{number or ''}".encode() for number in range(lowest, highest + 1)]
        texts = [column.lines for column in block.columns] + [arrow_arrays.binary(heads), ends, _NOTHING]
        self._pool = pa.concat_arrays(texts)
        *self._begins, self._nothing = np.cumsum([0, *map(len, texts[:-1])]).tolist()
        self._lowest = lowest

    def texts(self, left_out: I64) -> Iterator[bytes]:
        """Yield the text of all lines but some, which are given in order."""
        for start in range(0, len(self._numbers), LINES_AT_ONCE):
            places = self._places(slice(start, start + LINES_AT_ONCE))
            low, high = np.searchsorted(left_out, (start, start + LINES_AT_ONCE))
            places[left_out[low:high] - start] = self._nothing
            text: bytes = self._gather(places).buffers()[2].to_pybytes()
            yield text

    def lines(self, rows: I64) -> pa.Array:
        """Return some lines in an array of one element a line."""
        places = self._places(rows)
        cells = self._gather(places)
        offsets = np.frombuffer(cells.buffers()[1], np.int32)[: len(cells) + 1 : places.shape[1]].copy()
        return pa.Array.from_buffers(pa.binary(), len(rows), [None, pa.py_buffer(offsets), cells.buffers()[2]])

    def _gather(self, places: I32) -> pa.Array:
        return arrow_arrays.take(self._pool, places.reshape(-1))

    def _places(self, rows: I64 | slice) -> I32:
        """Return where in the pool the texts of some lines are: a row of places for each line."""
        numbers = (self._numbers[rows] - self._lowest * _THOUSAND).astype(np.int32)
        thousands = numbers // _THOUSAND
        places = np.empty((len(numbers), len(self._begins)), np.int32)
        for index, column in enumerate(self._columns):
            np.add(column.codes[rows], self._begins[index], out=places[:, index], dtype=np.int32, casting="unsafe")
        places[:, -2] = thousands + self._begins[-2]
        # Behind a first part the last three digits keep their zeros; numbers below a thousand have no first part.
        places[:, -1] = numbers - thousands * _THOUSAND + self._begins[-1]
        if not self._lowest:
            places[:, -1][thousands == 0] += _THOUSAND
        return places
