"""The data gate: is what the lake holds good enough to train and score a week on? Reasons, never a bare no."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from conditioning.reasons import UNCOUNTED
from domain.errors import BlobNotFound
from domain.lake_paths import CONDITIONED
from domain.ports import Lake
from domain.sales_weeks import SalesWeek, weeks_between
from domain.scenario import Scenario, Source

MAX_ORPHAN_SHARE = 0.9
"""Deliveries without a reference row are reported; only when nearly all are does the gate shut."""
REMEDY = (
    "Bring the missing or corrected files to landing/SOURCE/WEEK/ (GET /api/quality/SOURCE says what was refused and "
    "why) and run the week again; to go on without them, start the run with override_gate and a reason"
)


def data_gate(
    lake: Lake, scenario: Scenario, sales_week: SalesWeek, failed_sources: Iterable[str] = ()
) -> dict[str, Any]:
    """Return {open, reasons, warnings, remedy, sources}: whether the week's run may go on, and every reason why not.

    Weekly sources count up to the week before the run week; snapshots up to the run week. What the lake holds decides;
    a source whose conditioning has just failed (`failed_sources`) is named, since newer files may wait for it.
    """
    reasons: list[str] = []
    warnings = [f"{name}: conditioning failed in this run; what the lake had before counts" for name in failed_sources]
    sources: dict[str, dict[str, Any]] = {}
    for source in scenario.sources:
        found = _source_state(lake, scenario, source, sales_week)
        sources[source.name] = found
        if found["state"] == "ok":
            continue
        sentence = f"{source.name}: {found['detail']}"
        (reasons if source.required or found["state"] == "too_many_quarantined" else warnings).append(sentence)
    orphans = _orphans(lake, sources)
    for name, found in orphans.items():
        if found["orphans"]:
            sentence = (
                f"deliveries: {found['orphans']} of {found['delivered']} {name} are not in the reference "
                f"({found['row_share']:.1%} of rows)"
            )
            (reasons if found["row_share"] > MAX_ORPHAN_SHARE else warnings).append(sentence)
    return {
        "sales_week": str(sales_week),
        "open": not reasons,
        "reasons": reasons,
        "warnings": warnings,
        "remedy": REMEDY if reasons else "",
        "sources": sources,
        "orphans": orphans,
    }


def _source_state(lake: Lake, scenario: Scenario, source: Source, run_week: SalesWeek) -> dict[str, Any]:
    # What is known beforehand (forecasts, promotions) may be of the run week itself; what happened may not.
    latest_wanted = (
        run_week if source.is_snapshot or source.name in ("weather_forecast", "promotions") else run_week.plus(-1)
    )
    pointers: dict[SalesWeek, str] = {}
    outcomes: dict[str, dict[str, str]] = {}
    newest: dict[SalesWeek, tuple[Any, str]] = {}
    for info in lake.list(CONDITIONED, f"{source.name}/"):
        week = SalesWeek.parse(info.path.split("/")[1])
        if week > latest_wanted:
            continue
        if info.path.endswith("/current.json"):
            pointers[week] = info.metadata.get("data_version", "")
        elif info.path.endswith(".manifest.json"):
            outcomes[info.path] = info.metadata
            newest[week] = max(newest.get(week, (info.last_modified, info.path)), (info.last_modified, info.path))
    if not pointers:
        refused = [path for _, path in newest.values()]
        detail = (
            f"every file up to {latest_wanted} was refused ({refused[-1]})"
            if refused
            else f"nothing was conditioned up to {latest_wanted}"
        )
        return {
            "state": "absent",
            "detail": detail,
            "latest_week": "",
            "status": "",
            "rows": 0,
            "quarantined_share": 0.0,
            "missing_weeks": [],
        }
    week = max(pointers)
    metadata = outcomes.get(f"{source.name}/{week}/{pointers[week]}.manifest.json", {})
    share = _quarantined_share(lake, source.name, week, pointers[week], metadata)
    last_refused = newest.get(week, (None, ""))[1]
    found: dict[str, Any] = {
        "state": "ok",
        "detail": "",
        "latest_week": str(week),
        "status": metadata.get("status", ""),
        "rows": int(metadata.get("conditioned", 0)),
        "quarantined_share": share,
        "data_version": pointers[week],
        "missing_weeks": []
        if source.is_snapshot
        else [str(gap) for gap in weeks_between(min(pointers), week) if gap not in pointers],
    }
    age = latest_wanted.weeks_since(week)
    if source.is_snapshot or not source.required:
        if age > source.max_age_weeks:
            found |= {
                "state": "stale",
                "detail": f"the latest is of {week}, {age} weeks before {latest_wanted}; "
                f"{source.max_age_weeks} are allowed",
            }
    elif age > 0:
        found |= {"state": "missing", "detail": f"{latest_wanted} is missing; the latest is of {week}"}
    if found["state"] == "ok" and share > scenario.max_quarantine_share:
        found |= {
            "state": "too_many_quarantined",
            "detail": f"{share:.1%} of the records of {week} are quarantined; "
            f"{scenario.max_quarantine_share:.1%} are allowed",
        }
    if found["state"] == "ok" and outcomes.get(last_refused, {}).get("status") == "rejected":
        found["superseding_file_rejected"] = last_refused
    return found


def _quarantined_share(lake: Lake, source: str, week: SalesWeek, version: str, metadata: dict[str, str]) -> float:
    """Return the share of bad records; records that the contract leaves out on purpose do not count."""
    read, bad = int(metadata.get("records_read", 0)), int(metadata.get("quarantined", 0))
    if not read or not bad:
        return 0.0
    try:
        document, _ = lake.read_json(CONDITIONED, f"{source}/{week}/{version}.manifest.json")
    except BlobNotFound:
        return round(bad / read, 6)
    excluded = sum(document["counts"]["by_reason"].get(code, 0) for code in UNCOUNTED)
    return float(round((bad - excluded) / read, 6))


def _orphans(lake: Lake, sources: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return, for stores and products, how many of the delivered ones have no reference row (latest week)."""
    delivered = _current(lake, "deliveries", sources)
    if delivered is None:
        return {}
    found = {}
    for name, column in (("stores", "store_id"), ("products", "product_id")):
        reference = _current(lake, name, sources)
        if reference is None:
            continue
        known = {row[column] for row in csv.DictReader(io.StringIO(reference))}
        seen: dict[str, int] = {}
        for row in csv.DictReader(io.StringIO(delivered)):
            seen[row[column]] = seen.get(row[column], 0) + 1
        orphans = {key: rows for key, rows in seen.items() if key not in known}
        found[name] = {
            "delivered": len(seen),
            "orphans": len(orphans),
            "row_share": round(sum(orphans.values()) / max(sum(seen.values()), 1), 6),
            "examples": sorted(orphans)[:10],
            "never_delivered": len(known - seen.keys()),
        }
    return found


def _current(lake: Lake, source: str, sources: dict[str, dict[str, Any]]) -> str | None:
    state = sources.get(source, {})
    if not state.get("latest_week"):
        return None
    return lake.read(CONDITIONED, f"{source}/{state['latest_week']}/{state['data_version']}.csv").data.decode()
