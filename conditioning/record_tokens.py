"""The records of a block and their cells, found for all records at once and without a copy of any byte.

Every byte of a block belongs to one token: a cell as it lies in the file, its quotes and the mark behind it (delimiter
or line end) included. So the tokens are one Arrow array on top of the block, a column is a selection of its elements.
What a token says (quotes, trailing mark) is worked out once for each distinct token, see `TokenText`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from conditioning import arrow_arrays
from conditioning.record_blocks import I32, I64, RETURN, Block


@dataclass(frozen=True)
class Records:
    """Some records of a block, blank lines left out: where each lies and which tokens are its cells."""

    tokens: pa.Array
    starts: I32
    ends: I32  # line ends excluded
    first: I32  # place of the record's first token
    widths: I32  # how many cells it has

    def __len__(self) -> int:
        return len(self.starts)

    def pick(self, which: slice | npt.NDArray[Any]) -> Records:
        """Return some of the records."""
        return Records(self.tokens, self.starts[which], self.ends[which], self.first[which], self.widths[which])

    def column(self, position: int) -> pa.Array:
        """Return the tokens of one column; every record must have it."""
        return arrow_arrays.take(self.tokens, self.first + np.int32(position))


def records_of(block: Block) -> Records:
    """Find the records of a block that starts and ends outside of quotes and ends with a line feed."""
    array = np.frombuffer(block.data, np.uint8)
    marks, breaks = block.marks, block.breaks
    if len(block.toggles):
        quoted = _within(marks, block.toggles)
        if len(quoted):
            marks, breaks = np.delete(marks, quoted), np.delete(breaks, quoted)
    offsets = np.zeros(len(marks) + 1, np.int32)
    np.add(marks, 1, out=offsets[1:])
    tokens = pa.Array.from_buffers(pa.binary(), len(marks), [None, pa.py_buffer(offsets), pa.py_buffer(block.data)])
    last = np.flatnonzero(breaks).astype(np.int32)
    first = np.zeros(len(last), np.int32)
    first[1:] = last[:-1] + 1
    ends = np.take(marks, last)
    starts = np.zeros(len(last), np.int32)
    starts[1:] = ends[:-1] + 1
    filled = ends > starts
    ends -= filled & (np.take(array, np.maximum(ends - 1, 0)) == RETURN)
    records = Records(tokens, starts, ends, first, last - first + 1)
    filled = ends > starts
    return records if filled.all() else records.pick(filled)


def _within(marks: I32, toggles: I64) -> I64:
    """Return the places of the marks between an opening and a closing quote."""
    places = np.searchsorted(marks, toggles.astype(np.int32))  # as the marks are: no copy of them
    opened, closed = places[0::2], places[1::2]
    lengths = closed - opened
    before = np.cumsum(lengths) - lengths
    found: I64 = np.arange(int(lengths.sum())) + np.repeat(opened - before, lengths)
    return found


class TokenText:
    """What the tokens of a block say: their cells, without the mark behind them and without quotes."""

    def __init__(self, quote: int | None) -> None:
        self._quote = None if quote is None else bytes([quote])

    def unquoted(self, cell: bytes) -> bytes:
        """Take quotes off as the csv module does: text behind the closing quote is part of the cell, as it is."""
        quote = self._quote
        if quote is None or not cell.startswith(quote):
            return cell
        at = 1
        while (at := cell.find(quote, at)) >= 0 and cell[at + 1 : at + 2] == quote:
            at += 2
        if at < 0:
            at = len(cell)
        return cell[1:at].replace(quote + quote, quote) + cell[at + 1 :]

    def all_unquoted(self, tokens: pa.Array) -> pa.Array:
        """Return the cells of many tokens, all without quotes."""
        cells = self.cells(tokens)
        if self._quote is None or not arrow_arrays.as_bool(pc.starts_with(cells, self._quote)).any():
            return cells
        return arrow_arrays.binary(list(map(self.unquoted, cells.to_pylist())))

    def cells(self, tokens: pa.Array) -> pa.Array:
        """Return the cells of many tokens; those with odd quotes still have them and go through `unquoted`."""
        if not len(tokens):
            return tokens
        if tokens[0].as_py().endswith(b"\n"):
            cells = pc.replace_substring_regex(tokens, pattern="\r?\n$", replacement="")
        else:
            cells = pc.binary_slice(tokens, 0, -1)
        if self._quote == b'"' and arrow_arrays.as_bool(pc.starts_with(cells, b'"')).any():
            cells = pc.replace_substring_regex(cells, pattern='^"([^"]*)"$', replacement="\\1")
        return cells
