"""Choosing the rows that the pooled net learns from: bounded in number, whatever the size of the panel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ml_jobs.forecasting import features
from ml_jobs.forecasting.panel import Panel
from ml_jobs.forecasting.tables import IntArray

Matrix = np.ndarray[Any, np.dtype[np.float32]]
CHUNK = 4096  # series per block of features: bounds the memory of a large panel


@dataclass(frozen=True)
class Rows:
    """Features, categories and outcomes of the chosen (series, week) rows."""

    names: tuple[str, ...]
    values: Matrix
    level: Matrix
    units: Matrix
    series: IntArray
    week: IntArray


def first_target(panel: Panel) -> int:
    """Return the first week index that has enough weeks before it to be learned from."""
    return min(features.MIN_OBSERVED, max(panel.weeks - 1, 0))


def collect(
    panel: Panel, groups: features.Groups, series: IntArray, *, window: int, limit: int | None = None, seed: int = 0
) -> Rows:
    """Return the ready rows of the last `window` weeks, about `limit` of them drawn evenly if there are more."""
    first = max(first_target(panel), panel.weeks - window)
    generator = np.random.default_rng(seed)
    expected = max(1, len(series) * (panel.weeks - first) * panel.horizon)
    share = 1.0 if limit is None else min(1.0, limit / expected)
    parts: list[tuple[Matrix, Matrix, Matrix, IntArray, IntArray]] = []
    names: tuple[str, ...] = ()
    for at in range(0, len(series), CHUNK):
        for ahead in range(1, panel.horizon + 1):
            block = features.build(panel, groups, series[at : at + CHUNK], first, panel.weeks - 1, ahead)
            names = block.names
            keep = block.ready & ~panel.lost[block.week]
            if share < 1.0:
                keep &= generator.random(len(keep)) < share
            chosen = np.flatnonzero(keep)
            parts.append((
                block.values[chosen], block.level[chosen], panel.units[block.series[chosen], block.week[chosen]],
                block.series[chosen], block.week[chosen],
            ))
    values, level, units, own, week = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Rows(names, values, level, units, own, week)
