"""How far this week's data are from the data of training: the drift that the scoring jobs measured, per feature (R115).

Facts for the training decision, the result tables and the alert; nothing is refused because of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
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
from orchestrators.tracing import run_dimensions

READERS = 8
RUNS_LOOKED_AT = 10
NOTE = "drift"


def note_drift(services: RunServices, run: Document) -> list[Document]:
    """Note what the run's scoring jobs measured and report what left its band; safe to repeat.

    One row per segment and feature: {segment, model_version, feature, sales_week, psi, ks, threshold, breached}, the
    threshold being the scenario's for the PSI.
    """
    ledger = RunLedger(services.lake)
    lineup = (ledger.noted(run["run_id"], "lineup") or {"lineup": {}})["lineup"]
    limit = services.scenario.drift_psi_limit
    items = (ledger.jobs(run["run_id"], job_plans.SCORE) or {"items": {}})["items"].values()
    outputs = [item["output"] for item in items if item["phase"] == Phase.SUCCEEDED.value]
    with ThreadPoolExecutor(READERS) as pool:
        summaries = pool.map(lambda output: _summary(services, output), outputs)
        rows = [row for summary in summaries for row in _rows(summary, run["sales_week"], lineup, limit)]
    ledger.note(run["run_id"], NOTE, rows)
    services.results.write_drift(run["run_id"], rows)
    for row in rows:
        if row["breached"]:
            services.telemetry.event(
                "drift",
                run_dimensions(run) | {
                    "segment": row["segment"], "region": row["segment"].split("-")[0], "feature": row["feature"],
                    "measure": "psi", "breached": True,
                },
                {"value": row["psi"], "threshold": row["threshold"]},
            )
    return rows


def _summary(services: RunServices, output: str) -> dict[str, Any]:
    container, prefix = lake_paths.parse_datastore_uri(output)
    try:
        return dict(services.lake.read_json(container, f"{prefix}forecasts.summary.json")[0])
    except BlobNotFound:
        return {}


def _rows(summary: Document, sales_week: str, lineup: Mapping[str, Document], limit: float) -> list[Document]:
    """Return the rows of the segments that a model of their own scored; another's distance says nothing of them."""
    return [
        {"segment": segment, "model_version": lineup[segment]["version"], "feature": moved["feature"],
         "sales_week": sales_week, "psi": moved["psi"], "ks": moved["ks"], "threshold": limit,
         "breached": moved["psi"] >= limit}
        for segment, told in sorted(summary.get("segments", {}).items())
        if segment in lineup and lineup[segment]["model"] == segment
        for moved in told.get("drift", [])
    ]


def drifted_models(ledger: RunLedger, run: Document, production: Mapping[str, ModelVersion]) -> dict[str, Drift]:
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
        for row in ledger.noted(document["run_id"], NOTE, []):
            version = production.get(row["segment"])
            if version is not None and version.version == row.get("model_version"):
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
