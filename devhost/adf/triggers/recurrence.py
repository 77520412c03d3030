"""When a schedule trigger fires: frequency, interval and the advanced schedule, in its time zone."""

from __future__ import annotations

import calendar
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Any, Final

from devhost.adf.errors import FactoryError
from devhost.adf.spans import instant
from devhost.adf.triggers.zones import to_utc, zone

_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_FREQUENCIES: Final = ("minute", "hour", "day", "week", "month")
_HORIZON_DAYS: Final = 366 * 10  # a recurrence that does not fire in ten years never will


@dataclass(frozen=True)
class Recurrence:
    """A schedule trigger's recurrence. `start` is a wall-clock time in `zone`."""

    frequency: str
    interval: int
    start: datetime
    end: datetime | None  # UTC
    zone: tzinfo
    minutes: tuple[int, ...] = ()
    hours: tuple[int, ...] = ()
    week_days: tuple[int, ...] = ()
    month_days: tuple[int, ...] = ()
    month_occurrences: tuple[tuple[int, int | None], ...] = ()  # (weekday, nth or None for every)

    @classmethod
    def read(cls, definition: Mapping[str, Any]) -> Recurrence:
        """From the trigger's `recurrence`. Raises FactoryError."""
        frequency = str(definition.get("frequency", "")).lower()
        if frequency not in _FREQUENCIES:
            raise FactoryError(f"frequency {definition.get('frequency')!r} is not one of {', '.join(_FREQUENCIES)}")
        where = zone(str(definition.get("timeZone") or "UTC"))
        schedule = definition.get("schedule") or {}
        end = definition.get("endTime")
        return cls(
            frequency=frequency,
            interval=int(definition.get("interval") or 1),
            start=_wall_clock(str(definition.get("startTime") or "2000-01-01T00:00:00Z"), where),
            end=None if not end else to_utc(_wall_clock(str(end), where), where),
            zone=where,
            minutes=tuple(sorted(int(m) for m in schedule.get("minutes") or ())),
            hours=tuple(sorted(int(h) for h in schedule.get("hours") or ())),
            week_days=tuple(sorted(_day(d) for d in schedule.get("weekDays") or ())),
            month_days=tuple(int(d) for d in schedule.get("monthDays") or ()),
            month_occurrences=tuple(
                (_day(o.get("day")), int(o["occurrence"]) if o.get("occurrence") is not None else None)
                for o in schedule.get("monthlyOccurrences") or ()
            ),
        )

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Every fire time (UTC) later than a moment, in order."""
        times = self._steady() if self.frequency in ("minute", "hour") else self._daily(moment)
        for when in times:
            if self.end is not None and when > self.end:
                return
            if when > moment:
                yield when

    def last_before(self, moment: datetime) -> datetime | None:
        """The latest fire time at or before a moment, None when there is none."""
        for days in (2, 9, 40, 400, 4000):
            times = [t for t in _until(self.after(moment - timedelta(days=days)), moment)]
            if times:
                return times[-1]
        return None

    def _steady(self) -> Iterator[datetime]:
        """Minute and Hour: an even step from the start; an hourly schedule of minutes fires at those minutes."""
        step = timedelta(**{f"{self.frequency}s": self.interval})
        start = to_utc(self.start, self.zone)
        when = start.replace(minute=0) if self.frequency == "hour" and self.minutes else start
        while True:
            for moment in [when.replace(minute=m) for m in self.minutes] if self.frequency == "hour" else []:
                if moment >= start:
                    yield moment
            if self.frequency == "minute" or not self.minutes:
                yield when
            when += step

    def _daily(self, moment: datetime) -> Iterator[datetime]:
        """Day, Week and Month: the days that count, each with its hours and minutes."""
        start = to_utc(self.start, self.zone)
        day = max(self.start.date(), moment.astimezone(self.zone).date() - timedelta(days=1))
        last = day + timedelta(days=_HORIZON_DAYS)
        while day <= last:
            if self._counts(day):
                for hour in self.hours or (range(24) if self.minutes else (self.start.hour,)):
                    for minute in self.minutes or (self.start.minute,):
                        wall = datetime(day.year, day.month, day.day, hour, minute, self.start.second)
                        when = to_utc(wall, self.zone)
                        if when >= start:
                            yield when
            day += timedelta(days=1)

    def _counts(self, day: date) -> bool:
        first = self.start.date()
        if self.frequency == "day":
            return (day - first).days % self.interval == 0 and (not self.week_days or day.weekday() in self.week_days)
        if self.frequency == "week":
            weeks = (_monday(day) - _monday(first)).days // 7
            return weeks % self.interval == 0 and day.weekday() in (self.week_days or (first.weekday(),))
        months = (day.year - first.year) * 12 + day.month - first.month
        return months % self.interval == 0 and self._counts_in_month(day)

    def _counts_in_month(self, day: date) -> bool:
        length = calendar.monthrange(day.year, day.month)[1]
        from_start, from_end = (day.day - 1) // 7 + 1, -((length - day.day) // 7 + 1)
        if any(d == day.day or d == day.day - length - 1 for d in self.month_days):
            return True
        for weekday, nth in self.month_occurrences:
            if day.weekday() == weekday and nth in (None, from_start, from_end):
                return True
        return not self.month_days and not self.month_occurrences and day.day == self.start.day


def _until(times: Iterator[datetime], moment: datetime) -> Iterator[datetime]:
    for when in times:
        if when > moment:
            return
        yield when


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _day(name: Any) -> int:
    try:
        return _DAYS.index(str(name).lower())
    except ValueError:
        raise FactoryError(f"{name!r} is not a day of the week") from None


def _wall_clock(text: str, where: tzinfo) -> datetime:
    """A start time in its zone: with an offset it is converted, without one it is that zone's clock."""
    naive = datetime.fromisoformat(text.strip())
    return naive if naive.tzinfo is None else instant(text).astimezone(where).replace(tzinfo=None)
