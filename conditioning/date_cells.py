"""Dates and times: declared patterns, ISO, and `any` only where one reading is possible."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

from conditioning.reading import Reading, Rule
from conditioning.reasons import Reject

_ISO_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_MIDNIGHT = re.compile(r"(.*\d)[T ]00:00(?::00(?:\.0+)?)?(?:Z)?")
_ANY_DATE = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y",
)  # fmt: skip
_EITHER_ORDER = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})")
_EXCEL_EPOCHS = {"1900": date(1899, 12, 30), "1904": date(1904, 1, 1)}


def date_parser(patterns: str, reading: Reading) -> Rule:
    """Return the parser of a date column; `patterns` are tried in order, separated by semicolons."""
    wanted = [] if patterns in ("default", "any", "") else patterns.split(";")
    expected = "a date " + (
        " or ".join(wanted) if wanted else "YYYY-MM-DD" if patterns != "any" else "in an unambiguous notation"
    )

    def parse(text: str) -> str | Reject:
        if not text.isascii():
            return Reject("bad_date", expected)
        if reading.excel_dates and re.fullmatch(r"[1-9]\d{4}(\.0+)?", text):
            return (_EXCEL_EPOCHS[reading.excel_dates] + timedelta(days=int(text[:5]))).isoformat()
        midnight = _MIDNIGHT.fullmatch(text)
        text = midnight[1] if midnight else text
        if wanted:
            for pattern in wanted:
                found = _strptime(text, pattern)
                if found is not None:
                    return found.date().isoformat()
            return Reject("bad_date", expected)
        found_date = _iso_date(text)
        if found_date is None and patterns == "any":
            found_date = _any_date(text)
        return found_date.isoformat() if found_date else Reject("bad_date", expected)

    return parse


def _iso_date(text: str) -> date | None:
    match = _ISO_DATE.fullmatch(text)
    try:
        return date(int(match[1]), int(match[2]), int(match[3])) if match else None
    except ValueError:
        return None


def _any_date(text: str) -> date | None:
    for pattern in _ANY_DATE:
        found = _strptime(text, pattern)
        if found is not None:
            return found.date()
    match = _EITHER_ORDER.fullmatch(text)
    if match and (int(match[1]) > 12 or int(match[3]) > 12 or match[1] == match[3] or match[2] == "."):
        day_first = match[2] == "." or int(match[1]) > 12
        found = _strptime(text, f"%d{match[2]}%m{match[2]}%Y" if day_first else f"%m{match[2]}%d{match[2]}%Y")
        return found.date() if found else None
    return None  # 03/04/2026 could be March or April: never guessed


def _strptime(text: str, pattern: str) -> datetime | None:
    if not text.isascii() or ("%d" in pattern and pattern.replace("%", "").isalpha() and len(text) not in (6, 8)):
        return None
    try:
        return datetime.strptime(text, pattern)
    except ValueError:
        return None


def datetime_parser(pattern: str) -> Rule:
    """Return the parser of a date-time column: UTC in the result; a time without an offset is UTC."""

    def parse(text: str) -> str | Reject:
        expected = "a date-time " + (pattern if pattern not in ("default", "any") else "YYYY-MM-DDThh:mm:ssZ")
        try:
            if pattern in ("default", "any", ""):
                if not text.isascii() or not re.match(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}", text):
                    return Reject("bad_time", expected)
                moment = datetime.fromisoformat(text)
            else:
                moment = datetime.strptime(text, pattern)
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            return Reject("bad_time", expected)
        stamp = moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
        return stamp + (f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else "") + "Z"

    return parse


def time_parser(pattern: str) -> Rule:
    """Return the parser of a time column."""

    def parse(text: str) -> str | Reject:
        try:
            if pattern not in ("default", "any", ""):
                return datetime.strptime(text, pattern).strftime("%H:%M:%S")
            if re.fullmatch(r"\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?", text, re.ASCII):
                return time.fromisoformat(text).isoformat()
        except ValueError:
            pass
        return Reject("bad_time", "a time " + (pattern if pattern not in ("default", "any", "") else "hh:mm:ss"))

    return parse
