"""NOAA GHCN-Daily: by-year CSV (a row per station, day, element) and .dly (a line per station, month, element).

Both become rows of zip and day. A value with a quality flag failed the provider's checks and is quarantined; a trace
(M-flag T) is zero; multi-day totals (MDPR) are another element and are not a day's rain.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from conditioning.batches import Broken
from conditioning.delimited import raw_text
from conditioning.dialect import ReadContext, Row, Rows
from conditioning.raw_input import Stream
from conditioning.record_blocks import record_blocks
from conditioning.record_tokens import records_of

ELEMENTS = ("TMAX", "TMIN", "PRCP", "SNOW", "AWND")
COLUMNS = ("zip", "date", *ELEMENTS)
STATIONS = "weather_stations.csv"
_DLY_DAYS, _DLY_FIRST, _DLY_WIDTH = 31, 21, 8
_DIGITS = re.compile(r"-?\d{1,6}")


@cache
def _stations() -> list[tuple[re.Pattern[str], str]]:
    path = Path(__file__).resolve().parent.parent / "column_maps" / STATIONS
    with path.open(encoding="utf-8", newline="") as file:
        return [(re.compile(row["station"]), row["zip"]) for row in csv.DictReader(file)]


def zip_of(station: str) -> str | None:
    """Return the zip that a weather station stands for, None if nobody mapped it."""
    for pattern, replacement in _stations():
        match = pattern.fullmatch(station)
        if match:
            return match.expand(replacement)
    return None


@dataclass
class _Day:
    number: int
    raw: str
    values: dict[str, str] = field(default_factory=dict)
    gathered: list[tuple[int, str]] = field(default_factory=list)


def read_by_year(stream: Stream, context: ReadContext) -> Rows:
    """Yield a row per zip and day of a by-year CSV, ordered by zip and day."""
    return _pivot(_by_year_values(stream, context), context)


def read_dly(stream: Stream, context: ReadContext) -> Rows:
    """Yield a row per zip and day of a .dly file, ordered by zip and day; days past the month's end are no records."""
    return _pivot(_dly_values(stream, context), context)


@dataclass(frozen=True)
class _Value:
    number: int
    station: str
    day: str  # YYYYMMDD
    element: str
    value: str
    measurement: str  # M-flag
    quality: str  # Q-flag
    raw: str


def _pivot(values: Iterator[_Value | Broken], context: ReadContext) -> Rows:
    days: dict[tuple[str, str], _Day] = {}
    first, last = context.first_day.replace("-", ""), context.last_day.replace("-", "")
    for value in values:
        if isinstance(value, Broken):
            yield value
            continue
        code, field_name, shown, expected = _fault(value, first, last)
        place = zip_of(value.station)
        if code or place is None:
            yield Broken(value.number, code, field_name, shown, expected, value.raw)
            continue
        day = days.get((place, value.day))
        if day is None:
            day = days[place, value.day] = _Day(value.number, value.raw)
        elif value.element not in day.values:
            day.gathered.append((value.number, value.raw))
        if value.element in day.values:
            yield Broken(
                value.number,
                "fields_disagree",
                value.element,
                value.value,
                f"one {value.element} a station and day (there is {day.values[value.element]})",
                value.raw,
            )
            continue
        day.values[value.element] = "0" if value.measurement == "T" else value.value
    for (place, date), day in sorted(days.items()):
        cells = (place, date, *(day.values.get(element, "") for element in ELEMENTS))
        yield Row(day.number, cells, day.raw, gathered=day.gathered)


def _fault(value: _Value, first: str, last: str) -> tuple[str, str, str, str]:
    if value.element not in ELEMENTS:
        return "unknown_element", "element", value.element, f"one of {', '.join(ELEMENTS)}"
    if zip_of(value.station) is None:
        return "unknown_station", "station", value.station, "a station of column_maps/weather_stations.csv"
    if value.value == "-9999":
        return "missing_value", value.element, value.value, "a value"
    if value.quality.strip():
        return "quality_flag", value.element, value.quality, "a value without a quality flag"
    if not _DIGITS.fullmatch(value.value):
        return "bad_integer", value.element, value.value, "a whole number"
    if first and not first <= value.day <= last:
        return "outside_sales_week", "date", value.day, f"a day from {first} to {last}"
    return "", "", "", ""


def _lines(stream: Stream, file: str) -> Iterator[tuple[int, str]]:
    number = 0
    for block in record_blocks(stream, file, 44, None):
        records = records_of(block)
        for start, end in zip(records.starts.tolist(), records.ends.tolist(), strict=True):
            number += 1
            yield number, raw_text(block.data[start:end])


def _by_year_values(stream: Stream, context: ReadContext) -> Iterator[_Value | Broken]:
    for number, text in _lines(stream, context.file):
        cells = [cell.strip().strip('"') for cell in text.split(",")]
        if len(cells) != 8:
            code = "too_few_cells" if len(cells) < 8 else "too_many_cells"
            yield Broken(number, code, "", str(len(cells)), "8 cells", text)
        else:
            station, day, element, value, measurement, quality, *_ = cells
            yield _Value(number, station, day, element, value, measurement, quality, text)


def _dly_values(stream: Stream, context: ReadContext) -> Iterator[_Value | Broken]:
    for number, text in _lines(stream, context.file):
        if len(text) < _DLY_FIRST + _DLY_WIDTH or not text[11:17].isdigit():
            yield Broken(number, "not_a_record", "", text[:40], "a .dly line of 269 characters", text[:300])
            continue
        for day in range(_DLY_DAYS):
            start = _DLY_FIRST + day * _DLY_WIDTH
            cell = text[start : start + _DLY_WIDTH].ljust(_DLY_WIDTH)
            value = cell[:5].strip()
            if value in ("-9999", ""):
                continue
            raw = f"{text[:_DLY_FIRST]} day {day + 1}: {cell}"
            yield _Value(number, text[:11], f"{text[11:17]}{day + 1:02d}", text[17:21], value, cell[5], cell[6], raw)
