"""One segment's model: its own LASSO, its own last layer on the pooled net, and weights from a rolling back-test.

1. On weeks before `choose` both members are fitted; the weeks [choose, judge) pick penalty, head and weights.
2. On weeks before `judge` they are fitted again with those choices; the weeks [judge, end) are the reported evaluation,
   which no choice has seen.
3. The choices are renewed on both windows together and the final members are fitted on the whole history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ml_jobs.forecasting.embedding_net import PooledNet, Weights
from ml_jobs.forecasting.lasso import Lasso, Scaling, fit_path
from ml_jobs.forecasting.objective import objective, to_units
from ml_jobs.forecasting.tables import FloatArray, IntArray
from ml_jobs.forecasting.tuning import DEFAULT, Tuning
from ml_jobs.forecasting.windows import Origins

Matrix = np.ndarray[Any, np.dtype[np.float32]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
WEIGHT_GRID = np.linspace(0.0, 1.0, 11)
HEAD_STRENGTHS = (np.inf, 1000.0)  # ridge pull to the pooled head, in rows; inf keeps the pooled head
HEAD_MARGIN = 0.002  # a re-tuned head must be better than the pooled one by this to be taken


@dataclass(frozen=True)
class SegmentRows:
    """All ready rows of one segment, features scaled, with what both members need."""

    values: Matrix  # unscaled features in the pooled net's order
    codes: IntArray
    level: Matrix
    units: Matrix
    week: IntArray
    scored: Mask  # the series was active at that week's origin, so a forecast of it would have been published


@dataclass(frozen=True)
class Members:
    """The two members fitted on the same weeks."""

    scaling: Scaling
    lasso: Lasso
    net: Weights


@dataclass(frozen=True)
class Ensemble:
    """A segment's trained model."""

    members: Members
    net_weight: float

    def forecast(self, pooled: Scaling, values: Matrix, codes: IntArray, level: Matrix) -> dict[str, FloatArray]:
        """Return units of both members and of the ensemble, never below zero."""
        base = level.astype(np.float64)
        lasso = base + self.members.lasso.predict(self.members.scaling.apply(values))
        net = base + self.members.net.ratio(self.members.net.hidden(pooled.apply(values), codes)).astype(np.float64)
        return {
            "ensemble": to_units(blend(lasso, net, self.net_weight)),
            "lasso": to_units(lasso),
            "embedding_net": to_units(net),
        }


@dataclass(frozen=True)
class Judged:
    """Forecasts of the judging weeks by members fitted before them."""

    rows: IntArray
    units: dict[str, FloatArray]


@dataclass(frozen=True)
class Choices:
    """What the back-test picked."""

    lasso: int  # place on the path of penalties, from strong to weak
    head: int  # place in HEAD_STRENGTHS
    net_weight: float


def blend(lasso: FloatArray, net: FloatArray, net_weight: float) -> FloatArray:
    """Return the weighted mean in log space, the space that both members are fitted in."""
    return np.asarray((1.0 - net_weight) * lasso + net_weight * net)


def train(
    segment: SegmentRows, pooled: PooledNet, origins: Origins, tuning: Tuning = DEFAULT
) -> tuple[Ensemble, Judged, Choices]:
    """Fit, choose, judge and fit again; see the module's steps."""
    early = _Candidates(segment, pooled, tuning, "choose", segment.week < origins.choose)
    window = (segment.week >= origins.choose) & (segment.week < origins.judge) & segment.scored
    chosen = _choose(segment, [(early, np.flatnonzero(window))])
    middle = _Candidates(segment, pooled, tuning, "judge", segment.week < origins.judge, warm=early)
    last = np.flatnonzero((segment.week >= origins.judge) & segment.scored)
    judged = Judged(last, _ensemble(middle, chosen).forecast(
        pooled.scaling, segment.values[last], segment.codes[last], segment.level[last]
    ))
    renewed = _choose(segment, [(early, np.flatnonzero(window)), (middle, last)])
    everything = np.ones(len(segment.week), dtype=bool)
    final = _Candidates(segment, pooled, tuning, "final", everything, warm=middle, only=renewed)
    return _ensemble(final, Choices(0, 0, renewed.net_weight)), judged, renewed


