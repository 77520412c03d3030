"""Scoring validation (R74): what must hold of forecasts before anyone may read them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from domain.errors import IntegrityError
from ml_jobs.forecasting.scoring import ForecastRow


def check_forecasts(rows: Sequence[ForecastRow]) -> dict[str, int]:
    """Return what was counted; raise IntegrityError for a double, a negative or a not finite forecast, or for none."""
    if not rows:
        raise IntegrityError("no series is active, so there is nothing to forecast", field="forecasts")
    keys = {(row.store_id, row.product_id, row.sales_week, row.segment) for row in rows}
    if len(keys) != len(rows):
        raise IntegrityError(
            f"{len(rows) - len(keys)} forecasts double a (store, product, week) of their model",
            field="forecasts", value=len(rows),
        )
    for row in rows:
        for value in (row.units, row.lasso_units, row.embedding_net_units):
            if value is not None and (not math.isfinite(value) or value < 0):
                raise IntegrityError(
                    f"forecast {value} of store {row.store_id}, product {row.product_id} is negative or not finite",
                    field="units", value=str(value),
                )
    return {"rows": len(rows), "stores": len({row.store_id for row in rows})}
