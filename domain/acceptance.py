"""Whether a trained model may go to production: MAPE at or below the target, and better than the history average.

On small counts MAPE rewards forecasting too little, so a verdict always carries WAPE, RMSE 0, RMSE all and bias
beside it. The verdict never changes after it was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from domain.metrics import Metrics, Tally, metrics, value_added


@dataclass(frozen=True)
class Verdict:
    """The acceptance gate's answer for one model, with its numbers."""

    segment: str
    kind: str  # ensemble | baseline
    accepted: bool
    reasons: tuple[str, ...]
    meets_mission: bool  # MAPE <= 45 %, whatever this data set's own target is
    measured: Metrics
    baseline: Metrics
    mape_reduction: float | None  # against the history average

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form used by the ledger, the routes and the dashboard."""
        return {
            "segment": self.segment, "kind": self.kind, "accepted": self.accepted, "reasons": list(self.reasons),
            "meets_mission": self.meets_mission,
            "mape": self.measured.mape, "mape_excluded": self.measured.n_excluded_from_mape,
            "rmse_0": self.measured.rmse_zero, "rmse_all": self.measured.rmse_all, "wape": self.measured.wape,
            "bias": self.measured.bias, "over_share": self.measured.over_share,
            "under_share": self.measured.under_share, "n": self.measured.n,
            "baseline_mape": self.baseline.mape, "baseline_wape": self.baseline.wape,
            "baseline_rmse_0": self.baseline.rmse_zero, "baseline_rmse_all": self.baseline.rmse_all,
            "mape_reduction": self.mape_reduction,
        }


def judge(
    segment: str, kind: str, members: Mapping[str, Tally], *, mape_target: float, mission_mape: float
) -> Verdict:
    """Return the verdict on a model from its back-test tallies (`ensemble` and `baseline`).

    A baseline is always accepted: it is what everything else falls back to.
    """
    own = members["baseline"] if kind == "baseline" else members["ensemble"]
    baseline = members["baseline"]
    measured, reference = metrics(own), metrics(baseline)
    reduction = value_added(own, baseline)
    meets = measured.mape is not None and measured.mape <= mission_mape
    if kind == "baseline":
        reasons: list[str] = ["baseline: the fallback of its region and format"]
        return Verdict(segment, kind, True, tuple(reasons), meets, measured, reference, reduction)
    refused: list[str] = []
    if measured.mape is None:
        refused.append("no positive actual in the back-test: MAPE cannot be measured")
    elif measured.mape > mape_target:
        refused.append(f"MAPE {measured.mape:.3f} is above the target {mape_target:.2f}")
    if reduction is None:
        refused.append("cannot be compared with the history average")
    elif reduction <= 0:
        refused.append(
            f"MAPE {measured.mape:.3f} is not better than the history average's {reference.mape:.3f}"
        )
    reasons = refused or [
        f"MAPE {measured.mape:.3f} <= {mape_target:.2f} and {reduction:.0%} below the history average"
    ]
    return Verdict(segment, kind, not refused, tuple(reasons), meets, measured, reference, reduction)
