"""Lines of the data: every text that a block's lines are made of lies once in a pool, a line is a row of places in it.

Arrow gathers the pool's texts into one buffer, and that buffer is the output: no line is ever put together by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from conditioning import arrow_arrays
from conditioning.accepted_rows import AcceptedBlock
from conditioning.standard_csv import quoted

LINES_AT_ONCE = 100_000  # a block of very short records must not become one very long buffer
_THOUSAND = 1000


class DataLines:
    """Makes lines of canonical cells, the file's name and the record's number."""

    def __init__(self, source_file: str) -> None:
        self._file = quoted(source_file) + ","
        digits = [f"{number:03d}\n" for number in range(_THOUSAND)] + [f"{number}\n" for number in range(_THOUSAND)]
        self._ends = arrow_arrays.binary([text.encode() for text in digits])

    def of(self, block: AcceptedBlock) -> Iterator[bytes]:
        """Yield the lines of the block's rows, in pieces of whole lines."""
        columns, numbers = block.columns, block.numbers
        thousands = numbers // _THOUSAND
        lowest, highest = (int(thousands.min()), int(thousands.max())) if len(numbers) else (0, -1)
        heads = [f"{self._file}{number or ''}".encode() for number in range(lowest, highest + 1)]
        parts = [column.lines for column in columns] + [arrow_arrays.binary(heads), self._ends]
        pool = pa.concat_arrays(parts)
        begins = np.cumsum([0, *map(len, parts)]).tolist()
        for start in range(0, len(numbers), LINES_AT_ONCE):
            rows = slice(start, start + LINES_AT_ONCE)
            places = np.empty((len(numbers[rows]), len(parts)), np.int32)
            for index, column in enumerate(columns):
                np.add(column.codes[rows], begins[index], out=places[:, index], dtype=np.int32, casting="unsafe")
            places[:, -2] = thousands[rows] + (begins[-3] - lowest)
            # Behind a first part the last three digits keep their zeros; numbers below a thousand have no first part.
            places[:, -1] = numbers[rows] - thousands[rows] * _THOUSAND + begins[-2]
            places[:, -1][thousands[rows] == 0] += _THOUSAND
            lines = pool.take(arrow_arrays.integers(places.reshape(-1)))
            yield lines.buffers()[2].to_pybytes()
