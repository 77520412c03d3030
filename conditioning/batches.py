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


class Broken(NamedTuple):
    """A record that has no place in the table: quarantined as it is."""

    number: int
    code: str
    column: str
    value: str
    expected: str
    raw: str
    weight: int = 1  # input records that it stands for


@dataclass
class Batch:
    """Some consecutive records. `columns[i]` belongs to the i-th field; None = the file lacks the column.

    A column is a binary array of cells; where `token_text` is given, of tokens of the file that it makes cells of.
    `weights[i]`: how many input records row i stands for, where a source gathers several into one.
    """

    columns: list[pa.Array | None]
    numbers: I64
    raw: Callable[[int], str]
    broken: Sequence[Broken] = field(default_factory=list)
    token_text: TokenText | None = None
    weights: I64 | None = None

    @property
    def rows(self) -> int:
        """How many records have cells."""
        return len(self.numbers)
