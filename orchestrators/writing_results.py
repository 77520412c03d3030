"""The last step: a run's facts and forecasts into the result tables; all idempotent by run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from domain import lake_paths
from domain.errors import BlobNotFound
from domain.sales_weeks import SalesWeek
from orchestrators.drifting import note_drift
from orchestrators.ledger import Document, RunLedger
from orchestrators.publishing import current_version, published_bytes
from orchestrators.reading import model_rows
from orchestrators.realising import realise_weeks
from orchestrators.services import RunServices
from orchestrators.tracing import operation_id

READERS = 8


def write_results(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Write metrics, and, if the run published, its forecasts; then make it the current run of its week."""
    ledger = RunLedger(services.lake)
    run = ledger.run(request["run_id"])
    verdicts = ledger.noted(run["run_id"], "verdicts", [])
    services.results.write_run(run | {"operation_id": operation_id(run)})
    services.results.write_metrics(run["run_id"], _metrics(services, run, verdicts))
    services.results.write_quality(_quality(services, run))
    drifted = sum(1 for row in note_drift(services, run) if row["breached"])
    realised = realise_weeks(services, run)
    rows = 0
    if run.get("publish"):
        week = SalesWeek.parse(run["sales_week"])
        if current_version(services.lake, week)["publish_version"] == run["publish"]["version"]:
            data, _ = published_bytes(services.lake, week)
            rows = services.results.write_forecasts(run["run_id"], str(week), _rows(data))
            services.results.set_current(str(week), run["run_id"])
    return {
        "counts": {"models": len(verdicts), "forecasts": rows, "drifted": drifted, "realised": len(realised)},
        "message": f"{rows} forecasts in the result tables",
    }


def _metrics(services: RunServices, run: Document, verdicts: list[Document]) -> list[Document]:
    """Return what the gate said of this run's candidates, and what stands in production while the run scores."""
    # When this run scored, not now: tables that are written again from the ledger must be the same tables.
    scored_at = next((step["ended_at"] for step in run["steps"] if step["name"] == "score"), "") or run["started_at"]
    standing = model_rows(services)["models"]
    week = {"sales_week": run["sales_week"]}
    return [
        *(verdict | week | {"member": "candidate"} for verdict in verdicts),
        *(model | week | {"member": "production", "scored_at": scored_at} for model in standing),
    ]


def _quality(services: RunServices, run: Document) -> list[Document]:
    """Return the outcome documents of the data versions that the run pinned."""
    if not run.get("folder"):
        return []
    container, folder = lake_paths.parse_datastore_uri(run["folder"])
    try:
        pins = services.lake.read_json(container, folder + "manifest.json")[0].get("pins", {})
    except BlobNotFound:
        return []
    paths = [
        lake_paths.conditioned_manifest(source, SalesWeek.parse(week), version)
        for source, weeks in pins.items() for week, version in weeks.items()
    ]

    def read(path: str) -> Document | None:
        try:
            return dict(services.lake.read_json(lake_paths.CONDITIONED, path)[0])
        except BlobNotFound:
            return None

    with ThreadPoolExecutor(READERS) as pool:
        return [document for document in pool.map(read, paths) if document is not None]


def _rows(data: bytes) -> Iterator[dict[str, Any]]:
    for row in csv.DictReader(io.StringIO(data.decode())):
        yield row | {"units": float(row["units"]), "order_units": int(row["order_units"])}
