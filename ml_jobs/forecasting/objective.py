# Exported from notebooks/objective.ipynb: change it there.
"""What every choice inside a training minimises, in units and not in logs."""

from __future__ import annotations

import numpy as np

from ml_jobs.forecasting.tables import FloatArray

MAX_LOG = 30.0  # exp of it is more than is sold of anything; a forecast beyond it is an accident of arithmetic
PERCENTAGE_RATE = 0.05  # one point of MAPE is worth this many points of WAPE: orders first, the gate's figure second


def to_units(logs: FloatArray) -> FloatArray:
    """Return units per week from log1p units; a negative forecast is zero."""
    return np.asarray(np.maximum(np.expm1(np.minimum(logs, MAX_LOG)), 0.0))


def objective(actual: FloatArray, forecast: FloatArray) -> float:
    """Return WAPE plus a fixed share of MAPE (over actual > 0); mean absolute error where nothing was sold at all."""
    error = np.abs(forecast - actual)
    positive = actual > 0
    if not positive.any():
        return float(error.mean()) if len(error) else 0.0
    return float(error.sum() / actual.sum() + PERCENTAGE_RATE * (error[positive] / actual[positive]).mean())
