"""Why a segment is trained, or not (R57, N12)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from domain.staleness import age_days, is_stale


@dataclass(frozen=True)
class Champion:
    """What the decision needs to know of the production model."""

    version: str
    data_version: str
    code_version: str
    trained_on: date


@dataclass(frozen=True)
class Drift:
    """How far the data left the production model's training, as a scoring run measured it."""

    feature: str  # the one that moved most
    psi: float
    limit: float
    features: int  # how many passed the limit
    seen_by: str  # run id

    def __str__(self) -> str:
        others = f" and {self.features - 1} more" if self.features > 1 else ""
        return f"PSI {self.psi:.2f} of {self.feature}{others}, limit {self.limit:g}, seen by {self.seen_by}"


@dataclass(frozen=True)
class TrainingDecision:
    """Train or keep, with the reasons in words and numbers."""

    segment: str
    action: str  # train | keep
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"segment": self.segment, "action": self.action, "reasons": list(self.reasons)}


def decide_training(
    segment: str,
    champion: Champion | None,
    *,
    data_version: str,
    code_version: str,
    scored_on: date,
    stale_after_days: int,
    asked: str = "",
    drift: Drift | None = None,
) -> TrainingDecision:
    """Return the decision with every reason that holds, the strongest first."""
    reasons: list[str] = []
    if asked:
        reasons.append(f"asked: {asked}")
    if champion is None:
        reasons.append("no model in production")
    else:
        if is_stale(champion.trained_on, scored_on, stale_after_days):
            age = age_days(champion.trained_on, scored_on)
            reasons.append(f"stale: {age} days old, limit {stale_after_days}")
        if champion.data_version != data_version:
            reasons.append(f"new data: {champion.data_version or 'none'} -> {data_version}")
        if champion.code_version != code_version:
            reasons.append(f"new code: {champion.code_version or 'none'} -> {code_version}")
    if drift is not None:
        reasons.append(f"drift: {drift}")
    if reasons:
        return TrainingDecision(segment, "train", tuple(reasons))
    return TrainingDecision(segment, "keep", ("same data, same code, not stale, no drift",))
