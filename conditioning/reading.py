"""How one provider writes one column, and the shape of a cell rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from conditioning.reasons import Reject

Rule = Callable[[str], str | Reject]


@dataclass(frozen=True)
class Reading:
    """How one provider writes a column; empty means: as the contract says."""

    unit: str = ""
    format: str = ""  # date patterns separated by ";", first that fits wins; or zfillN, or decimal for integers
    values: dict[str, str] = field(default_factory=dict)  # provider's word -> ours
    decimal_char: str = ""
    group_char: str = ""
    negatives: tuple[str, ...] = ()
    excel_dates: str = ""  # "1900" or "1904": a bare number is a day count in this date system of workbooks


@dataclass(frozen=True)
class WeekBounds:
    """Days (ISO text) that a record may be about; empty text means unbounded."""

    first: str = ""
    last: str = ""
    history_start: str = ""
