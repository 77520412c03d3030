"""One column of one block: codes into its distinct cells, and what the rule made of each of those.

Work per row is work on integers; text is touched once for each distinct cell of the block.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from conditioning.hashing import U64, terms
from conditioning.reasons import Reject

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class DistinctCells(Protocol):
    """What the rule made of the distinct cells of a block, by code."""

    refused: Mask

    def refusal(self, code: int) -> tuple[Reject, str]:
        """Return why a refused cell is refused, and the cell as text."""

    def book(self, times: I64) -> None:
        """Book how many times each cell was accepted in the column's figures."""

    def lines(self) -> pa.Array:
        """Return CSV text with its comma (anything for refused cells)."""

    def hashes(self) -> U64:
        """Return hashes of the canonical texts (anything for refused cells)."""

    def ids(self) -> I32:
        """Return the column's ids of the cells; empty where it does not count them."""

    def text(self, code: int) -> str:
        """Return the canonical text of an accepted cell."""


class ColumnBlock:
    """One column of one block."""

    def __init__(self, codes: I32, cells: DistinctCells) -> None:
        self.codes = codes
        self.cells = cells
        self.bad: Mask | None = np.take(cells.refused, codes) if cells.refused.any() else None

    def refusal(self, row: int) -> tuple[Reject, str]:
        """Return why the cell of a bad row is refused, and the cell as text."""
        return self.cells.refusal(int(self.codes[row]))

    def keep(self, rows: I64 | None) -> None:
        """Forget all rows but these (None keeps all) and book them in the column's figures."""
        if rows is not None:
            self.codes = np.take(self.codes, rows)
        self.cells.book(np.bincount(self.codes, minlength=len(self.cells.refused)))

    def terms(self, column: int) -> U64:
        """Return what each row's cell adds to the hash of its row."""
        return np.take(terms(self.cells.hashes(), column), self.codes)

    def texts_at(self, rows: I64) -> list[str]:
        """Return the canonical text of some rows that are not bad."""
        return [self.cells.text(code) for code in self.codes[rows].tolist()]
