"""Choosing the rows that are learned from: those of weeks whose forecast would have been published.

Bounded in number for the pooled net, whatever the size of the panel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ml_jobs.forecasting import features
from ml_jobs.forecasting.panel import Panel
from ml_jobs.forecasting.tables import IntArray

Matrix = np.ndarray[Any, np.dtype[np.float32]]
CHUNK = 1024  # series per block of features: bounds the memory of a large panel
LEARNED_WEEKS = 156  # nobody learns from more than the last three years


@dataclass(frozen=True)
class Rows:
    """Features, categories and outcomes of the chosen (series, week) rows; `complete` if none was left out."""

    names: tuple[str, ...]
    values: Matrix
    level: Matrix
    units: Matrix
    series: IntArray
    week: IntArray
    complete: bool

    def of_series(self, series: IntArray) -> Rows:
        """Return the rows of some series, in the order and with the bytes of a collection of these alone."""
        own = np.flatnonzero(np.isin(self.series, series))
        return replace(self, values=self.values[own], level=self.level[own], units=self.units[own],
                       series=self.series[own], week=self.week[own])


def first_target(panel: Panel) -> int:
    """Return the first week index that has enough weeks before it to be learned from."""
    return min(features.MIN_OBSERVED, max(panel.weeks - 1, 0))


def collect(
    panel: Panel, groups: features.Groups, series: IntArray, *, window: int = LEARNED_WEEKS, limit: int | None = None,
    seed: int = 0,
) -> Rows:
    """Return the ready rows of the last `window` weeks, about `limit` of them drawn evenly if there are more.

    A series that was not active at a row's origin is left out: what is never forecast (a handful of sales in a year)
    is most of some assortments, and would teach the members to expect nothing.
    """
    earliest = max(first_target(panel), panel.weeks - LEARNED_WEEKS)
    first = max(earliest, panel.weeks - window)
    generator = np.random.default_rng(seed)
    active = panel.was_active(series)
    expected = max(1, int(active[:, first : panel.weeks].sum()) * panel.horizon)
    share = 1.0 if limit is None else min(1.0, limit / expected)
    parts: list[tuple[Matrix, Matrix, Matrix, IntArray, IntArray]] = []
    names: tuple[str, ...] = ()
    for ahead in range(1, panel.horizon + 1):
        for at in range(0, len(series), CHUNK):
            block = features.build(panel, groups, series[at : at + CHUNK], first, panel.weeks - 1, ahead)
            names = block.names
            origins = np.maximum(np.arange(first, panel.weeks) - ahead + 1, 0)
            keep = block.ready & ~panel.lost[block.week] & active[at : at + CHUNK, origins].ravel()
            if share < 1.0:
                keep &= generator.random(len(keep)) < share
            chosen = np.flatnonzero(keep)
            parts.append((
                block.values[chosen], block.level[chosen], panel.units[block.series[chosen], block.week[chosen]],
                block.series[chosen], block.week[chosen],
            ))
    values, level, units, own, week = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Rows(names, values, level, units, own, week, share == 1.0 and first == earliest)
