"""The baseline: the history average of each series, one model per region and store format.

A series without any history in the data gets the average of its product in the model's stores at training time,
else the average of all its series; so the baseline can always stand in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ml_jobs.forecasting.panel import Panel
from ml_jobs.forecasting.tables import FloatArray, IntArray


@dataclass(frozen=True)
class HistoryAverage:
    """Average weekly units by product, and overall, at training time."""

    by_product: Mapping[str, float]
    overall: float

    @classmethod
    def of(cls, panel: Panel, series: IntArray) -> HistoryAverage:
        """Learn from the whole history of the given series."""
        means = history_means(panel, series, panel.weeks)
        names = [panel.products[product] for product in panel.product_of[series]]
        sums: dict[str, list[float]] = {}
        for name, mean in zip(names, means.tolist(), strict=True):
            sums.setdefault(name, []).append(mean)
        return cls(
            {name: sum(values) / len(values) for name, values in sorted(sums.items())},
            float(means.mean()) if len(means) else 0.0,
        )

    def forecast(self, panel: Panel, series: IntArray) -> FloatArray:
        """Return units per week of each series for any week after the panel's cutoff."""
        means = history_means(panel, series, panel.weeks)
        for i, own in enumerate(series):
            if panel.start[own] >= panel.weeks:
                means[i] = self.by_product.get(panel.products[panel.product_of[own]], self.overall)
        return means


def history_means(panel: Panel, series: IntArray, end: int) -> FloatArray:
    """Return the mean units of the weeks before `end` since each series began."""
    units = panel.units[series, :end].astype(np.float64)
    weeks = np.maximum(end - panel.start[series], 1)
    return np.asarray(units.sum(axis=1) / weeks)


def history_means_at(panel: Panel, series: IntArray, weeks: IntArray, ahead: int = 1) -> FloatArray:
    """Return for each (series, target week) the mean of what was known `ahead` weeks before it."""
    distinct, own = np.unique(series, return_inverse=True)
    sums = np.zeros((len(distinct), panel.weeks + 1))
    np.cumsum(panel.units[distinct], axis=1, dtype=np.float64, out=sums[:, 1:])
    known = np.minimum(weeks - ahead + 1, panel.weeks)
    count = np.maximum(known - panel.start[series], 1)
    return np.asarray(sums[own, known] / count)
