"""Time spans (`d.hh:mm:ss`) and instants as Data Factory writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from devhost.adf.errors import FactoryError

_SPAN = re.compile(r"(?P<sign>-)?(?:(?P<d>\d+)\.)?(?P<h>\d{1,2}):(?P<m>\d{1,2})(?::(?P<s>\d{1,2})(?:\.\d+)?)?")


def span_seconds(text: object) -> float:
    """Seconds of a time span; a bare number counts as seconds, a bare integer text as days (.NET's reading).

    Raises FactoryError for anything else.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    found = _SPAN.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        if isinstance(text, str) and text.strip().isdigit():
            return int(text) * 86400.0
        raise FactoryError(f"{text!r} is not a time span; write d.hh:mm:ss, for example 0.01:30:00")
    seconds = int(found["d"] or 0) * 86400 + int(found["h"]) * 3600 + int(found["m"]) * 60 + int(found["s"] or 0)
    return float(-seconds if found["sign"] else seconds)


def instant(text: str) -> datetime:
    """An ISO instant as an aware UTC datetime; without an offset it is UTC. Raises FactoryError."""
    trimmed = re.sub(r"(\.\d{6})\d+", r"\1", text.strip())
    try:
        when = datetime.fromisoformat(trimmed)
    except ValueError:
        raise FactoryError(f"{text!r} is not an ISO date and time") from None
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def stamp(when: datetime) -> str:
    """The service's spelling of an instant: UTC, seven decimals, Z."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "0Z"


def short_stamp(when: datetime) -> str:
    """Whole seconds, as trigger windows are written."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
