# Exported from notebooks/objective.ipynb: change it there.
"""What every choice inside a training minimises, in units and not in logs."""

from __future__ import annotations

from typing import Any

import numpy as np

from ml_jobs.forecasting.tables import FloatArray

MAX_LOG = 30.0  # exp of it is more than is sold of anything; a forecast beyond it is an accident of arithmetic
BASE_RATE = 0.1  # points of WAPE that a point of MAPE is worth where both are as hard: orders first, then the gate
RATES = (0.05, 0.3)  # bounds of the rate, whatever the data
LARGEST_SHARE = 10.0  # of the typical sale to a row's own: an accident in a large series must not steer the rest
UNDECIDED = 0.25  # the middle part of the way from one whole number to the next where a forecast is of neither


def to_units(logs: FloatArray, *, whole: bool) -> FloatArray:
    """Return units per week from log1p units; a negative forecast is zero.

    Where sales are `whole` numbers, so are their medians: a forecast between two of them pays for both, and is pulled
    to the nearer one. It is a steep ramp and no step, so that last digits of the arithmetic never decide about a unit.
    """
    units = np.maximum(np.expm1(np.minimum(logs, MAX_LOG)), 0.0)
    if not whole:
        return np.asarray(units)
    lower = np.floor(units)
    return np.asarray(lower + np.clip((units - lower - 0.5) / UNDECIDED + 0.5, 0.0, 1.0))


def typical_sale(units: np.ndarray[Any, Any]) -> float:
    """Return the mean of what was sold in the rows that sold anything; 1 where none did."""
    sold = units[units > 0]
    return float(sold.mean(dtype=np.float64)) if len(sold) else 1.0


def percentage_rate(actual: np.ndarray[Any, Any], usual: np.ndarray[Any, Any]) -> float:
    """Return how many points of WAPE a point of MAPE is worth in a data set, from what was sold and what is usual.

    It is the base rate times MAPE over WAPE of a forecast of the `usual` units: where few large series carry the
    volume, most series are small, far harder in percent, and hardly seen by WAPE; there MAPE counts for more.
    """
    error, positive = np.abs(usual.astype(np.float64) - actual), actual > 0
    if not error[positive].any():
        return BASE_RATE
    mape = float((error[positive] / actual[positive]).mean())
    wape = float(error.sum() / actual.sum(dtype=np.float64))
    return float(np.clip(BASE_RATE * mape / wape, *RATES))


def row_costs(actual: np.ndarray[Any, Any], sale: float, rate: float) -> FloatArray:
    """Return what one unit of error costs in each row.

    That is 1 for its part in WAPE, and where something was sold its part in MAPE at the given rate: added up over rows
    whose typical sale is `sale` and divided by all that was sold, it is WAPE + rate * MAPE.
    """
    share = np.zeros(len(actual))
    positive = actual > 0
    share[positive] = np.minimum(sale / actual[positive], LARGEST_SHARE)
    return np.asarray(1.0 + rate * share)


def objective(actual: FloatArray, forecast: FloatArray, costs: FloatArray) -> float:
    """Return the cost of the errors per unit sold; mean absolute error where nothing was sold at all."""
    error = np.abs(forecast - actual)
    sold = float(actual.sum())
    if not sold:
        return float(error.mean()) if len(error) else 0.0
    return float((error * costs).sum() / sold)
