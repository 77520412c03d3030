"""Special events as an iCalendar file (RFC 5545)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

_LINE_OCTETS = 75  # RFC 5545, 3.1


@dataclass(frozen=True)
class CalendarEvent:
    """One all-day event; `last` is included, as people say it (the file's DTEND is the day after)."""

    uid: str
    name: str
    kind: str
    first: date
    last: date
    region: str = ""
    status: str = ""
    rule: str = ""

    def lines(self) -> list[str]:
        """Return the event's content lines, unfolded."""
        found = [
            "BEGIN:VEVENT",
            f"UID:{_escaped(self.uid)}",
            "DTSTAMP:20170101T000000Z",
            f"DTSTART;VALUE=DATE:{self.first:%Y%m%d}",
        ]
        if self.last != self.first:
            found.append(f"DTEND;VALUE=DATE:{self.last + timedelta(days=1):%Y%m%d}")
        if self.rule:
            found.append(f"RRULE:{self.rule}")
        found += [f"SUMMARY:{_escaped(self.name)}", f"CATEGORIES:{self.kind.upper()}"]
        if self.region:
            found.append(f"LOCATION:{self.region}")
        if self.status:
            found.append(f"STATUS:{self.status}")
        return [*found, "END:VEVENT"]


def calendar_bytes(events: Iterable[CalendarEvent], extra_lines: Iterable[str] = ()) -> bytes:
    """Return the calendar, CRLF and folded; `extra_lines` go in as they are, before its end."""
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Shelfcast//sample events//EN", "CALSCALE:GREGORIAN"]
    for event in events:
        lines += event.lines()
    lines += [*extra_lines, "END:VCALENDAR"]
    return b"".join(_folded(line) for line in lines)


def _escaped(text: str) -> str:
    for character in ("\\", ";", ","):
        text = text.replace(character, "\\" + character)
    return text


def _folded(line: str) -> bytes:
    octets = line.encode()
    pieces = [octets[:_LINE_OCTETS]]
    rest = octets[_LINE_OCTETS:]
    while rest:
        pieces.append(b" " + rest[: _LINE_OCTETS - 1])
        rest = rest[_LINE_OCTETS - 1 :]
    return b"\r\n".join(pieces) + b"\r\n"