class _Candidates:
    """Every candidate member fitted on the weeks before one origin; with `only`, the chosen ones alone."""

    def __init__(
        self, segment: SegmentRows, pooled: PooledNet, tuning: Tuning, stage: str, usable: Mask, *,
        warm: _Candidates | None = None, only: Choices | None = None,
    ) -> None:
        rows = np.flatnonzero(usable)
        if not len(rows):
            rows = np.arange(len(segment.week))
        self.scaling = Scaling.of(segment.values[rows])
        self.pooled = pooled
        self.tuning = tuning
        target = (np.log1p(segment.units) - segment.level)[rows]
        scaled = self.scaling.apply(segment.values[rows])
        first = warm.lassos if warm else fit_path(scaled, target)
        residual = target - first[len(first) // 2].predict(scaled)
        self.lassos: list[Lasso] = fit_path(
            scaled, target, weight=_median_weight(residual, tuning.small_residual), warm=first,
            only=only.lasso if only else None,
        )
        net = pooled.stages[stage]
        strengths = HEAD_STRENGTHS if only is None else (HEAD_STRENGTHS[only.head],)
        if all(np.isinf(strength) for strength in strengths):
            self.nets = [net]
            return
        hidden = net.hidden(pooled.scaling.apply(segment.values[rows]), segment.codes[rows])
        self.nets = [_tuned(net, hidden, target, strength) for strength in strengths]

    def logs(self, segment: SegmentRows, rows: IntArray) -> tuple[list[FloatArray], list[FloatArray]]:
        """Return the log forecasts of the given rows by every candidate of both kinds."""
        scaled, level = self.scaling.apply(segment.values[rows]), segment.level[rows].astype(np.float64)
        hidden = self.nets[0].hidden(self.pooled.scaling.apply(segment.values[rows]), segment.codes[rows])
        return (
            [level + lasso.predict(scaled) for lasso in self.lassos],
            [level + net.ratio(hidden).astype(np.float64) for net in self.nets],
        )


def _median_weight(residual: FloatArray, smallest: float) -> Matrix:
    """Return row weights that turn squared errors into nearly absolute ones, as one re-weighting does.

    The mean of logs lies below the median of small counts, so a plain log fit forecasts too little.
    """
    weight = 1.0 / np.maximum(np.abs(residual), max(smallest, 1e-3))
    return np.asarray(weight / weight.mean(), dtype=np.float32)


def _tuned(net: Weights, hidden: Matrix, target: Matrix, strength: float) -> Weights:
    """Return the net with its last layer moved towards this segment's median, pulled back by a ridge.

    Median and not mean: iteratively re-weighted least squares on the absolute error, three rounds.
    """
    if not np.isfinite(strength):
        return net
    rows = np.concatenate([hidden, np.ones((len(hidden), 1), dtype=np.float32)], axis=1)
    residual = target - net.ratio(hidden)
    move = np.zeros(rows.shape[1])
    for _ in range(3):
        weight = np.float32(1.0) / np.maximum(np.abs(residual - rows @ move.astype(np.float32)), np.float32(0.1))
        weight = weight / weight.mean()
        weighted = rows * weight[:, None]
        gram = (weighted.T @ rows).astype(np.float64)
        move = np.linalg.solve(gram + strength * np.eye(len(move)), (weighted.T @ residual).astype(np.float64))
    return net.with_head(net.head + move[:-1].astype(np.float32), net.head_bias + float(move[-1]))


def _choose(segment: SegmentRows, windows: list[tuple[_Candidates, IntArray]]) -> Choices:
    """Return the LASSO of the path, the head and the net's weight that did best on the windows together."""
    rows = np.concatenate([index for _, index in windows])
    tuning = windows[0][0].tuning
    if not len(rows):
        return Choices(len(windows[0][0].lassos) // 2, 0, tuning.prior_net_weight)
    forecasts = [candidates.logs(segment, index) for candidates, index in windows]
    actual = segment.units[rows].astype(np.float64)
    lassos = [np.concatenate(parts) for parts in zip(*(own for own, _ in forecasts), strict=True)]
    nets = [np.concatenate(parts) for parts in zip(*(own for _, own in forecasts), strict=True)]
    lasso = int(np.argmin([objective(actual, to_units(logs)) for logs in lassos]))
    scores = [objective(actual, to_units(logs)) for logs in nets]
    best = int(np.argmin(scores))
    net = best if scores[best] < scores[0] - HEAD_MARGIN else 0
    blended = [
        objective(actual, to_units(blend(lassos[lasso], nets[net], weight)))
        + tuning.prior_strength * abs(weight - tuning.prior_net_weight)
        for weight in WEIGHT_GRID
    ]
    return Choices(lasso, net, float(WEIGHT_GRID[int(np.argmin(blended))]))


def _ensemble(candidates: _Candidates, chosen: Choices) -> Ensemble:
    members = Members(candidates.scaling, candidates.lassos[chosen.lasso], candidates.nets[chosen.head])
    return Ensemble(members, chosen.net_weight)
