"""NCRONTAB: {second} {minute} {hour} {day} {month} {day-of-week}; five fields mean second 0."""

from __future__ import annotations

from datetime import datetime, timedelta

from devhost.errors import AppLoadError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("second", 0, 59, ()), ("minute", 0, 59, ()), ("hour", 0, 23, ()), ("day", 1, 31, ()), ("month", 1, 12, _MONTHS),
    ("day-of-week", 0, 6, _DAYS),
)  # fmt: skip
_HORIZON_YEARS = 5  # 29 February is at most that far; a schedule without a date by then never fires


class Schedule:
    """A parsed expression. AppLoadError if it cannot be read."""

    def __init__(self, expression: str) -> None:
        parts = expression.split()
        if len(parts) == 5:
            parts = ["0", *parts]
        if len(parts) != 6:
            raise AppLoadError(f"{expression!r} is not an NCRONTAB expression: it needs six fields, seconds first.")
        self.expression = expression
        sets = [self._values(text, *field) for text, field in zip(parts, _FIELDS, strict=True)]
        self._seconds, self._minutes, self._hours, self._days, self._months, self._weekdays = sets

    def _values(self, text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> list[int]:
        found: set[int] = set()
        try:
            for item in text.split(","):
                span, _, step = item.partition("/")
                if span == "*":
                    first, last = low, high
                else:
                    start, dash, end = span.partition("-")
                    first = self._number(start, low, names)
                    last = self._number(end, low, names) if dash else (high if step else first)
                if name == "day-of-week" and last == 7:
                    found.add(0)
                    last = 6 if first < 7 else 0
                    first = first if first < 7 else 0
                if not (low <= first <= high and low <= last <= high and first <= last and int(step or 1) > 0):
                    raise ValueError(item)
                found.update(range(first, last + 1, int(step or 1)))
        except ValueError as problem:
            reason = f"{self.expression!r} is not an NCRONTAB expression: {name} cannot be {text!r}."
            raise AppLoadError(reason) from problem
        return sorted(found)

    @staticmethod
    def _number(text: str, low: int, names: tuple[str, ...]) -> int:
        return names.index(text[:3].lower()) + low if text[:3].lower() in names else int(text)

    def next(self, after: datetime) -> datetime:
        """First moment later than `after`. ValueError if there is none in the next years."""
        day = after.replace(hour=0, minute=0, second=0, microsecond=0)
        limit = after.year + _HORIZON_YEARS
        while day.year <= limit:
            if day.month in self._months and day.day in self._days and (day.isoweekday() % 7) in self._weekdays:
                for hour in self._hours:
                    if day.replace(hour=hour) + timedelta(hours=1) <= after:
                        continue
                    for minute in self._minutes:
                        if day.replace(hour=hour, minute=minute) + timedelta(minutes=1) <= after:
                            continue
                        for second in self._seconds:
                            moment = day.replace(hour=hour, minute=minute, second=second)
                            if moment > after:
                                return moment
            day += timedelta(days=1)
        raise ValueError(f"{self.expression!r} has no date before {limit}.")
