"""NCRONTAB: {second} {minute} {hour} {day} {month} {day-of-week}; five fields mean second 0."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from itertools import product

from devhost.errors import AppLoadError

_NAMES = {
    "month": ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    "day-of-week": ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
}
_FIELDS = (
    ("second", 0, 59), ("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("day-of-week", 0, 6),
)  # fmt: skip
_HORIZON_DAYS = 28 * 366  # by then the calendar begins anew: a schedule without a date so far never fires


class Schedule:
    """A parsed expression. AppLoadError if it cannot be read."""

    def __init__(self, expression: str) -> None:
        self._expression = expression
        parts = expression.split()
        if len(parts) not in (5, 6):
            raise AppLoadError(f"{expression!r} is not an NCRONTAB expression: it needs six fields, seconds first.")
        parts = ["0", *parts][-6:]
        self._seconds, self._minutes, self._hours, self._days, self._months, self._weekdays = (
            self._values(text, *field) for text, field in zip(parts, _FIELDS, strict=True)
        )

    def _values(self, text: str, name: str, low: int, high: int) -> list[int]:
        try:
            found = {value for item in text.split(",") for value in _span(item, name, low, high)}
        except ValueError as problem:
            reason = f"{self._expression!r} is not an NCRONTAB expression: {name} cannot be {text!r}."
            raise AppLoadError(reason) from problem
        return sorted({value % 7 for value in found} if name == "day-of-week" else found)

    def next(self, after: datetime) -> datetime:
        """First moment later than `after`. AppLoadError if there is none."""
        earliest = after
        for _ in range(_HORIZON_DAYS):
            if (earliest.day in self._days and earliest.month in self._months
                    and earliest.isoweekday() % 7 in self._weekdays):  # fmt: skip
                hours = [hour for hour in self._hours if hour >= earliest.hour]
                for clock in product(hours, self._minutes, self._seconds):
                    moment = datetime.combine(earliest, time(*clock), after.tzinfo)
                    if moment > after:
                        return moment
            earliest = datetime.combine(earliest + timedelta(days=1), time(), after.tzinfo)
        raise AppLoadError(f"{self._expression!r} is a schedule that never fires.")


def _span(item: str, name: str, low: int, high: int) -> range:
    """Values of *, 5, 1-5, */5, 10/5, mon or mon-fri; Sunday may be 7."""
    span, _, step = item.partition("/")
    start, dash, end = span.partition("-")
    first = low if span == "*" else _number(start, name, low)
    last = _number(end, name, low) if dash else high if step or span == "*" else first
    if not low <= first <= last <= (7 if name == "day-of-week" else high) or int(step or 1) < 1:
        raise ValueError(item)
    return range(first, last + 1, int(step or 1))


def _number(text: str, name: str, low: int) -> int:
    names, word = _NAMES.get(name, ()), text[:3].lower()
    return names.index(word) + low if word in names else int(text)
