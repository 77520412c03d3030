"""Judging forecasts: tallies from arrays, the evaluation document of a model, its verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from domain.errors import BadRequest
from domain.metrics import Tally, metrics, value_added
from ml_jobs.forecasting.panel import Panel
from ml_jobs.forecasting.tables import FloatArray, IntArray


def tally_arrays(actual: FloatArray, forecast: FloatArray) -> Tally:
    """Return the tally of two arrays; equals adding up `domain.metrics.tally_one`. BadRequest if not all finite."""
    if actual.shape != forecast.shape or not (np.isfinite(actual).all() and np.isfinite(forecast).all()):
        raise BadRequest("actuals and forecasts must be finite and of one length", field="forecast")
    error = forecast - actual
    size = np.abs(error)
    positive = actual > 0
    return Tally(
        n_positive=int(positive.sum()),
        sum_ape=float((size[positive] / actual[positive]).sum()),
        n_zero=int((~positive).sum()),
        sum_squared_error_zero=float((error[~positive] ** 2).sum()),
        n=len(actual),
        sum_squared_error=float((error**2).sum()),
        sum_absolute_error=float(size.sum()),
        sum_error=float(error.sum()),
        sum_actual=float(actual.sum()),
        sum_over=float(error[error > 0].sum()),
        sum_under=float(-error[error < 0].sum()),
    )


def cost(total: Tally, rate: float) -> float:
    """Return what choices minimise, from a tally: WAPE + rate * MAPE; the mean error where nothing was sold."""
    if total.sum_actual <= 0:
        return total.sum_absolute_error / max(total.n, 1)
    return total.sum_absolute_error / total.sum_actual + rate * total.sum_ape / total.n_positive


def lead_in_errors(actual: FloatArray, forecast: FloatArray, other: FloatArray, costs: FloatArray) -> float:
    """Return by how many standard errors a forecast's errors cost less than another's; rows count as independent."""
    saved = (np.abs(other - actual) - np.abs(forecast - actual)) * costs
    error = float(saved.std()) * len(saved) ** 0.5
    return float(saved.sum()) / error if error else 0.0


def evaluation(panel: Panel, week: IntArray, actual: FloatArray, forecasts: Mapping[str, FloatArray]) -> dict[str, Any]:
    """Return the evaluation document: weeks, tallies by member, and by week so that a band can be drawn."""
    weeks = sorted(set(week.tolist()))
    return {
        "weeks": [str(panel.week_at(index)) for index in weeks],
        "members": {name: tally_arrays(actual, units).to_dict() for name, units in forecasts.items()},
        "by_week": {
            str(panel.week_at(index)): {
                name: tally_arrays(actual[week == index], units[week == index]).to_dict()
                for name, units in forecasts.items()
            }
            for index in weeks
        },
    }


def readable(document: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return the metrics of each member of an evaluation document."""
    return {
        name: metrics(Tally.from_dict(sums)).to_dict() for name, sums in document.get("members", {}).items()
    }


def verdicts(document: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return what the acceptance gate will look at: each figure beside the baseline's."""
    members = {name: Tally.from_dict(sums) for name, sums in document.get("members", {}).items()}
    own, baseline = members.get(kind), members.get("baseline")
    if own is None or baseline is None:
        return {}
    mine, theirs = metrics(own), metrics(baseline)

    def better(a: float | None, b: float | None) -> bool | None:
        return None if a is None or b is None else a < b

    return {
        "mape_better_than_baseline": better(mine.mape, theirs.mape),
        "wape_better_than_baseline": better(mine.wape, theirs.wape),
        "mape_reduction": value_added(own, baseline),
    }
