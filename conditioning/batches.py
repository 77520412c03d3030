"""What every reader yields: columns of raw cells for some records, and the records that have no cells to speak of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from conditioning import arrow_arrays
from conditioning.record_tokens import TokenText

I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Reason = tuple[str, str, str, str]
"""Code, column, offending value, what was expected."""


class Broken(NamedTuple):
    """A record that has no place in the table: quarantined as it is."""

    number: int
    code: str
    column: str
    value: str
    expected: str
    raw: str
    weight: int = 1  # 0: a further row of a record that is counted already


@dataclass(frozen=True)
class Refused:
    """Records that have no place in the table, each with its reason: many share one."""

    numbers: I64
    reasons: Sequence[Reason]
    which: I64  # reason of each record
    raw: pa.Array  # raw text of each record in UTF-8
    counted: Mask  # False: a further row of a record that is counted already

    def __len__(self) -> int:
        return len(self.numbers)


def as_refused(broken: Sequence[Broken]) -> Refused:
    """Return broken records as refused."""
    places: dict[Reason, int] = {}
    which = [places.setdefault((item.code, item.column, item.value, item.expected), len(places)) for item in broken]
    return Refused(
        np.array([item.number for item in broken], np.int64),
        list(places),
        np.array(which, np.int64),
        arrow_arrays.binary([item.raw.encode("utf-8", "replace") for item in broken]),
        np.array([item.weight != 0 for item in broken], np.bool_),
    )


def in_order(parts: Sequence[Refused]) -> Refused:
    """Join refused records in the order of the file."""
    if len(parts) == 1:
        return parts[0]
    numbers = np.concatenate([part.numbers for part in parts])
    order = np.argsort(numbers, kind="stable")
    begins = np.cumsum([0, *(len(part.reasons) for part in parts)])
    return Refused(
        numbers[order],
        [reason for part in parts for reason in part.reasons],
        np.concatenate([part.which + begin for part, begin in zip(parts, begins, strict=False)])[order],
        pa.concat_arrays([part.raw for part in parts]).take(arrow_arrays.integers(order)),
        np.concatenate([part.counted for part in parts])[order],
    )


NONE_REFUSED = as_refused([])


@dataclass
class Batch:
    """Some consecutive records. `columns[i]` belongs to the i-th field; None = the file lacks the column.

    A column is a binary array of cells; where `token_text` is given, of tokens of the file that it makes cells of.
    `weights[i]`: how many input records row i stands for, where a source gathers several into one or makes several of
    one; `gathered[i]` are those beyond its own.
    """

    columns: Iterable[pa.Array | None]  # may be made while they are gone through, which is done once
    numbers: I64
    raw: Callable[[I64], pa.Array]  # raw text of some rows in UTF-8
    broken: Refused = NONE_REFUSED
    token_text: TokenText | None = None
    weights: I64 | None = None
    gathered: Sequence[Sequence[tuple[int, str]]] = ()

    @property
    def rows(self) -> int:
        """How many records have cells."""
        return len(self.numbers)

    def refuse(self, rows: I64, reasons: Sequence[Reason], which: I64) -> Refused:
        """Return the input records of some rows as refused; `which` is the reason of each row."""
        found = Refused(self.numbers[rows], reasons, which, self.raw(rows), np.ones(len(rows), np.bool_))
        if self.weights is None:
            return found
        others = [
            (reason, *other) for reason, row in zip(which, rows.tolist(), strict=True) for other in self.gathered[row]
        ]
        texts = arrow_arrays.binary([text.encode("utf-8", "replace") for _, _, text in others])
        gathered = np.array([len(self.gathered[row]) for row in rows.tolist()], np.int64)
        return Refused(
            np.concatenate([found.numbers, np.array([number for _, number, _ in others], np.int64)]),
            reasons,
            np.concatenate([which, np.array([reason for reason, _, _ in others], np.int64)]),
            pa.concat_arrays([found.raw, texts]),
            np.concatenate([self.weights[rows] != gathered, np.ones(len(others), np.bool_)]),
        )
