"""What people read: runs, models, forecasts, and where a number comes from."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import date
from typing import Any

from domain import lake_paths
from domain.errors import BlobNotFound, NotFound
from domain.job_states import Phase
from domain.ports import ModelVersion
from domain.sales_weeks import SalesWeek
from domain.staleness import age_days, is_stale
from orchestrators import job_plans, registry_names
from orchestrators.costing import run_cost
from orchestrators.ledger import Document, RunLedger
from orchestrators.publishing import published_bytes
from orchestrators.services import RunServices

EXPLAIN_WEEKS = 8  # raw rows are shown for this many weeks before the forecast
READERS = 8


def run_rows(services: RunServices, limit: int) -> list[Document]:
    """Return the newest runs, without their details."""
    keys = ("run_id", "kind", "sales_week", "attempt", "status", "started_at", "ended_at", "correlation_id", "message",
            "replay_of")
    return [
        {key: run[key] for key in keys} | {
            "summary": {
                "completeness": run.get("completeness"), "quality": run.get("model_quality"),
                "failovers": run.get("failovers", 0), "publish": run.get("publish"),
                "step": next((step["name"] for step in run["steps"] if step["status"] == "running"), ""),
            }
        }
        for run in RunLedger(services.lake).runs(limit)
    ]


def run_details(services: RunServices, run_id: str) -> Document:
    """Return everything that the ledger knows of a run."""
    ledger = RunLedger(services.lake)
    run = ledger.run(run_id)
    steps = [step | {"seconds": _seconds(step["started_at"], step["ended_at"])} for step in run["steps"]]
    lineup = (ledger.noted(run_id, "lineup") or {"lineup": {}})["lineup"]
    return run | {
        "steps": steps,
        "jobs": {phase: _jobs(ledger, run_id, phase) for phase in job_plans.STEP_OF_PHASE},
        "decisions": ledger.noted(run_id, "decisions", []),
        "verdicts": _verdicts_with_failover(ledger.noted(run_id, "verdicts", []), lineup),
        "lineup": lineup,
        "quality": ledger.noted(run_id, "model_quality"),
        "completeness": ledger.noted(run_id, "completeness"),
        "cost": run.get("cost") or run_cost(services, run_id),
    }


def _jobs(ledger: RunLedger, run_id: str, phase: str) -> Document:
    items = (ledger.jobs(run_id, phase) or {"items": {}})["items"].values()
    counts: Document = {state.value: sum(1 for item in items if item["phase"] == state.value) for state in Phase}
    shown = ("unit", "name", "phase", "status", "submitted_at", "started_at", "ended_at", "error", "adopted_from",
             "preempted")
    return counts | {
        "adopted": sum(1 for item in items if item["adopted_from"]),
        "items": [{key: item[key] for key in shown} | {"segment": item["unit"]} for item in items],
    }


def _verdicts_with_failover(verdicts: list[Document], lineup: Document) -> list[Document]:
    return [
        verdict | {"failover": lineup.get(verdict["segment"], {}).get("failover", False),
                   "scored_by": lineup.get(verdict["segment"], {}).get("source", "")}
        for verdict in verdicts
    ]


def model_rows(services: RunServices) -> Document:
    """Return the model that stands for each segment, the quality of all together, and what needs a person."""
    versions = services.registry.models()
    production = {version.name: version for version in registry_names.production_of(versions)}
    newest: dict[str, ModelVersion] = {}
    for version in versions:
        newest.setdefault(version.name, version)
    today = services.clock.now().date()
    latest = next((run for run in RunLedger(services.lake).runs(20) if run.get("model_quality")), None)
    reference = SalesWeek.parse(latest["sales_week"]).monday if latest else today
    lineup = _lineup_of(services, latest)
    rows = [
        _model_row(services, production.get(name) or version, reference, lineup)
        for name, version in sorted(newest.items())
    ]
    quality = RunLedger(services.lake).noted(latest["run_id"], "model_quality") if latest else None
    return {
        "models": rows, "overall": (quality or {}).get("overall"), "groups": (quality or {}).get("groups", []),
        "reference_date": reference.isoformat(), "run_id": latest["run_id"] if latest else "",
        "mape_target": services.scenario.mape_target, "mission_mape": services.scenario.mission_mape,
        "stale_after_days": services.scenario.stale_after_days,
    }


def _lineup_of(services: RunServices, run: Document | None) -> Document:
    noted = RunLedger(services.lake).noted(run["run_id"], "lineup") if run else None
    return dict((noted or {"lineup": {}})["lineup"])


def _model_row(services: RunServices, version: ModelVersion, reference: date, lineup: Document) -> Document:
    verdict: Document = json.loads(version.tags.get("verdict", "{}"))
    trained_on = date.fromisoformat(version.tags["trained_on"])
    entry = lineup.get(registry_names.segment_of(version.name), {})
    return verdict | {
        "segment": registry_names.segment_of(version.name), "version": version.version, "stage": version.stage,
        "trained_on": trained_on.isoformat(), "age_days": age_days(trained_on, reference),
        "stale": is_stale(trained_on, reference, services.scenario.stale_after_days),
        "failover": bool(entry.get("failover", False)), "scored_by": entry.get("source", ""),
        "failover_reason": entry.get("reason", ""), "run_id": version.tags.get("run_id", ""),
        "data_version": version.tags.get("data_version", ""), "code_version": version.tags.get("code_version", ""),
        "job": version.tags.get("job", ""),
    }


def model_versions(services: RunServices, segment: str) -> Document:
    """Return every version of one segment's model with stage, metrics and lineage; raise NotFound."""
    versions = services.registry.versions(registry_names.model_name(segment))
    if not versions:
        raise NotFound(f"there is no model for {segment}", segment=segment, remedy="see GET /api/models")
    reference = services.clock.now().date()
    return {"segment": segment, "versions": [_model_row(services, version, reference, {}) for version in versions]}


