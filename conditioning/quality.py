"""Quality of a source, week by week, and its freshness: read from the outcome documents."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from conditioning.registry import find_source, source_names
from domain.errors import BadRequest, BlobNotFound
from domain.lake_paths import CONDITIONED, LANDING, LandingFile
from domain.ports import BlobInfo, Lake
from domain.sales_weeks import SalesWeek, weeks_between

if TYPE_CHECKING:
    from conditioning.service import ConditioningServices

_READ_AHEAD = 8
# What was read of an outcome document, by its path and ETag: a year of nine sources is some 470 of them.
_known: WeakKeyDictionary[Lake, dict[str, tuple[str, str]]] = WeakKeyDictionary()
_NO_COUNTS = {"records_read": 0, "conditioned": 0, "quarantined": 0, "duplicates": 0, "by_reason": {}}


def sources_overview(services: ConditioningServices) -> list[dict[str, Any]]:
    """Return what is known of every source: contract, owner, origin, cadence, how fresh it is."""
    found = []
    weeks_of = {name: _current_weeks(services, name) for name in source_names()}
    newest = max((weeks[-1] for weeks in weeks_of.values() if weeks), default=None)
    for name, weeks in weeks_of.items():
        source = find_source(name)
        business = services.scenario.source(name)
        found.append(
            {
                "name": name,
                "title": source.contract.name.replace("_", " "),
                "contract_version": source.contract.version,
                "rules_version": source.rules_version,
                "dialects": [dialect.name for dialect in source.spec.dialects],
                "columns": source.contract.names,
                "cadence": business.cadence if business else "",
                "required": bool(business and business.required),
                "owner": business.owner if business else "",
                "origin": business.origin if business else "",
                "max_age_weeks": business.max_age_weeks if business else None,
                "weeks": len(weeks),
                "latest_week": str(weeks[-1]) if weeks else "",
                "state": _state(weeks, newest, business.max_age_weeks if business else None),
            }
        )
    return found


def _state(weeks: list[SalesWeek], newest: SalesWeek | None, max_age_weeks: int | None) -> str:
    """Say how a source stands against the newest week that any source has: fresh, late or absent."""
    if not weeks or newest is None:
        return "absent"
    return "late" if max_age_weeks is not None and newest.weeks_since(weeks[-1]) > max_age_weeks else "fresh"


def _current_weeks(services: ConditioningServices, source: str) -> list[SalesWeek]:
    return sorted(
        SalesWeek.parse(info.path.split("/")[1])
        for info in services.lake.list(CONDITIONED, f"{source}/")
        if info.path.endswith("/current.json")
    )


def quality_of(services: ConditioningServices, source: str) -> list[dict[str, Any]]:
    """Return one summary per week of the source, oldest first; weeks with a gap in between are named `missing`.

    A week's summary is of its current version, or of its newest outcome where nothing could be published.
    """
    find_source(source)
    lake = services.lake
    current: dict[str, str] = {}
    outcomes: dict[str, dict[str, BlobInfo]] = {}
    for info in lake.list(CONDITIONED, f"{source}/"):
        week = info.path.split("/")[1]
        if info.path.endswith("/current.json"):
            current[week] = info.metadata.get("data_version", "")
        elif info.path.endswith(".manifest.json"):
            outcomes.setdefault(week, {})[info.path] = info
    chosen = [
        found.get(f"{source}/{week}/{current.get(week)}.manifest.json")
        or max(found.values(), key=lambda info: (info.last_modified, info.path))
        for week, found in outcomes.items()
    ]
    with ThreadPoolExecutor(_READ_AHEAD) as pool:
        read = list(pool.map(lambda info: _summary_of(services, info), chosen))
    summaries = {
        week: summary | {"is_current": week in current, "versions": len(found)}
        for (week, found), summary in zip(outcomes.items(), read, strict=True)
        if summary is not None
    }
    business = services.scenario.source(source)
    if summaries and business is not None and not business.is_snapshot:
        weeks = [SalesWeek.parse(week) for week in summaries]
        for gap in weeks_between(min(weeks), max(weeks)):
            summaries.setdefault(
                str(gap),
                {"source": source, "sales_week": str(gap), "status": "missing", "is_current": False, **_NO_COUNTS},
            )
    return [summaries[week] for week in sorted(summaries)]


def _summary_of(services: ConditioningServices, info: BlobInfo) -> dict[str, Any] | None:
    known = _known.setdefault(services.lake, {})
    etag, text = known.get(info.path, ("", ""))
    if etag != info.etag:
        try:
            document, etag = services.lake.read_json(CONDITIONED, info.path)
        except BlobNotFound:
            return None
        text = json.dumps(_summary(document))
        known[info.path] = (etag, text)
    return dict(json.loads(text))


def _summary(document: dict[str, Any]) -> dict[str, Any]:
    data = document["outputs"]["data"] or {}
    return {
        "source": document["source"],
        "sales_week": document["sales_week"],
        "status": document["status"],
        "data_version": document["data_version"],
        "contract_version": document["contract_version"],
        "source_file": document["input"]["path"],
        "arrived_at": document["input"]["arrived_at"],
        "days_after_week": document["quality"]["freshness"].get("days_after_week"),
        "conditioned_at": document["ended_at"],
        "seconds": document["seconds"],
        "rows": data.get("rows", 0),
        "bytes": document["input"]["bytes"],
        **{
            name: document["counts"][name]
            for name in ("records_read", "conditioned", "quarantined", "duplicates", "by_reason")
        },
        "quarantined_share": document["quality"]["quarantined_share"],
        "columns": document["quality"]["columns"],
        "warnings": document["warnings"],
        "error": document.get("error", {}).get("message", ""),
        "correlation_id": document["correlation_id"],
    }


def misplaced_files(services: ConditioningServices, source: str) -> list[str]:
    """Return files below the source's landing folder that lie where no week is."""
    wrong = []
    for info in services.lake.list(LANDING, f"{source}/"):
        try:
            LandingFile.parse(info.path)
        except BadRequest:
            wrong.append(info.path)
    return wrong
