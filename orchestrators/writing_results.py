"""The last step: a run's facts and forecasts into the result tables; all idempotent by run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from domain.sales_weeks import SalesWeek
from orchestrators.ledger import RunLedger
from orchestrators.publishing import current_version, published_bytes
from orchestrators.services import RunServices


def write_results(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Write metrics, and, if the run published, its forecasts; then make it the current run of its week."""
    ledger = RunLedger(services.lake)
    run = ledger.run(request["run_id"])
    verdicts = ledger.noted(run["run_id"], "verdicts", [])
    services.results.write_run(run)
    services.results.write_metrics(run["run_id"], verdicts)
    rows = 0
    if run.get("publish"):
        week = SalesWeek.parse(run["sales_week"])
        if current_version(services.lake, week)["publish_version"] == run["publish"]["version"]:
            data, _ = published_bytes(services.lake, week)
            rows = services.results.write_forecasts(run["run_id"], str(week), _rows(data))
            services.results.set_current(str(week), run["run_id"])
    return {"counts": {"models": len(verdicts), "forecasts": rows}, "message": f"{rows} forecasts in the result tables"}


def _rows(data: bytes) -> Iterator[dict[str, Any]]:
    for row in csv.DictReader(io.StringIO(data.decode())):
        yield row | {"units": float(row["units"]), "order_units": int(row["order_units"])}
