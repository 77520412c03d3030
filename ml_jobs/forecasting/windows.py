"""The rolling-origin windows of a training: which weeks choose, which judge, which only teach."""

from __future__ import annotations

from dataclasses import dataclass

WINDOW_WEEKS = 4
SHORTEST = 12  # with fewer weeks of history a window shrinks, down to one week


@dataclass(frozen=True)
class Origins:
    """Week indices: choices are made on [choose, judge), the reported evaluation is on [judge, end)."""

    choose: int
    judge: int
    end: int

    @classmethod
    def of(cls, weeks: int) -> Origins:
        """Return the windows of a history of `weeks` weeks: the last K to judge, the K before them to choose."""
        window = max(1, min(WINDOW_WEEKS, (weeks - SHORTEST) // 2 if weeks > SHORTEST + 1 else weeks // 6))
        return cls(choose=max(weeks - 2 * window, 0), judge=max(weeks - window, 0), end=weeks)
