"""Time zones by the names that Data Factory uses (Windows' names), as IANA zones."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from devhost.adf.errors import FactoryError
from devhost.adf.expressions import load_engine


@lru_cache(maxsize=64)
def zone(name: str) -> tzinfo:
    """The zone of a Windows or IANA name. Raises FactoryError for an unknown one."""
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo(_iana(name))


def to_utc(local: datetime, where: tzinfo) -> datetime:
    """A wall-clock time as UTC: a time skipped in spring moves an hour on, a repeated one in autumn is its first."""
    return local.replace(tzinfo=where, fold=0).astimezone(UTC)


def _iana(name: str) -> str:
    load_engine()
    from System import TimeZoneInfo  # type: ignore[import-not-found]  # .NET's, there once the engine is loaded

    known, iana = TimeZoneInfo.TryConvertWindowsIdToIanaId(name, None)
    if not known:
        raise FactoryError(f"time zone {name!r} is not known; use a name such as 'Central Standard Time' or 'UTC'")
    return str(iana)
