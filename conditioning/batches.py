"""What every reader yields: columns of raw cells for some records, and the records that have no cells to speak of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

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

    A column is dictionary<binary> or binary. `latin` marks cells whose bytes above 127 stand for themselves one by one
    (they were widened so that the parser accepts them) and must be narrowed before decoding.
    `weights[i]`: how many input records row i stands for, where a source gathers several into one.
    """

    columns: list[pa.Array | None]
    numbers: I64
    raw: Callable[[int], str]
    broken: Sequence[Broken] = field(default_factory=list)
    latin: bool = False
    weights: I64 | None = None

    @property
    def rows(self) -> int:
        """How many records have cells."""
        return len(self.numbers)
