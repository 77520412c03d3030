"""How good published forecasts turned out, as the actuals of their weeks arrive (R116).

The gate judges a model on back-tests; this judges what readers were given. Every run compares the published weeks that
its curated deliveries now cover with what was delivered: a pair without a delivery sold nothing. The history average is
what the baseline would have said of the pair before its week, so that both are judged on the same rows.
"""

from __future__ import annotations

import io
from itertools import takewhile
from typing import TYPE_CHECKING

from domain import lake_paths
from domain.errors import NotFound
from domain.metrics import Tally, metrics
from domain.sales_weeks import SalesWeek
from orchestrators.ledger import Document, RunLedger
from orchestrators.publishing import published_bytes
from orchestrators.services import RunServices
from orchestrators.tracing import run_dimensions

if TYPE_CHECKING:
    import pandas as pd

WEEKS_LOOKED_AT = 4  # late corrections of deliveries reach back this far
NOTE = "realised"


def realise_weeks(services: RunServices, run: Document) -> list[Document]:
    """Measure the published weeks whose actuals the run knows; one row per week and segment, noted in the ledger.

    Safe to repeat: the same data give the same rows.
    """
    import pandas as pd

    week = SalesWeek.parse(run["sales_week"])
    published = {}
    for back in range(1, WEEKS_LOOKED_AT + 1):
        try:
            published[week.plus(-back)] = published_bytes(services.lake, week.plus(-back))
        except NotFound:
            continue
    rows: list[Document] = []
    if published and run.get("folder"):
        container, folder = lake_paths.parse_datastore_uri(run["folder"])
        pinned = services.lake.read_json(container, folder + "manifest.json")[0].get("pins", {}).get("deliveries", {})
        known = {one: found for one, found in published.items() if str(one) in pinned}
        if known:
            delivered = _deliveries(services, container, folder)
            for one, (data, manifest) in sorted(known.items()):
                forecasts = pd.read_csv(io.BytesIO(data), dtype={"store_id": str, "product_id": str})
                rows += _week_rows(one, manifest, forecasts, delivered)
    RunLedger(services.lake).note(run["run_id"], NOTE, rows)
    for row in rows:
        services.telemetry.event(
            "forecast_realised",
            run_dimensions(run) | {"sales_week": row["sales_week"], "forecast_run_id": row["run_id"],
                                   "segment": row["segment"], "region": row["segment"].split("-")[0]},
            {key: row[key] for key in ("mape", "baseline_mape", "rmse_0", "rmse_all", "wape", "bias")
             if row[key] is not None},
        )
    services.results.write_realised(rows)
    return rows


def newest_realised(rows: list[Document]) -> dict[str, Document]:
    """Return the newest row of each segment, with `weeks`: for how many weeks running it lost to the average."""
    by_segment: dict[str, list[Document]] = {}
    for row in sorted(rows, key=lambda one: str(one["sales_week"]), reverse=True):
        by_segment.setdefault(row["segment"], []).append(row)
    return {segment: own[0] | {"weeks": len(list(takewhile(_lost, own)))} for segment, own in by_segment.items()}


def _lost(row: Document) -> bool:
    return None not in (row["mape"], row["baseline_mape"]) and bool(row["mape"] > row["baseline_mape"])


def _deliveries(services: RunServices, container: str, folder: str) -> pd.DataFrame:
    import pandas as pd

    data = services.lake.read(container, folder + "deliveries.csv").data
    return pd.read_csv(io.BytesIO(data), dtype={"store_id": str, "product_id": str})


def _week_rows(
    week: SalesWeek, manifest: Document, forecasts: pd.DataFrame, delivered: pd.DataFrame
) -> list[Document]:
    pair = ["store_id", "product_id"]
    actual = delivered[delivered["sales_week"] == str(week)].groupby(pair)["units"].sum().rename("actual")
    before = delivered[delivered["sales_week"] < str(week)].groupby(pair).agg(
        sold=("units", "sum"), began=("sales_week", "min")
    )
    joined = forecasts.merge(actual, on=pair, how="left").merge(before, on=pair, how="left")
    joined["actual"] = joined["actual"].fillna(0.0)
    weeks_of = {text: week.weeks_since(SalesWeek.parse(text)) for text in joined["began"].dropna().unique()}
    joined["average"] = (joined["sold"] / joined["began"].map(weeks_of)).fillna(0.0)
    runs = manifest.get("segment_runs", {})
    rows = []
    for segment, part in joined.groupby("segment"):
        own, average = _tally(part["actual"], part["units"]), _tally(part["actual"], part["average"])
        values, reference = metrics(own), metrics(average)
        rows.append({
            "run_id": runs.get(str(segment), manifest["run_id"]), "sales_week": str(week), "segment": str(segment),
            "mape": values.mape, "baseline_mape": reference.mape, "rmse_0": values.rmse_zero,
            "rmse_all": values.rmse_all, "wape": values.wape, "baseline_wape": reference.wape, "bias": values.bias,
            "evaluated": values.n, "mape_excluded": values.n_excluded_from_mape, "actual_units": own.sum_actual,
            "over_units": own.sum_over, "under_units": own.sum_under,
        })
    return rows


def _tally(actual: pd.Series[float], forecast: pd.Series[float]) -> Tally:
    """Return domain.metrics.tally of two columns, without a loop."""
    error, is_sold = forecast - actual, actual > 0
    absolute, squared = error.abs(), error * error
    return Tally(
        n_positive=int(is_sold.sum()), sum_ape=float((absolute[is_sold] / actual[is_sold]).sum()),
        n_zero=int((~is_sold).sum()), sum_squared_error_zero=float(squared[~is_sold].sum()), n=len(error),
        sum_squared_error=float(squared.sum()), sum_absolute_error=float(absolute.sum()), sum_error=float(error.sum()),
        sum_actual=float(actual.sum()), sum_over=float(error.clip(lower=0).sum()),
        sum_under=float((-error).clip(lower=0).sum()),
    )
