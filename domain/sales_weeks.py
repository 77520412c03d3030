"""Sales weeks: ISO 8601 weeks, Monday to Sunday, written `2017-W45`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from domain.errors import BadRequest

_TEXT = re.compile(r"^(\d{4})-W(\d{2})$")


@dataclass(frozen=True, order=True)
class SalesWeek:
    """One ISO week; ordering is by time."""

    year: int
    week: int

    @classmethod
    def parse(cls, text: str) -> SalesWeek:
        """Read `2017-W45`; raise BadRequest for anything else, also for a 53rd week that the year lacks."""
        match = _TEXT.match(text if isinstance(text, str) else "")
        if match:
            year, week = int(match[1]), int(match[2])
            try:
                date.fromisocalendar(year, week, 1)
            except ValueError:
                match = None
            else:
                return cls(year, week)
        raise BadRequest(
            f"{text!r} is not a sales week; write it as an ISO week, for example 2017-W45",
            field="sales_week", value=text, remedy="use YYYY-Www",
        )

    @classmethod
    def of(cls, day: date) -> SalesWeek:
        """Return the week that holds `day`."""
        iso = day.isocalendar()
        return cls(iso.year, iso.week)

    @property
    def monday(self) -> date:
        """First day of the week."""
        return date.fromisocalendar(self.year, self.week, 1)

    @property
    def sunday(self) -> date:
        """Last day of the week."""
        return self.monday + timedelta(days=6)

    def plus(self, weeks: int) -> SalesWeek:
        """Return the week `weeks` later (earlier if negative)."""
        return SalesWeek.of(self.monday + timedelta(weeks=weeks))

    def weeks_since(self, other: SalesWeek) -> int:
        """Return how many weeks lie between `other` and this one."""
        return (self.monday - other.monday).days // 7

    def holds(self, day: date) -> bool:
        """Return whether `day` falls in this week."""
        return self.monday <= day <= self.sunday

    def __str__(self) -> str:
        return f"{self.year:04d}-W{self.week:02d}"


def weeks_between(first: SalesWeek, last: SalesWeek) -> Iterator[SalesWeek]:
    """Yield every week from `first` to `last`, both included."""
    week = first
    while week <= last:
        yield week
        week = week.plus(1)
