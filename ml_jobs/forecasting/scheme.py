"""The segmentation scheme: which columns of stores and products make a segment's key.

The default is region-format-velocity. Another scheme is an argument, not code: `cluster-velocity` works wherever
stores.csv has a column `cluster`.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from domain.errors import BadRequest
from domain.segments import BASELINE
from ml_jobs.forecasting.panel import Panel
from ml_jobs.forecasting.tables import IntArray

DEFAULT_SCHEME = "region-store_format-velocity"
IDENTIFIERS = frozenset({"product_id", "store_id", "zip", "name"})  # one model each would be the opposite of a segment
MAX_SEGMENTS = 500
_NOT_IN_KEYS = re.compile(r"[^A-Za-z0-9_.]+")
MIN_SERIES = 3  # fewer active series than this, or
MIN_ROWS = 60  # fewer training rows, and a segment is too thin for a model of its own


@dataclass(frozen=True)
class Segments:
    """Every series' segment key and baseline key under one scheme."""

    scheme: str
    keys: np.ndarray[Any, np.dtype[np.str_]]
    baselines: np.ndarray[Any, np.dtype[np.str_]]

    @classmethod
    def of(cls, panel: Panel, scheme: str = DEFAULT_SCHEME) -> Segments:
        """Label every series; raise BadRequest for a scheme that the data or common sense does not support."""
        columns = scheme.split("-")
        named = IDENTIFIERS.intersection(columns)
        if named:
            raise BadRequest(
                f"scheme {scheme!r} would make one model per {', '.join(sorted(named))}", field="scheme", value=scheme,
                remedy="segment by a few attributes such as region, store_format, category, velocity",
            )
        labels = [_names(panel.label(column), column) for column in columns]
        of_store = [i for i, column in enumerate(columns) if column in panel.store_labels]
        keys = np.array(["-".join(parts) for parts in zip(*labels, strict=True)])
        if len(set(keys.tolist())) > MAX_SEGMENTS:
            raise BadRequest(
                f"scheme {scheme!r} makes more than {MAX_SEGMENTS} segments", field="scheme", value=scheme,
                remedy="segment by fewer columns",
            )
        store_parts = [labels[i] for i in of_store] or [["all"] * panel.series]
        baselines = np.array(["-".join([*parts, BASELINE]) for parts in zip(*store_parts, strict=True)])
        return cls(scheme, keys, baselines)

    def series_of(self, key: str) -> IntArray:
        """Return the series of a segment, or of a baseline key."""
        own = self.baselines if key.endswith(f"-{BASELINE}") else self.keys
        return np.flatnonzero(own == key).astype(np.int64)

    def all_keys(self) -> list[str]:
        """Return every segment key and then every baseline key, sorted."""
        return [*sorted(set(self.keys.tolist())), *sorted(set(self.baselines.tolist()))]

    def plan(self, panel: Panel) -> dict[str, dict[str, int | bool]]:
        """Return size and verdict of every segment: how many series, how many active, whether too thin for a model."""
        active = Counter(self.keys[panel.active()].tolist())
        total = Counter(self.keys.tolist())
        return {
            key: {"series": total[key], "active": active[key], "thin": active[key] < MIN_SERIES}
            for key in sorted(total)
        }


def _names(values: list[str], column: str) -> list[str]:
    """Return the values as parts of a key, fit to name folders and jobs: letters, digits, points, underscores."""
    names = {value: _NOT_IN_KEYS.sub("_", value).strip("._") or "none" for value in sorted(set(values))}
    for name in sorted(set(names.values())):
        both = [value for value in names if names[value] == name]
        if len(both) > 1:
            raise BadRequest(f"{column} {both[0]!r} and {both[1]!r} would both be called {name!r} in a segment's key",
                             field=column, value=both[1], remedy="rename one of them")
    return [names[value] for value in values]
