"""iCalendar events; repeated events are written out, cancelled ones are left out with a reason."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from conditioning.batches import Broken
from conditioning.dialect import ReadContext, Row, Rows
from conditioning.raw_input import Stream, read_document
from conditioning.reasons import FileRefused

COLUMNS = ("event_id", "name", "kind", "start_date", "end_date", "region")
_HORIZON = timedelta(days=3 * 366)  # an endless series is written out this far beyond its start
_MOST_REPEATS = 2_000


def read_calendar(stream: Stream, context: ReadContext) -> Rows:
    """Yield a row an event, in file order; DTEND is exclusive, an event without an end lasts one day."""
    from icalendar import Calendar

    data = read_document(stream, context.file, context.limits.document_bytes)
    try:
        calendar: Any = Calendar.from_ical(data)
    except Exception as error:
        raise FileRefused(
            "malformed_document", f"{context.file} is no iCalendar file: {error}", file=context.file
        ) from error
    for number, event in enumerate(calendar.walk("VEVENT"), 1):
        raw = event.to_ical().decode("utf-8", "replace").replace("\r\n ", "").replace("\r\n", " ")
        if str(event.get("STATUS", "")).upper() == "CANCELLED":
            yield Broken(number, "excluded_value", "STATUS", "CANCELLED", "an event that takes place", raw)
            continue
        try:
            starts, length = _starts(event, calendar), _length(event)
        except Exception as error:
            yield Broken(
                number,
                "bad_date",
                "DTSTART",
                str(event.get("DTSTART", "")),
                f"readable dates ({error})",
                raw,
            )
            continue
        for at, start in enumerate(starts):
            cells = (
                str(event.get("UID", "")),
                str(event.get("SUMMARY", "")),
                _first_category(event),
                start.isoformat(),
                (start + length).isoformat(),
                str(event.get("LOCATION", "")),
            )
            yield Row(number, cells, raw, weight=1 if at == 0 else 0)


def _day(value: Any) -> date:
    day: date = value.date() if isinstance(value, datetime) else value
    return day


def _length(event: Any) -> timedelta:
    """Return last day minus first day."""
    start = event["DTSTART"].dt
    if "DTEND" in event:
        end = event["DTEND"].dt
        last = end - timedelta(seconds=1) if isinstance(end, datetime) else end - timedelta(days=1)
        return max(_day(last) - _day(start), timedelta(0))
    if "DURATION" in event:
        lasts: timedelta = event["DURATION"].dt
        return max(lasts - timedelta(days=1), timedelta(0))
    return timedelta(0)


def _starts(event: Any, calendar: Any) -> list[date]:
    first = _day(event["DTSTART"].dt)
    if "RRULE" not in event and "RDATE" not in event:
        return [first]
    rules = event.get("RRULE", [])
    for rule in rules if isinstance(rules, list) else [rules]:
        finer = {"SECONDLY", "MINUTELY", "HOURLY"}.intersection(map(str, rule.get("FREQ", [])))
        if finer or any(name in rule for name in ("BYSECOND", "BYMINUTE", "BYHOUR")):
            raise ValueError(f"an event that repeats within a day: {rule.to_ical().decode('utf-8', 'replace')[:200]}")
    import recurring_ical_events
    from icalendar import Calendar

    alone: Any = Calendar()
    for zone in calendar.walk("VTIMEZONE"):
        alone.add_component(zone)
    alone.add_component(event)
    found = recurring_ical_events.of(alone).between(first, first + _HORIZON)
    return sorted({_day(item["DTSTART"].dt) for item in found})[:_MOST_REPEATS]


def _first_category(event: Any) -> str:
    categories = event.get("CATEGORIES")
    if categories is None:
        return "other"
    items = categories if isinstance(categories, list) else [categories]
    return next((str(word) for item in items for word in getattr(item, "cats", [item])), "other")
