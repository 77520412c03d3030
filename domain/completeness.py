"""The completeness ledger (R25): every expected store x product x week is scored or explained; a gap fails the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Completeness:
    """Counts of expected forecasts and what became of them. `gap_pairs` names at most the first twenty missing."""

    expected: int
    scored: int
    explained: Mapping[str, int]
    failover: Mapping[str, int] = field(default_factory=dict)  # scored, but not by the segment's own new model
    unexpected: int = 0  # scored although nobody expected it
    gap_pairs: tuple[str, ...] = ()

    @property
    def gap(self) -> int:
        """Expected forecasts that are neither scored nor explained."""
        return self.expected - self.scored - sum(self.explained.values())

    @property
    def closed(self) -> bool:
        """Whether everything expected is accounted for and nothing was invented."""
        return self.gap == 0 and self.unexpected == 0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "expected": self.expected, "scored": self.scored, "explained": dict(self.explained),
            "failover": dict(self.failover), "unexpected": self.unexpected, "gap": self.gap,
            "gap_pairs": list(self.gap_pairs), "closed": self.closed,
        }
