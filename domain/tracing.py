"""Which operation work belongs to: the trace of a W3C `traceparent`, else what its correlation id stands for."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$")
_GUID = re.compile(r"^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$")
_NONE = re.compile(r"^0+$")


@dataclass(frozen=True)
class Trace:
    """An operation (32 hexadecimal digits) and the span in it that work belongs to (16)."""

    trace_id: str
    span_id: str


def parse_traceparent(text: object) -> Trace | None:
    """Read a W3C traceparent; None for anything that is none."""
    match = _TRACEPARENT.match(text.strip().lower() if isinstance(text, str) else "")
    if not match or _NONE.match(match[1]) or _NONE.match(match[2]):
        return None
    return Trace(match[1], match[2])


def derived_trace(root: str) -> Trace:
    """Return the trace that stands for a correlation id (or run id) without one: the same for the same text.

    A GUID, such as the RunId of a Data Factory pipeline, is its own trace id; other text is hashed.
    """
    digest = hashlib.sha256(root.encode()).hexdigest()
    guid = root.lower().replace("-", "") if _GUID.match(root.lower()) else ""
    return Trace(guid if guid and not _NONE.match(guid) else digest[:32], digest[32:48])
