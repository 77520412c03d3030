"""Holidays, campaigns and other events: calendars of marketing, and tables."""

from conditioning.dialect import Delimited, Document, SourceSpec
from conditioning.formats import calendars

SOURCE = SourceSpec(
    name="special_events",
    dialects=(
        Document("icalendar", "calendar", calendars.COLUMNS, calendars.read_calendar),
        Delimited("comma"),
    ),
)
