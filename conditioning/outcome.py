"""The outcome document of one raw file: what came in, where every record ended, what went out, under which rules."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from conditioning.conditioner import Judged, reasons_of
from conditioning.version import CONDITIONER_VERSION
from domain.ports import BlobInfo
from domain.sales_weeks import SalesWeek

SCHEMA = "shelfcast.outcome/1"


def outcome_document(
    judged: Judged,
    *,
    source: str,
    week: SalesWeek | None,
    status: str,
    version: str,
    contract_version: str,
    code_version: str,
    path: str,
    info: BlobInfo | None,
    outputs: dict[str, Any],
    started: datetime,
    ended: datetime,
    correlation_id: str,
    reason: str,
    parent: str = "",
) -> dict[str, Any]:
    """Build the document; every value is JSON."""
    opened, table = judged.opened, judged.table
    refused = judged.refused
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "source": source,
        "sales_week": str(week) if week else "",
        "status": status,
        "data_version": version,
        "contract_version": contract_version,
        "conditioner_version": CONDITIONER_VERSION,
        "code_version": code_version,
        "input": {
            "path": path,
            "etag": info.etag if info else "",
            "bytes": judged.bytes,
            "sha256": judged.sha256,
            "format": opened.format if opened else "unknown",
            "dialect": opened.dialect if opened else "",
            "encoding": opened.found_encoding if opened else "unknown",
            **(opened.details if opened else {}),
            "arrived_at": _text(info.last_modified) if info else "",
        },
        "counts": judged.counts.to_dict(),
        "reasons": reasons_of(judged),
        "quality": {
            "columns": table.quality() if table and refused is None else {},
            "quarantined_share": round(judged.counts.quarantined / max(judged.counts.records_read, 1), 6),
            "freshness": _freshness(week, info),
        },
        "outputs": outputs,
        "started_at": _text(started),
        "ended_at": _text(ended),
        "seconds": round((ended - started).total_seconds(), 3),
        "correlation_id": correlation_id,
        "reason": reason,
        "warnings": judged.warnings,
    }
    if parent:
        document["parent"] = parent
    if refused is not None:
        document["error"] = {
            "code": refused.reason,
            "message": refused.message,
            **{key: value for key, value in refused.fields.items() if key != "reason"},
        }
    return document


def _freshness(week: SalesWeek | None, info: BlobInfo | None) -> dict[str, Any]:
    """Say how many days after its sales week ended the file arrived (negative: before the end)."""
    if week is None or info is None:
        return {}
    return {"days_after_week": (info.last_modified.date() - week.sunday).days}


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def clipped(document: dict[str, Any]) -> dict[str, Any]:
    """Return what a caller needs at once: the outcome without the column figures."""
    keys = ("sales_week", "status", "data_version", "contract_version", "counts", "warnings", "error")
    short = {key: document[key] for key in keys if key in document}
    short["file"] = document["input"]["path"]
    short["outputs"] = document["outputs"]
    return short
