"""Publishing a week: an immutable folder and one atomic pointer switch; readers never see half a week (R66, N10)."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from domain import lake_paths
from domain.errors import BlobConflict, BlobNotFound, Conflict, IntegrityError, NotFound
from domain.ports import Lake
from domain.sales_weeks import SalesWeek
from orchestrators.audit import append_audit
from orchestrators.ledger import RunLedger
from orchestrators.services import RunServices

FORECASTS = "forecasts.csv"
MAX_TRIES = 10


def publish_week(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Publish a run's staged week. The same bytes again are the same version, and nothing is written twice."""
    lake = services.lake
    run = RunLedger(lake).run(request["run_id"])
    week = SalesWeek.parse(run["sales_week"])
    staged = run["staged"]
    version = staged["sha256"][:16]
    folder = lake_paths.published_folder(week, version)
    now = services.clock.now().isoformat(timespec="milliseconds")
    with suppress(BlobConflict):  # published before: the folder is named by its bytes
        lake.copy(lake_paths.STAGING, staged["path"], lake_paths.PUBLISHED, folder + FORECASTS, if_none_match=True)
    manifest = {
        "schema": "shelfcast.published/1", "sales_week": str(week), "publish_version": version,
        "rows": staged["rows"], "sha256": staged["sha256"], "units": staged["units"], "run_id": run["run_id"],
        "correlation_id": run["correlation_id"], "as_of_version": run["as_of_version"],
        "code_version": run["code_version"], "produced_at": now,
        "valid_from": week.monday.isoformat(), "valid_until": week.sunday.isoformat(),
    }
    try:
        lake.write_json(lake_paths.PUBLISHED, f"{folder}manifest.json", manifest, if_none_match=True)
    except BlobConflict:
        manifest, _ = lake.read_json(lake_paths.PUBLISHED, f"{folder}manifest.json")
    switched = switch_pointer(lake, week, version, run["run_id"], now)
    if switched:
        append_audit(
            lake, services.clock.now(), f"run {run['run_id']}", "week_published", str(week),
            {"publish_version": version, "rows": staged["rows"]},
        )
        services.telemetry.event(
            "week_published",
            {"run_id": run["run_id"], "sales_week": str(week), "publish_version": version,
             "correlation_id": run["correlation_id"]},
            {"rows": float(staged["rows"])},
        )
    publish = {"version": version, "rows": staged["rows"], "published_at": now, "path": f"{folder}{FORECASTS}"}
    return {
        "counts": {"rows": staged["rows"], "switched": int(switched)},
        "message": f"{staged['rows']} forecasts as version {version}" + ("" if switched else " (unchanged)"),
        "facts": {"publish": publish},
    }


def switch_pointer(lake: Lake, week: SalesWeek, version: str, run_id: str, now: str) -> bool:
    """Make `version` the one that readers of the week take; False if it is already. Earlier versions stay listed."""
    path = lake_paths.published_current(week)
    for _ in range(MAX_TRIES):
        etag: str | None = None
        history: list[dict[str, Any]] = []
        try:
            current, etag = lake.read_json(lake_paths.PUBLISHED, path)
        except BlobNotFound:
            pass
        else:
            if current["publish_version"] == version:
                return False
            history = [*current["history"], {key: current[key] for key in ("publish_version", "run_id", "switched_at")}]
        pointer = {"publish_version": version, "run_id": run_id, "switched_at": now, "history": history}
        try:
            lake.write_json(lake_paths.PUBLISHED, path, pointer, if_match=etag, if_none_match=etag is None)
        except BlobConflict:
            continue
        return True
    raise Conflict(f"the pointer of {week} is switched by others without end")


def roll_back_week(services: RunServices, sales_week: str, actor: str, reason: str) -> dict[str, Any]:
    """Make the version before the current one current again; raise Conflict if there is none."""
    week = SalesWeek.parse(sales_week)
    pointer = current_version(services.lake, week)
    earlier = [entry for entry in pointer["history"] if entry["publish_version"] != pointer["publish_version"]]
    if not earlier:
        raise Conflict(f"{week} has no earlier version to go back to", sales_week=str(week), remedy="nothing to do")
    target = earlier[-1]
    now = services.clock.now()
    at = now.isoformat(timespec="milliseconds")
    switch_pointer(services.lake, week, target["publish_version"], target["run_id"], at)
    append_audit(
        services.lake, now, actor, "week_rolled_back", str(week),
        {"from": pointer["publish_version"], "to": target["publish_version"], "reason": reason},
    )
    services.results.set_current(str(week), target["run_id"])
    return current_version(services.lake, week)


def current_version(lake: Lake, week: SalesWeek) -> dict[str, Any]:
    """Return the pointer document of a week; raise NotFound if nothing is published."""
    try:
        return dict(lake.read_json(lake_paths.PUBLISHED, lake_paths.published_current(week))[0])
    except BlobNotFound as error:
        raise NotFound(f"nothing is published for {week}", sales_week=str(week), remedy="run the week first") from error


def published_bytes(lake: Lake, week: SalesWeek) -> tuple[bytes, dict[str, Any]]:
    """Return (forecasts.csv, manifest) of the week's current version; raise NotFound or IntegrityError."""
    import hashlib

    version = current_version(lake, week)["publish_version"]
    folder = lake_paths.published_folder(week, version)
    manifest, _ = lake.read_json(lake_paths.PUBLISHED, f"{folder}manifest.json")
    data = lake.read(lake_paths.PUBLISHED, folder + FORECASTS).data
    if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
        raise IntegrityError(f"{folder}{FORECASTS} does not have the bytes that its manifest promises")
    return data, dict(manifest)