def forecast_rows(
    services: RunServices, sales_week: str, store_id: str, product_id: str, limit: int
) -> Document:
    """Return a week's published forecasts with their as-of facts; empty filters mean all."""
    data, manifest = published_bytes(services.lake, SalesWeek.parse(sales_week))
    rows: list[Document] = []
    stores: set[str] = set()
    products: set[str] = set()
    total = 0
    for row in csv.DictReader(io.StringIO(data.decode())):
        stores.add(row["store_id"])
        products.add(row["product_id"])
        if (store_id and row["store_id"] != store_id) or (product_id and row["product_id"] != product_id):
            continue
        total += 1
        if len(rows) < limit:
            rows.append(row | {"units": float(row["units"]), "order_units": int(row["order_units"])})
    return {
        "sales_week": sales_week, "rows": rows, "total": total, "stores": sorted(stores), "products": sorted(products),
        "manifest": manifest, "publish_version": manifest["publish_version"], "run_id": manifest["run_id"],
    }


def explain(services: RunServices, sales_week: str, store_id: str, product_id: str) -> Document:
    """Return where one published number comes from: model, data versions, and the raw rows of the last weeks."""
    week = SalesWeek.parse(sales_week)
    found = forecast_rows(services, sales_week, store_id, product_id, 1)
    if not found["rows"]:
        raise NotFound(
            f"{sales_week} has no forecast for store {store_id} and product {product_id}",
            store_id=store_id, product_id=product_id, remedy="see GET /api/forecasts/{sales_week}",
        )
    (forecast,) = found["rows"]
    # A run over some segments carries the others over: each row leads to the run that made it.
    made_by = found["manifest"].get("segment_runs", {}).get(forecast["segment"], found["run_id"])
    run = RunLedger(services.lake).run(made_by)
    container, folder = lake_paths.parse_datastore_uri(run["folder"])
    curated, _ = services.lake.read_json(container, folder + "manifest.json")
    versions = services.registry.versions(registry_names.model_name(forecast["model"]))
    model = next((version for version in versions if version.version == forecast["model_version"]), None)
    pins = curated["pins"].get("deliveries", {})
    recent = [text for text in sorted(pins) if SalesWeek.parse(text) >= week.plus(-EXPLAIN_WEEKS)]
    with ThreadPoolExecutor(READERS) as pool:
        found_rows = pool.map(lambda text: _raw_rows(services, text, pins[text], store_id, product_id), recent)
        rows = [row for chunk in found_rows for row in chunk]
    history: dict[str, float] = dict.fromkeys(recent, 0.0)
    for row in rows:
        history[row["sales_week"]] += row["units"]
    return {
        "forecast": forecast, "manifest": found["manifest"],
        "model": asdict(model) if model else None,
        "data_versions": curated["pins"], "as_of_version": curated["as_of_version"],
        "code_version": run["code_version"], "run_id": run["run_id"], "correlation_id": run["correlation_id"],
        "history": [{"sales_week": text, "units": units} for text, units in sorted(history.items())],
        "rows": rows,
    }


def _raw_rows(
    services: RunServices, week_text: str, version: str, store_id: str, product_id: str
) -> Iterable[dict[str, Any]]:
    path = lake_paths.conditioned_data("deliveries", SalesWeek.parse(week_text), version)
    try:
        data = services.lake.read(lake_paths.CONDITIONED, path).data
    except BlobNotFound:
        return []
    lines = data.decode().splitlines()
    # A cheap text filter first: parsing only what can match keeps an explanation under a second.
    candidates = [line for line in lines[1:] if store_id in line and product_id in line]
    return [
        {"sales_week": week_text, "units": float(row["units"]), "source_file": row["source_file"],
         "source_row": int(row["source_row"]), "delivery_date": row["delivery_date"], "data_version": version}
        for row in csv.DictReader([lines[0], *candidates])
        if row["store_id"] == store_id and row["product_id"] == product_id
    ]


def pipeline_runs(services: RunServices, limit: int) -> list[Document]:
    """Return the newest Data Factory pipeline runs whose records were exported to the ledger (runs/adf/)."""
    blobs = sorted(services.lake.list(lake_paths.RUNS, "adf/"), key=lambda blob: blob.last_modified, reverse=True)
    return [services.lake.read_json(lake_paths.RUNS, blob.path)[0] for blob in blobs[:limit]]


def _seconds(start: str, end: str) -> float | None:
    from datetime import datetime

    if not start or not end:
        return None
    return round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds(), 3)
