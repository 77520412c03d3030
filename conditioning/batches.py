"""What every reader yields: columns of raw cells for some records, and the records that have no cells to speak of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from conditioning.record_tokens import TokenText

I64 = npt.NDArray[np.int64]
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


@dataclass
class Batch:
    """Some consecutive records. `columns[i]` belongs to the i-th field; None = the file lacks the column.

    A column is a binary array of cells; where `token_text` is given, of tokens of the file that it makes cells of.
    `weights[i]`: how many input records row i stands for, where a source gathers several into one or makes several of
    one; `gathered[i]` are those beyond its own.
    """

    columns: list[pa.Array | None]
    numbers: I64
    raw: Callable[[I64], list[str]]
    broken: Sequence[Broken] = field(default_factory=list)
    token_text: TokenText | None = None
    weights: I64 | None = None
    gathered: Sequence[Sequence[tuple[int, str]]] = ()

    @property
    def rows(self) -> int:
        """How many records have cells."""
        return len(self.numbers)

    def refuse(self, rows: I64, reasons: Sequence[Reason]) -> list[Broken]:
        """Return the input records of some rows as refused, each for the reason of its row."""
        found = [
            Broken(number, *reason, raw)
            for number, reason, raw in zip(self.numbers[rows].tolist(), reasons, self.raw(rows), strict=True)
        ]
        if self.weights is None:
            return found
        for place, row in enumerate(rows.tolist()):
            others = self.gathered[row]
            found[place] = found[place]._replace(weight=int(self.weights[row]) - len(others))
            found += [Broken(number, *reasons[place], raw) for number, raw in others]
        return found
