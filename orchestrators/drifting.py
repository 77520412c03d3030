"""How far this week's data are from the data of training: the drift that the scoring jobs measured, per feature (R115).

Facts for the training decision, the result tables and the alert; nothing is refused because of them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from domain import lake_paths
from domain.errors import BlobNotFound
from domain.job_states import Phase
from orchestrators import job_plans
from orchestrators.ledger import Document, RunLedger
from orchestrators.services import RunServices

READERS = 8
NOTE = "drift"


def note_drift(services: RunServices, run: Document) -> list[Document]:
    """Note what the run's scoring jobs measured and report what left its band; safe to repeat.

    One row per segment and feature: {segment, feature, sales_week, psi, ks, threshold, breached}.
    """
    ledger = RunLedger(services.lake)
    items = (ledger.jobs(run["run_id"], job_plans.SCORE) or {"items": {}})["items"].values()
    outputs = [item["output"] for item in items if item["phase"] == Phase.SUCCEEDED.value]
    with ThreadPoolExecutor(READERS) as pool:
        summaries = pool.map(lambda output: _summary(services, output), outputs)
        rows = [row for summary in summaries for row in _rows(summary, run["sales_week"])]
    ledger.note(run["run_id"], NOTE, rows)
    services.results.write_drift(run["run_id"], rows)
    for row in rows:
        if row["breached"]:
            services.telemetry.event(
                "drift",
                {"run_id": run["run_id"], "correlation_id": run["correlation_id"], "sales_week": run["sales_week"],
                 "segment": row["segment"], "region": row["segment"].split("-")[0], "feature": row["feature"],
                 "measure": "psi", "breached": True},
                {"value": row["psi"], "threshold": row["threshold"]},
            )
    return rows


def _summary(services: RunServices, output: str) -> dict[str, Any]:
    container, prefix = lake_paths.parse_datastore_uri(output)
    try:
        return dict(services.lake.read_json(container, f"{prefix}forecasts.summary.json")[0])
    except BlobNotFound:
        return {}


def _rows(summary: dict[str, Any], sales_week: str) -> list[Document]:
    return [
        {"segment": segment, "feature": moved["feature"], "sales_week": sales_week, "psi": moved["psi"],
         "ks": moved["ks"], "threshold": moved["threshold"], "breached": moved["verdict"] == "act"}
        for segment, told in sorted(summary.get("segments", {}).items()) for moved in told["drift"]
    ]
