"""Drift: how far the data of now is from the data of training, per feature (R115).

PSI (population stability index) over ten bins of equal training share, and the Kolmogorov-Smirnov distance. Both are
facts; the usual reading of PSI (below 0.1 quiet, above 0.25 act) is the default and may be set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from domain.errors import BadRequest

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
Singles = np.ndarray[Any, np.dtype[np.float32]]
BINS = 10
EMPTY_SHARE = 1e-4  # stands for an empty bin, whose logarithm would be infinite
WATCH, ACT = 0.1, 0.25
SAME_FOR_ALL_SERIES = ("year_sin", "year_cos", "month_", "event_", "after_", "before_", "weather_", "weeks_ahead")
SNAPSHOT_FILE = "feature_snapshot.json"


@dataclass(frozen=True)
class Snapshot:
    """What is kept of a feature at training: the inner bin edges and the training share of each bin."""

    edges: tuple[float, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, values: FloatArray | Singles) -> Snapshot:
        """Cut training values into bins of about equal share; repeated values may leave fewer bins."""
        finite = values[np.isfinite(values)]
        if not len(finite):
            raise BadRequest("no finite value to take a snapshot of", field="feature")
        finite.sort()
        finite = finite.astype(np.float64)
        places = np.linspace(0, len(finite) - 1, BINS + 1)[1:-1]
        low, high = finite[np.floor(places).astype(int)], finite[np.ceil(places).astype(int)]
        edges = np.unique(low + (high - low) * (places % 1))
        below = np.searchsorted(finite, edges)
        counts = np.diff(below, prepend=0, append=len(finite))
        return cls(tuple(edges.tolist()), tuple((counts / len(finite)).tolist()))

    def to_dict(self) -> dict[str, list[float]]:
        """Return the JSON form."""
        return {"edges": list(self.edges), "shares": list(self.shares)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Sequence[float]]) -> Snapshot:
        """Read what `to_dict` wrote."""
        return cls(tuple(data["edges"]), tuple(data["shares"]))


@dataclass(frozen=True)
class Drift:
    """One feature's distance from its training snapshot; `verdict` is quiet, watch or act."""

    feature: str
    psi: float
    ks: float
    verdict: str


def snapshots(names: Sequence[str], values: Singles) -> dict[str, Snapshot]:
    """Return a snapshot of every feature that can drift; `values` is rows x features.

    Calendar and events are the same for all series of a week: a single week is always far from the year, which says
    nothing, so they have none.
    """
    by_feature = np.ascontiguousarray(values.T)
    return {
        name: Snapshot.of(own) for name, own in zip(names, by_feature, strict=True)
        if not name.startswith(SAME_FOR_ALL_SERIES)
    }


def psi(snapshot: Snapshot, values: FloatArray) -> float:
    """Return the population stability index of `values` against the snapshot; 0 is identical."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        raise BadRequest("no finite value to compare", field="feature")
    now = np.maximum(_shares(finite, np.array(snapshot.edges)), EMPTY_SHARE)
    then = np.maximum(np.array(snapshot.shares), EMPTY_SHARE)
    return float(((now - then) * np.log(now / then)).sum())


def ks(snapshot: Snapshot, values: FloatArray) -> float:
    """Return the largest distance of the cumulative shares at the snapshot's edges, 0 to 1."""
    finite = values[np.isfinite(values)]
    now, then = _shares(finite, np.array(snapshot.edges)), np.array(snapshot.shares)
    return float(np.abs(np.cumsum(now) - np.cumsum(then)).max())


def compare(snapshots: dict[str, Snapshot], now: dict[str, FloatArray], *, watch: float = WATCH, act: float = ACT
            ) -> list[Drift]:
    """Return the drift of every feature that both sides have, the largest first."""
    found = []
    for name, snapshot in snapshots.items():
        if name in now:
            index = psi(snapshot, now[name])
            verdict = "act" if index >= act else "watch" if index >= watch else "quiet"
            found.append(Drift(name, index, ks(snapshot, now[name]), verdict))
    return sorted(found, key=lambda drift: (-drift.psi, drift.feature))


def _shares(values: FloatArray, edges: FloatArray) -> FloatArray:
    """Return the share of values in each bin; a bin holds its lower edge and not its upper one."""
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return np.asarray(counts / len(values), dtype=np.float64)
