"""What a re-run changed: which forecasts of a week differ between two versions, and the raw rows behind it (R132).

The way forward of lineage, as `explain` is the way back: after a raw row was corrected and the week was run again,
this names exactly the forecasts that it moved.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import Any

from domain import lake_paths
from domain.errors import BlobNotFound, NotFound
from domain.ports import Lake
from domain.sales_weeks import SalesWeek
from orchestrators.ledger import Document, RunLedger
from orchestrators.publishing import current_version, version_bytes
from orchestrators.services import RunServices

RAW_ROWS_NAMED = 200  # of each changed file; a new delivery may differ in every row
_NUMBERS = ("units", "order_units")
_SHOWN = (*_NUMBERS, "model", "model_version", "failover")
_Key = tuple[str, str]


def compare_versions(
    services: RunServices, sales_week: str, from_version: str, to_version: str, limit: int
) -> Document:
    """Return the forecasts whose numbers differ between two versions of a week, and how the data of their runs differ.

    The same number by another model is no change. By default the version that readers see now is compared with the one
    before it. Raises NotFound if there is no such version.
    """
    week = SalesWeek.parse(sales_week)
    pointer = current_version(services.lake, week)
    after = to_version or pointer["publish_version"]
    earlier = [entry["publish_version"] for entry in pointer["history"] if entry["publish_version"] != after]
    before = from_version or (earlier[-1] if earlier else "")
    if not before:
        raise NotFound(f"{week} has one version only, nothing to compare it with", sales_week=sales_week,
                       remedy="run the week again first")
    old, old_manifest = _version(services.lake, week, before)
    new, new_manifest = _version(services.lake, week, after)
    old_rows, new_rows = _changed_rows(old, new), _changed_rows(new, old)
    both = ((key, old_rows.get(key), new_rows.get(key)) for key in sorted(old_rows.keys() | new_rows.keys()))
    changed = [(key, was, now) for key, was, now in both if _numbers(was) != _numbers(now)]
    sources = _changed_data(services.lake, _pins(services, old_manifest), _pins(services, new_manifest))
    return {
        "sales_week": sales_week, "from_version": before, "to_version": after,
        "from_run_id": old_manifest["run_id"], "to_run_id": new_manifest["run_id"], "total": len(changed),
        "rows": [
            {"store_id": key[0], "product_id": key[1], "segment": (was or now or {})["segment"],
             "before": _shown(was), "after": _shown(now)}
            for key, was, now in changed[:limit]
        ],
        "sources": sources,
    }


def _version(lake: Lake, week: SalesWeek, version: str) -> tuple[bytes, Document]:
    try:
        return version_bytes(lake, week, version)
    except BlobNotFound as error:
        raise NotFound(f"{week} never had version {version}", sales_week=str(week), value=version) from error


def _changed_rows(data: bytes, other: bytes) -> dict[_Key, dict[str, str]]:
    """Return the rows whose lines the other version does not have."""
    header, *lines = data.decode().splitlines()
    missing = set(lines).difference(other.decode().splitlines())
    return {(row["store_id"], row["product_id"]): row for row in csv.DictReader([header, *sorted(missing)])}


def _numbers(row: dict[str, str] | None) -> list[str] | None:
    return None if row is None else [row[name] for name in _NUMBERS]


def _shown(row: dict[str, str] | None) -> Document | None:
    """Return what readers see of a forecast; nothing if that version does not have it."""
    return None if row is None else {name: float(row[name]) if name in _NUMBERS else row[name] for name in _SHOWN}


def _pins(services: RunServices, manifest: Document) -> dict[str, dict[str, str]]:
    run = RunLedger(services.lake).run(manifest["run_id"])
    container, folder = lake_paths.parse_datastore_uri(run["folder"])
    return dict(services.lake.read_json(container, folder + "manifest.json")[0]["pins"])


def _changed_data(
    lake: Lake, before: dict[str, dict[str, str]], after: dict[str, dict[str, str]]
) -> list[dict[str, Any]]:
    """Return each source and week of which the two runs read different versions, with the raw rows that differ."""
    found = []
    for source in sorted(before.keys() | after.keys()):
        old, new = before.get(source, {}), after.get(source, {})
        for week in sorted(old.keys() | new.keys()):
            if old.get(week) != new.get(week):
                rows = _raw_rows(lake, source, week, old.get(week)), _raw_rows(lake, source, week, new.get(week))
                found.append({
                    "source": source, "sales_week": week, "from_version": old.get(week), "to_version": new.get(week),
                    "rows": list(_differing(*rows))[:RAW_ROWS_NAMED],
                })
    return found


def _raw_rows(lake: Lake, source: str, week: str, version: str | None) -> dict[str, dict[str, str]]:
    """Return the conditioned rows of a data version by the number of their raw row."""
    if version is None:
        return {}
    try:
        path = lake_paths.conditioned_data(source, SalesWeek.parse(week), version)
        data = lake.read(lake_paths.CONDITIONED, path).data
    except BlobNotFound:
        return {}
    return {row["source_row"]: row for row in csv.DictReader(data.decode().splitlines())}


def _differing(old: dict[str, dict[str, str]], new: dict[str, dict[str, str]]) -> Iterable[dict[str, Any]]:
    for number in sorted(old.keys() | new.keys(), key=int):
        was, now = old.get(number, {}), new.get(number, {})
        fields = {
            name: [was.get(name), now.get(name)] for name in sorted(was.keys() | now.keys())
            if name not in ("source_file", "source_row") and was.get(name) != now.get(name)
        }
        if fields:
            yield {"source_row": int(number), "source_file": (now or was)["source_file"], "fields": fields}
