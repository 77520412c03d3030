"""When a week is due, which weeks were missed: what the watchdog reports and the page counts down to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from domain import lake_paths
from domain.ports import Lake
from domain.sales_weeks import SalesWeek

DELIVERIES = "deliveries"  # the source whose arrival makes a week due
WEEK_DUE_AFTER = timedelta(hours=24)  # after the deliveries of the week before arrived
CADENCE = timedelta(days=7)  # deliveries arrive once a week
WEEKS_LOOKED_AT = 8


@dataclass(frozen=True)
class NextWeek:
    """The week that is to be published next, and the weeks before it that were left out."""

    sales_week: SalesWeek
    due_at: datetime
    has_arrived: bool  # whether the deliveries that it needs are there
    missing: tuple[SalesWeek, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of `GET /api/runs`."""
        return {
            "sales_week": str(self.sales_week), "due_at": self.due_at.isoformat(timespec="seconds"),
            "has_arrived": self.has_arrived, "missing": [str(week) for week in self.missing],
        }


def next_week(lake: Lake) -> NextWeek | None:
    """Return the next week and its due time; None before any delivery arrived.

    The week after the newest deliveries is due a day after these arrived. Once it is published, the week after it is
    next, due a cadence later. Missing is a week that was not published although an earlier one was.
    """
    newest = _newest_deliveries(lake)
    if newest is None:
        return None
    week, due_at = newest[0].plus(1), newest[1] + WEEK_DUE_AFTER
    looked_at = [week.plus(-back) for back in range(WEEKS_LOOKED_AT)]
    with ThreadPoolExecutor(WEEKS_LOOKED_AT) as pool:
        known = pool.map(lambda one: lake.info(lake_paths.PUBLISHED, lake_paths.published_current(one)), looked_at)
        published = {one for one, found in zip(looked_at, known, strict=True) if found is not None}
    first = min(published, default=week)
    missing = tuple(one for one in reversed(looked_at[1:]) if one not in published and one > first)
    if week in published:
        return NextWeek(week.plus(1), due_at + CADENCE, False, missing)
    return NextWeek(week, due_at, True, missing)


def _newest_deliveries(lake: Lake) -> tuple[SalesWeek, datetime] | None:
    """Return the newest week whose deliveries are conditioned, and when they were; years of weeks cost one listing."""
    weeks = sorted(map(SalesWeek.parse, lake.folders(lake_paths.CONDITIONED, f"{DELIVERIES}/")), reverse=True)
    for week in weeks:
        if (pointer := lake.info(lake_paths.CONDITIONED, lake_paths.conditioned_current(DELIVERIES, week))) is not None:
            return week, pointer.last_modified
    return None
