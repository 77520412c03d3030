"""How long to wait between two looks at running jobs: a pure policy."""

from __future__ import annotations

from dataclasses import dataclass

GROWTH = 1.5


@dataclass(frozen=True)
class PollPolicy:
    """Gaps grow from `first_seconds` to `longest_seconds` while nothing changes, and fall back when something does."""

    first_seconds: float
    longest_seconds: float

    def next_gap(self, previous_gap: float, *, changed: bool, retry_after: float = 0.0) -> float:
        """Return the seconds to wait; a service that asked for patience (429) gets at least what it asked for."""
        grown = self.first_seconds if changed or previous_gap <= 0 else previous_gap * GROWTH
        return max(min(grown, self.longest_seconds), self.first_seconds, retry_after)
