"""Which (store, product) pairs get a forecast, and why the others do not (R1, R25, R41)."""

from __future__ import annotations

from dataclasses import dataclass

ACTIVE = "active"
THIN_HISTORY = "thin_history"
DISCONTINUED = "discontinued"
STORE_CLOSED = "store_closed"
PAIR_STATES = (ACTIVE, THIN_HISTORY, DISCONTINUED, STORE_CLOSED)


@dataclass(frozen=True)
class ActivityRule:
    """A pair is active with enough selling weeks (or half of a shorter history) and a recent sale."""

    min_selling_weeks: int
    active_within_weeks: int

    def weeks_needed(self, weeks_of_history: int) -> int:
        """Return how many selling weeks a pair needs when the whole history has `weeks_of_history` weeks."""
        return max(1, min(self.min_selling_weeks, (weeks_of_history + 1) // 2))

    def state(
        self, *, selling_weeks: int, weeks_since_last_sale: int, weeks_of_history: int, store_open: bool
    ) -> str:
        """Return the pair's state; `weeks_since_last_sale` is 1 for a sale in the last week of history."""
        if not store_open:
            return STORE_CLOSED
        if weeks_since_last_sale > self.active_within_weeks:
            return DISCONTINUED
        if selling_weeks < self.weeks_needed(weeks_of_history):
            return THIN_HISTORY
        return ACTIVE
