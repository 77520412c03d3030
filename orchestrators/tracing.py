"""What ties everything that a run does together: the same identifiers in events, job tags, tables and links."""

from __future__ import annotations

from typing import Any

from domain.tracing import derived_trace, parse_traceparent
from orchestrators.ledger import Document


def operation_id(run: Document) -> str:
    """Return the trace under which telemetry reports the run: its caller's, else the one of its correlation id."""
    trace = parse_traceparent(run.get("traceparent"))
    return (trace or derived_trace(run["correlation_id"] or run["run_id"])).trace_id


def run_dimensions(run: Document) -> dict[str, Any]:
    """Return what every event of a run says of it; `traceparent` gives the event its operation."""
    return {key: run[key] for key in ("run_id", "kind", "sales_week", "correlation_id")} | {
        "traceparent": run.get("traceparent", "")
    }
