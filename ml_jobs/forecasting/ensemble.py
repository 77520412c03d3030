"""One segment's model: its own LASSO, the pooled net, and their weights from a rolling back-test.

1. On weeks before `choose` both members are fitted; the weeks [choose, judge) pick penalty and weights.
2. On weeks before `judge` they are fitted again with those choices; the weeks [judge, end) are the reported evaluation,
   which no choice has seen.
3. The choices are renewed on both windows together and the final members are fitted on the whole history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml_jobs.forecasting.embedding_net import PooledNet, Weights
from ml_jobs.forecasting.lasso import PATH_POINTS, Lasso, Moments, Scaling, fit_path, median_weights
from ml_jobs.forecasting.objective import objective, row_costs, to_units
from ml_jobs.forecasting.tables import FloatArray, IntArray
from ml_jobs.forecasting.tuning import DEFAULT, Tuning
from ml_jobs.forecasting.windows import Origins

Matrix = np.ndarray[Any, np.dtype[np.float32]]
WEIGHT_GRID = np.linspace(0.0, 1.0, 11)


@dataclass(frozen=True)
class SegmentRows:
    """What one segment learns from: rows whose forecast would have been published, with what both members need."""

    values: Matrix  # unscaled features in the pooled net's order
    codes: IntArray
    level: Matrix
    units: Matrix
    week: IntArray

    @property
    def whole(self) -> bool:
        """Whether units are sold by the piece and not by weight or share."""
        return bool((self.units == np.rint(self.units)).all())


@dataclass(frozen=True)
class Members:
    """The two members fitted on the same weeks."""

    lasso: Lasso
    net: Weights


@dataclass(frozen=True)
class Ensemble:
    """A segment's trained model."""

    members: Members
    net_weight: float
    whole_units: bool  # forecasts are pulled to whole numbers

    def forecast(self, scaling: Scaling, values: Matrix, codes: IntArray, level: Matrix) -> dict[str, FloatArray]:
        """Return units of both members and of the ensemble, never below zero; `scaling` is the pooled net's."""
        logs = self.logs(scaling, values, codes, level)
        return {name: to_units(own, whole=self.whole_units) for name, own in logs.items()}

    def logs(self, scaling: Scaling, values: Matrix, codes: IntArray, level: Matrix) -> dict[str, FloatArray]:
        """Return the same in log1p units, as the members make them."""
        base, scaled = level.astype(np.float64), scaling.apply(values)
        lasso = base + self.members.lasso.predict(scaled)
        net = base + self.members.net.ratio(self.members.net.hidden(scaled, codes)).astype(np.float64)
        return {"ensemble": blend(lasso, net, self.net_weight), "lasso": lasso, "embedding_net": net}


@dataclass(frozen=True)
class Judged:
    """Forecasts of the judging weeks by members fitted before them.

    `tried` and `tried_units` are the same for the choosing weeks: unseen by the members, though not by the choices.
    """

    rows: IntArray
    units: dict[str, FloatArray]
    tried: IntArray
    tried_units: FloatArray


@dataclass(frozen=True)
class Choices:
    """What the back-test picked."""

    lasso: int  # place on the path of penalties, from strong to weak
    net_weight: float


def blend(lasso: FloatArray, net: FloatArray, net_weight: float) -> FloatArray:
    """Return the weighted mean in log space, the space that both members are fitted in."""
    return np.asarray((1.0 - net_weight) * lasso + net_weight * net)


