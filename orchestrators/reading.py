"""What people read of runs and models."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import date

from domain import lake_paths
from domain.errors import NotFound
from domain.job_states import Phase
from domain.ports import ModelVersion
from domain.sales_weeks import SalesWeek
from domain.staleness import age_days, is_stale
from orchestrators import job_plans, registry_names
from orchestrators.costing import run_cost
from orchestrators.deep_links import job_link, run_links
from orchestrators.ledger import READERS, Document, RunLedger
from orchestrators.realising import NOTE as REALISED
from orchestrators.realising import newest_realised
from orchestrators.services import RunServices
from orchestrators.tracing import operation_id

REALISED_IN = 5  # runs looked at for the newest realised accuracy; each run's note covers some weeks


def run_rows(services: RunServices, limit: int) -> Document:
    """Return the newest runs without their details, and how many there are in all."""
    keys = ("run_id", "kind", "sales_week", "attempt", "status", "started_at", "ended_at", "correlation_id", "message",
            "replay_of")
    ledger = RunLedger(services.lake)
    ids = ledger.run_ids()
    rows = [
        {key: run[key] for key in keys} | {
            "summary": {
                "completeness": run.get("completeness"), "quality": run.get("model_quality"),
                "failovers": run.get("failovers", 0), "publish": run.get("publish"),
                "waiting": run.get("waiting"),
                "step": next((step["name"] for step in run["steps"] if step["status"] == "running"), ""),
            }
        }
        for run in ledger.named(ids[:limit])
    ]
    return {"runs": rows, "total": len(ids)}


def run_details(services: RunServices, run_id: str) -> Document:
    """Return everything that the ledger knows of a run."""
    ledger = RunLedger(services.lake)
    run = ledger.run(run_id)
    names = ("lineup", "decisions", "verdicts", "model_quality", "completeness")
    with ThreadPoolExecutor(READERS) as pool:
        phases = pool.map(lambda phase: (phase, ledger.jobs(run_id, phase)), job_plans.STEP_OF_PHASE)
        noted = dict(zip(names, pool.map(lambda name: ledger.noted(run_id, name), names), strict=True))
    steps = [step | {"seconds": _seconds(step["started_at"], step["ended_at"])} for step in run["steps"]]
    lineup = (noted["lineup"] or {"lineup": {}})["lineup"]
    return run | {
        "steps": steps,
        "operation_id": operation_id(run), "links": run_links(services.settings, run),
        "jobs": {phase: _jobs(services, found) for phase, found in phases},
        "decisions": noted["decisions"] or [],
        "verdicts": _verdicts_with_failover(noted["verdicts"] or [], lineup),
        "lineup": lineup,
        "quality": noted["model_quality"],
        "completeness": noted["completeness"],
        "cost": run.get("cost") or run_cost(services, run_id),
    }


def _jobs(services: RunServices, found: Document | None) -> Document:
    items = (found or {"items": {}})["items"].values()
    counts: Document = {state.value: sum(1 for item in items if item["phase"] == state.value) for state in Phase}
    shown = ("unit", "name", "phase", "status", "submitted_at", "started_at", "ended_at", "error", "adopted_from",
             "preempted")
    return counts | {
        "adopted": sum(1 for item in items if item["adopted_from"]),
        "items": [
            {key: item[key] for key in shown} |
            {"segment": item["unit"], "link": job_link(services.settings, item["name"])} for item in items
        ],
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
    ledger = RunLedger(services.lake)
    runs = list(ledger.runs(20))
    latest = next((run for run in runs if run.get("model_quality")), None)
    reference = SalesWeek.parse(latest["sales_week"]).monday if latest else today
    lineup = _lineup_of(services, latest)
    realised = newest_realised(next(
        (noted for run in runs[:REALISED_IN] if (noted := ledger.noted(run["run_id"], REALISED))), []
    ))
    rows = [
        _model_row(services, production.get(name) or version, reference, lineup)
        | {"realised": realised.get(registry_names.segment_of(name))}
        for name, version in sorted(newest.items())
    ] + [
        _unregistered(key, entry) for key, entry in sorted(lineup.items())
        if registry_names.model_name(key) not in newest
    ]
    quality = ledger.noted(latest["run_id"], "model_quality") if latest else None
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


def _unregistered(segment: str, entry: Document) -> Document:
    """Return the row of a segment that never had a model of its own: what could not be trained is shown too."""
    return {
        "segment": segment, "kind": "ensemble", "version": "", "stage": "none", "accepted": False,
        "reasons": [entry["reason"]], "mape": None, "baseline_mape": None, "stale": False, "age_days": None,
        "failover": entry["failover"], "scored_by": entry["source"], "failover_reason": entry["reason"],
        "realised": None,
    }


def model_versions(services: RunServices, segment: str) -> Document:
    """Return every version of one segment's model with stage, metrics and lineage; raise NotFound."""
    versions = services.registry.versions(registry_names.model_name(segment))
    if not versions:
        raise NotFound(f"there is no model for {segment}", segment=segment, remedy="see GET /api/models")
    reference = services.clock.now().date()
    return {"segment": segment, "versions": [_model_row(services, version, reference, {}) for version in versions]}


def pipeline_runs(services: RunServices, limit: int) -> list[Document]:
    """Return the newest Data Factory pipeline runs whose records were exported to the ledger (runs/adf/)."""
    blobs = services.lake.list(lake_paths.RUNS, f"{lake_paths.PIPELINE_RUNS}/")
    newest = sorted(blobs, key=lambda blob: blob.last_modified, reverse=True)[:limit]
    return [services.lake.read_json(lake_paths.RUNS, blob.path)[0] for blob in newest]


def _seconds(start: str, end: str) -> float | None:
    from datetime import datetime

    if not start or not end:
        return None
    return round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds(), 3)
