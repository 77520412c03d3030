"""Drift of the scored models against their training: collected from the scoring jobs, a reason to train again (N12)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from domain import lake_paths
from domain.errors import BlobNotFound
from domain.job_states import Phase
from domain.ports import ModelVersion
from domain.runs import ISOLATED_KINDS
from domain.training_decision import Drift
from orchestrators import job_plans
from orchestrators.ledger import Document, RunLedger
from orchestrators.services import RunServices

SUMMARY = "forecasts.summary.json"  # what a scoring job writes beside its forecasts
RUNS_LOOKED_AT = 10


def collect_drift(
    services: RunServices, ledger: RunLedger, run: Document, lineup: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Note what the run's scoring jobs say of drift, and return it: one row per segment and feature.

    Rows: segment, model_version, sales_week, feature, psi, ks, threshold (of the PSI), breached. Only segments that
    were scored by a model of their own have any; nobody's drift is better than a wrong one.
    """
    limit = services.scenario.drift_psi_limit
    rows = []
    items = (ledger.jobs(run["run_id"], job_plans.SCORE) or {"items": {}})["items"].values()
    for item in items:
        if item["phase"] != Phase.SUCCEEDED.value:
            continue
        for key, told in _summary(services, item["output"]).items():
            entry = lineup.get(key)
            if entry is None or entry["model"] != key:
                continue
            rows += [
                {"segment": key, "model_version": entry["version"], "sales_week": run["sales_week"],
                 "feature": moved["feature"], "psi": moved["psi"], "ks": moved["ks"], "threshold": limit,
                 "breached": moved["psi"] >= limit}
                for moved in told.get("drift", [])
            ]
    rows.sort(key=lambda row: (row["segment"], -row["psi"], row["feature"]))
    ledger.note(run["run_id"], "drift", rows)
    return rows


def _summary(services: RunServices, output: str) -> dict[str, Any]:
    container, prefix = lake_paths.parse_datastore_uri(output)
    try:
        return dict(json.loads(services.lake.read(container, prefix + SUMMARY).data)["segments"])
    except BlobNotFound:
        return {}  # an older scoring component wrote none


def drifted_models(
    ledger: RunLedger, run: Document, production: Mapping[str, ModelVersion]
) -> dict[str, Drift]:
    """Return, by segment, what the newest scoring up to the run's week saw of the model that is in production now.

    Only what passed its threshold; a scoring by another version says nothing of this one.
    """
    newest: dict[str, Drift | None] = {}
    earlier = [
        run_id for run_id in ledger.run_ids()
        if str(run_id) != run["run_id"] and run_id.kind not in ISOLATED_KINDS
        and str(run_id.sales_week) <= run["sales_week"]
    ]
    documents = [ledger.run(str(run_id)) for run_id in earlier[:RUNS_LOOKED_AT]]
    for document in sorted(documents, key=lambda found: (found["sales_week"], found["started_at"]), reverse=True):
        seen: dict[str, list[dict[str, Any]]] = {}
        for row in ledger.noted(document["run_id"], "drift", []):
            version = production.get(row["segment"])
            if version is not None and version.version == row["model_version"]:
                seen.setdefault(row["segment"], []).append(row)
        for segment, measured in seen.items():
            newest.setdefault(segment, _breach(document["run_id"], measured))
    return {segment: drift for segment, drift in newest.items() if drift is not None}


def _breach(run_id: str, measured: list[dict[str, Any]]) -> Drift | None:
    """Return the feature that moved most, if any passed its threshold."""
    breached = [row for row in measured if row["breached"]]
    if not breached:
        return None
    worst = max(breached, key=lambda row: float(row["psi"]))
    return Drift(worst["feature"], float(worst["psi"]), float(worst["threshold"]), len(breached), run_id)
