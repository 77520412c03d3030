"""The quarantine list of one file while it is written: a line for every input record that has no place in the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conditioning import arrow_arrays
from conditioning.batches import I64, Reason, Refused
from conditioning.spool import Scratch, Spool
from conditioning.standard_csv import QUARANTINE_COLUMNS, all_quoted, line, one_line, quoted

EXAMPLES = 5  # records named per reason in the outcome
_REASONS_KEPT = 10_000
_HARMLESS = r"^[^=@+\t\r\n\x00-][^\r\n\x00]*$"  # what `one_line` leaves as it is
_NOTHING = arrow_arrays.scalar(b"")


class QuarantineList:
    """Takes refused records block by block; knows how many there are of each reason, and the first of each."""

    def __init__(self, source_file: str, scratch: Callable[[], Scratch]) -> None:
        self.by_reason: Counter[str] = Counter()
        self.examples: dict[str, list[dict[str, Any]]] = {}
        self._end = arrow_arrays.scalar(f",{quoted(source_file)}\n".encode("utf-8", "replace"))
        self._reasons: dict[Reason, bytes] = {}  # how a reason reads, for most are met often
        self._lines = Spool(scratch)

    @property
    def rows(self) -> int:
        """How many records are on the list."""
        return self._lines.rows

    def add(self, refused: Refused) -> None:
        """Put the refused records of one block on the list, in the order of the file."""
        if not len(refused):
            return
        reasons = [self._reasons.get(reason) or self._reason(reason) for reason in refused.reasons]
        lines = pc.binary_join_element_wise(
            arrow_arrays.decimals(refused.numbers),
            arrow_arrays.binary(reasons).take(arrow_arrays.integers(refused.which)),
            _visible(refused.raw),
            self._end,
            _NOTHING,
        )
        self._lines.write(lines.buffers()[2].to_pybytes(), len(lines))
        codes = list(dict.fromkeys(code for code, *_ in refused.reasons))
        code_of = np.array([codes.index(code) for code, *_ in refused.reasons], np.int64)[refused.which]
        counts = np.bincount(code_of[refused.counted], minlength=len(codes)).tolist()
        met, first = np.unique(code_of, return_index=True)
        for place in met[np.argsort(first)].tolist():  # in the order of the file, whatever the blocks
            if counts[place]:
                self.by_reason[codes[place]] += counts[place]
            self._show(codes[place], refused, np.flatnonzero(code_of == place))

    def _show(self, code: str, refused: Refused, rows: I64) -> None:
        examples = self.examples.setdefault(code, [])
        for row in rows[: EXAMPLES - len(examples)].tolist():
            _, column, value, expected = refused.reasons[refused.which[row]]
            number = int(refused.numbers[row])
            examples.append({"row": number, "field": column, "value": value[:200], "expected": expected})

    def _reason(self, reason: Reason) -> bytes:
        if len(self._reasons) >= _REASONS_KEPT:
            self._reasons.clear()
        code, column, value, expected = reason
        text = f",{code},{quoted(column)},{quoted(one_line(value))},{quoted(expected)},".encode("utf-8", "replace")
        self._reasons[reason] = text
        return text

    def write(self, write: Callable[[bytes], object]) -> int:
        """Write the list with its header; return its rows."""
        write(line(QUARANTINE_COLUMNS).encode())
        for data, _ in self._lines.blocks():
            write(data)
        return self.rows

    def discard(self) -> None:
        """Give scratch space back."""
        self._lines.discard()


def _visible(raw: pa.Array) -> pa.Array:
    """Return raw texts as cells of one line; nearly all are so as they are."""
    odd = pc.invert(pc.match_substring_regex(raw, _HARMLESS))
    if pc.any(odd).as_py():
        texts = [one_line(text.decode()).encode() for text in raw.filter(odd).to_pylist()]
        raw = pc.replace_with_mask(raw, odd, arrow_arrays.binary(texts))
    return all_quoted(raw)
