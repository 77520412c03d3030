"""Rows that a provider got wrong, put among the good ones so that quarantine has work, and the count of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from samples.local_testing.demand import Line
from samples.raw_files import RawFile

Row = TypeVar("Row")
Faults = dict[str, Callable[[Row], Row]]

UNKNOWN_STORE = "S00000"
EXCLUDED_DEPARTMENTS = ("FUEL", "COUPON")


@dataclass(frozen=True)
class Dropped:
    """One raw file and what is in it: all records, and how many of them are wrong in which way.

    Records are the provider's: lines, sheet rows, G83 segments, array rows, VEVENTs; weather files count values.
    """

    raw: RawFile
    records: int
    faults: dict[str, int] = field(default_factory=dict)

    def expected(self) -> dict[str, object]:
        """Return the counts as `expected.json` holds them."""
        return {"file": self.raw.name, "records": self.records, "faults": dict(sorted(self.faults.items()))}


def spoil(
    rows: list[Row], faults: dict[str, Callable[[Row], Row]], draw: random.Random
) -> tuple[list[Row], dict[str, int]]:
    """Return `rows` with one wrong copy put in for every fault and one exact duplicate, and the faults' counts.

    The rows that were there stay as they were: a fault never costs a good row.
    """
    found = list(rows)
    for fault in faults.values():
        found.insert(draw.randrange(len(found) + 1), fault(draw.choice(rows)))
    place = draw.randrange(len(rows))
    found.append(rows[place])
    return found, {**dict.fromkeys(faults, 1), "duplicate": 1}


# A document of its own makes a wrong line's key differ from the good line's, so that only one thing is wrong.
LINE_FAULTS: Faults[Line] = {
    "bad_date": lambda line: replace(line, document=line.document + "X1", day=None),
    "unknown_store": lambda line: replace(line, document=line.document + "X2", store_id=UNKNOWN_STORE),
    "negative_units": lambda line: replace(line, document=line.document + "X3", units=-line.units, cents=-line.cents),
    "missing_product": lambda line: replace(line, document=line.document + "X4", product_id=""),
}


def excluded_lines(lines: list[Line], draw: random.Random) -> tuple[list[Line], dict[str, int]]:
    """Return `lines` with one line of each department that is no goods, in quantities that are no units."""
    found = list(lines)
    for department in EXCLUDED_DEPARTMENTS:
        like = draw.choice(lines)
        line = replace(like, document=like.document + "X5", department=department, units=1000 + draw.randrange(9000))
        found.insert(draw.randrange(len(found) + 1), line)
    return found, {"excluded_department": len(EXCLUDED_DEPARTMENTS)}
