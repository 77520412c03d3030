"""What may leave the process: dimensions as text, measures as finite numbers, turned before they are queued.

A datetime, a path or a numpy value is sent by OpenCensus when all is well, and lost when the batch must go to
disk first. So nothing but text and floats reaches the queue.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

TEXT_LIMIT = 8192  # Application Insights cuts a property's value here
KEY_LIMIT = 150


def as_texts(dimensions: Mapping[str, Any]) -> dict[str, str]:
    """Return the dimensions as text; absent values are left out."""
    return {str(key)[:KEY_LIMIT]: as_text(value) for key, value in dimensions.items() if value is not None}


def as_text(value: Any) -> str:
    """Return one value as text, the same for the same value on every machine."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, datetime | date):
        text = value.isoformat()
    elif isinstance(value, list | tuple | dict):
        text = json.dumps(value, default=str, ensure_ascii=False, sort_keys=True)
    else:
        text = str(value)
    # A lone surrogate (an undecodable file name) would make the whole batch unencodable.
    return text.encode("utf-8", "replace").decode("utf-8")[:TEXT_LIMIT]


def as_numbers(measures: Mapping[str, Any]) -> dict[str, float]:
    """Return the measures as floats; what is no finite number is left out."""
    numbers = {}
    for key, value in measures.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        if math.isfinite(number):
            numbers[str(key)[:KEY_LIMIT]] = number
    return numbers


@dataclass(frozen=True)
class Item:
    """One thing to report, ready to be written anywhere: text, finite numbers, time as ISO 8601 UTC."""

    kind: str  # event | exception | gauge | dependency
    name: str
    time: str
    operation_id: str
    parent_id: str
    dimensions: dict[str, str]
    measures: dict[str, float]
    stack: tuple[dict[str, Any], ...] = ()  # exception: frames, innermost first
    span_id: str = ""  # dependency: its own id
    success: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of the local log."""
        shown: dict[str, Any] = {
            "time": self.time, "kind": self.kind, "name": self.name, "operation_id": self.operation_id,
            "parent_id": self.parent_id, "dimensions": self.dimensions, "measures": self.measures,
        }
        if self.stack:
            shown["stack"] = list(self.stack)
        if self.kind == "dependency":
            shown |= {"span_id": self.span_id, "success": self.success}
        return shown
