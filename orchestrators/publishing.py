"""Publishing a week: an immutable folder and one atomic pointer switch; readers never see half a week (R66, N10)."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from domain import lake_paths
from domain.errors import BlobConflict, BlobNotFound, Conflict, IntegrityError, NotFound
from domain.ports import Lake
from domain.sales_weeks import SalesWeek
from orchestrators.audit import append_audit, audit_operator
from orchestrators.ledger import RunLedger
from orchestrators.services import RunServices
from orchestrators.tracing import run_dimensions

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
    _check_bytes(lake, folder + FORECASTS, staged["sha256"])
    manifest = {
        "schema": "shelfcast.published/1", "sales_week": str(week), "publish_version": version,
        "rows": staged["rows"], "sha256": staged["sha256"], "units": staged["units"], "run_id": run["run_id"],
        "correlation_id": run["correlation_id"], "as_of_version": run["as_of_version"],
        "code_version": run["code_version"], "produced_at": now,
        "valid_from": week.monday.isoformat(), "valid_until": week.sunday.isoformat(),
        "segment_runs": staged["segment_runs"], "built_on": staged["base"],
    }
    try:
        lake.write_json(lake_paths.PUBLISHED, f"{folder}manifest.json", manifest, if_none_match=True)
    except BlobConflict:
        manifest, _ = lake.read_json(lake_paths.PUBLISHED, f"{folder}manifest.json")
    # A run over some segments carried the others over from the version that was current then: nobody else's work may
    # be taken back by publishing on top of a newer one.
    switched = switch_pointer(lake, week, version, run["run_id"], now, only_over=staged["base"] or None)
    if current_version(lake, week)["run_id"] == run["run_id"]:  # also if this step died after it had switched
        append_audit(
            lake, services.clock.now(), f"run {run['run_id']}", "week_published", str(week),
            {"publish_version": version, "rows": staged["rows"], "built_on": staged["base"]},
            key=f"week_published/{run['run_id']}/{version}",
        )
        services.telemetry.event(
            "week_published",
            run_dimensions(run) | {"publish_version": version, "path": f"{folder}{FORECASTS}"},
            {"rows": float(staged["rows"]), "units": float(staged["units"])},
        )
    publish = {"version": version, "rows": staged["rows"], "published_at": now, "path": f"{folder}{FORECASTS}"}
    return {
        "counts": {"rows": staged["rows"], "switched": int(switched)},
        "message": f"{staged['rows']} forecasts as version {version}" + ("" if switched else " (unchanged)"),
        "facts": {"publish": publish},
    }


def switch_pointer(
    lake: Lake, week: SalesWeek, version: str, run_id: str, now: str, *, only_over: str | None = None,
    by: str = "", reason: str = "",
) -> bool:
    """Make `version` the one that readers of the week take; False if it is already. Earlier versions stay listed.

    With `only_over`, raise Conflict unless that version is still the current one.
    """
    path = lake_paths.published_current(week)
    for _ in range(MAX_TRIES):
        etag: str | None = None
        history: list[dict[str, Any]] = []
        found = ""
        try:
            current, etag = lake.read_json(lake_paths.PUBLISHED, path)
        except BlobNotFound:
            pass
        else:
            found = current["publish_version"]
            if found == version:
                return False
            history = [*current["history"], {key: current[key] for key in ("publish_version", "run_id", "switched_at")}]
        if only_over is not None and found != only_over:
            raise Conflict(
                f"{week} was switched to version {found or 'none'} while this run built on {only_over}",
                sales_week=str(week), remedy="replay the run; it carries the other segments over anew",
            )
        pointer = {"publish_version": version, "run_id": run_id, "switched_at": now, "by": by or f"run {run_id}",
                   "reason": reason, "history": history}
        try:
            lake.write_json(lake_paths.PUBLISHED, path, pointer, if_match=etag, if_none_match=etag is None)
        except BlobConflict:
            continue
        return True
    raise Conflict(f"the pointer of {week} is switched by others without end")


def roll_back_week(
    services: RunServices, sales_week: str, actor: str, reason: str, from_version: str = ""
) -> dict[str, Any]:
    """Make the version before the current one current again; raise Conflict if there is none.

    With `from_version` the call may be repeated safely: it only takes that version back, and once it did, a further
    call finds its work done.
    """
    week = SalesWeek.parse(sales_week)
    pointer = current_version(services.lake, week)
    if from_version and pointer["publish_version"] != from_version:
        if not any(entry["publish_version"] == from_version for entry in pointer["history"]):
            raise NotFound(f"{week} never had version {from_version}", sales_week=sales_week, value=from_version)
        if pointer["history"][-1]["publish_version"] != from_version:
            raise Conflict(f"{week} has moved on from {from_version} to {pointer['publish_version']}")
        _note_rollback(services, week, pointer)
        return pointer
    earlier = [entry for entry in pointer["history"] if entry["publish_version"] != pointer["publish_version"]]
    if not earlier:
        raise Conflict(f"{week} has no earlier version to go back to", sales_week=str(week), remedy="nothing to do")
    target = earlier[-1]
    at = services.clock.now().isoformat(timespec="milliseconds")
    switch_pointer(
        services.lake, week, target["publish_version"], target["run_id"], at,
        only_over=pointer["publish_version"], by=actor, reason=reason,
    )
    switched = current_version(services.lake, week)
    _note_rollback(services, week, switched)
    return switched


def _note_rollback(services: RunServices, week: SalesWeek, pointer: dict[str, Any]) -> None:
    """Carry a rollback into the audit trail and the result tables; the pointer itself says who did it and why."""
    before = pointer["history"][-1]["publish_version"]
    audit_operator(
        services, pointer["by"], "week_rolled_back", str(week),
        {"from": before, "to": pointer["publish_version"], "reason": pointer["reason"]},
        key=f"week_rolled_back/{week}/{pointer['switched_at']}",
    )
    services.results.set_current(str(week), pointer["run_id"])


def _check_bytes(lake: Lake, path: str, expected: str) -> None:
    """Raise IntegrityError unless the blob has the SHA-256 that was promised: nothing else may become current."""
    import hashlib

    digest, reader = hashlib.sha256(), lake.open_reader(lake_paths.PUBLISHED, path)
    while chunk := reader.read(1 << 22):
        digest.update(chunk)
    if digest.hexdigest() != expected:
        raise IntegrityError(f"{path} does not have the bytes that were staged; nothing was published", path=path)


def current_version(lake: Lake, week: SalesWeek) -> dict[str, Any]:
    """Return the pointer document of a week; raise NotFound if nothing is published."""
    try:
        return dict(lake.read_json(lake_paths.PUBLISHED, lake_paths.published_current(week))[0])
    except BlobNotFound as error:
        raise NotFound(f"nothing is published for {week}", sales_week=str(week), remedy="run the week first") from error


def published_bytes(lake: Lake, week: SalesWeek) -> tuple[bytes, dict[str, Any]]:
    """Return (forecasts.csv, manifest) of the week's current version; raise NotFound or IntegrityError."""
    return version_bytes(lake, week, current_version(lake, week)["publish_version"])


def version_bytes(lake: Lake, week: SalesWeek, version: str) -> tuple[bytes, dict[str, Any]]:
    """Return (forecasts.csv, manifest) of one published version of a week; raise NotFound or IntegrityError."""
    import hashlib

    folder = lake_paths.published_folder(week, version)
    manifest, _ = lake.read_json(lake_paths.PUBLISHED, f"{folder}manifest.json")
    data = lake.read(lake_paths.PUBLISHED, folder + FORECASTS).data
    if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
        raise IntegrityError(f"{folder}{FORECASTS} does not have the bytes that its manifest promises")
    return data, dict(manifest)