def train(
    segment: SegmentRows, pooled: PooledNet, origins: Origins, tuning: Tuning = DEFAULT
) -> tuple[Ensemble, Judged, Choices]:
    """Fit, choose, judge and fit again; see the module's steps. Some rows must lie before the choosing weeks."""
    fits = _Fits(segment, pooled, tuning)
    window = np.flatnonzero((segment.week >= origins.choose) & (segment.week < origins.judge))
    last = np.flatnonzero(segment.week >= origins.judge)
    lassos = fits.advance(origins.choose)
    unseen = fits.logs("choose", lassos, window)
    chosen = fits.choose([(window, unseen)])
    lassos = fits.advance(origins.judge, warm=lassos)
    members = Members(lassos[chosen.lasso], pooled.stages["judge"])
    units = Ensemble(members, chosen.net_weight, segment.whole).forecast(
        pooled.scaling, segment.values[last], segment.codes[last], segment.level[last]
    )
    tried = to_units(blend(unseen[0][chosen.lasso], unseen[1], chosen.net_weight), whole=segment.whole)
    judged = Judged(last, units, window, tried)
    renewed = fits.choose([(window, unseen), (last, fits.logs("judge", lassos, last))])
    (lasso,) = fits.advance(origins.end, warm=lassos, only=renewed.lasso)
    return Ensemble(Members(lasso, pooled.stages["final"]), renewed.net_weight, segment.whole), judged, renewed


class _Fits:
    """The segment's path of LASSOs, fitted on more and more weeks, and the choice among candidates."""

    def __init__(self, segment: SegmentRows, pooled: PooledNet, tuning: Tuning) -> None:
        self._segment, self._pooled, self._tuning = segment, pooled, tuning
        self._scaled = pooled.scaling.apply(segment.values)
        self._target = np.log1p(segment.units) - segment.level
        self._costs = row_costs(segment.units, pooled.facts["typical_sale"], pooled.facts["percentage_rate"])
        net = pooled.stages["choose"]
        residual = self._target - net.ratio(net.hidden(self._scaled, segment.codes))
        self._weight = self._costs * median_weights(residual, tuning.small_residual)
        self._moments: Moments | None = None
        self._upto = 0

    def advance(self, end: int, *, warm: Sequence[Lasso] = (), only: int | None = None) -> list[Lasso]:
        """Learn the weeks before `end` as well; return the path, or one place of it, fitted on all that was learned."""
        new = np.flatnonzero((self._segment.week >= self._upto) & (self._segment.week < end))
        moments = Moments.of(self._scaled[new], self._target[new], self._weight[new])
        self._moments = moments if self._moments is None else self._moments + moments
        self._upto = end
        return fit_path(self._moments, warm=warm, only=only)

    def logs(self, stage: str, lassos: Sequence[Lasso], rows: IntArray) -> tuple[list[FloatArray], FloatArray]:
        """Return the log forecasts of the given rows by every LASSO and by the net."""
        level, net = self._segment.level[rows].astype(np.float64), self._pooled.stages[stage]
        hidden = net.hidden(self._scaled[rows], self._segment.codes[rows])
        return [level + own.predict(self._scaled[rows]) for own in lassos], level + net.ratio(hidden)

    def choose(self, windows: list[tuple[IntArray, tuple[list[FloatArray], FloatArray]]]) -> Choices:
        """Return the LASSO of the path and the net's weight that did best on the windows together."""
        rows = np.concatenate([index for index, _ in windows])
        tuning = self._tuning
        if not len(rows):
            return Choices(PATH_POINTS // 2, tuning.prior_net_weight)
        lassos = [np.concatenate(parts) for parts in zip(*(own for _, (own, _) in windows), strict=True)]
        net = np.concatenate([own for _, (_, own) in windows])
        actual, costs = self._segment.units[rows].astype(np.float64), self._costs[rows]
        whole = self._segment.whole
        lasso = int(np.argmin([objective(actual, to_units(logs, whole=whole), costs) for logs in lassos]))
        blended = [
            objective(actual, to_units(blend(lassos[lasso], net, weight), whole=whole), costs)
            + tuning.prior_strength * abs(weight - tuning.prior_net_weight)
            for weight in WEIGHT_GRID
        ]
        return Choices(lasso, float(WEIGHT_GRID[int(np.argmin(blended))]))
