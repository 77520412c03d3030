"""The rules of a safe rollout (R106, R107): the stages of a candidate deployment, and what stops it.

test (by name, no traffic) -> mirror (copies of live requests) -> 10 % -> 50 % -> 100 %. At every stage the same sample
of requests is asked of both deployments by name; once the candidate has live traffic also of the endpoint itself.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from domain.errors import BadRequest

MAX_SAMPLE = 100
MAX_MIRROR = 50  # per cent; more is refused by Azure ML
SLOW_MS = 100.0  # an answer within this is never too slow, whatever production needs
_NAME = re.compile(r"^[a-z][a-z0-9-]{2,31}$")


@dataclass(frozen=True)
class Stage:
    """One state of the endpoint: shares of live and of mirrored requests by deployment, in per cent."""

    name: str
    live: Mapping[str, int]
    mirror: Mapping[str, int]


@dataclass(frozen=True)
class Probe:
    """What one request of the sample got: HTTP status (0: no answer), milliseconds, forecasts (units by product)."""

    status: int
    milliseconds: float
    units: Mapping[str, float]


@dataclass(frozen=True)
class RolloutPlan:
    """Which deployment takes over from which, by what steps, and how much worse it may be."""

    production: str
    candidate: str
    sample: tuple[Mapping[str, Any], ...]
    reason: str
    requested_by: str
    steps: tuple[int, ...] = (10, 50, 100)
    mirror_percent: int = 10
    soak_seconds: float = 600.0
    max_shift: float = 0.25  # share by which the sample's total units may differ from production's
    max_slowdown: float = 2.0  # times production's 95th percentile

    @classmethod
    def from_dict(cls, wish: Mapping[str, Any]) -> RolloutPlan:
        """Read a plan; raise BadRequest naming field, value and remedy."""
        for field in ("production", "candidate"):
            if not isinstance(wish.get(field), str) or not _NAME.match(wish[field]):
                raise BadRequest(f"{field} must be a deployment's name", field=field, value=wish.get(field),
                                 remedy="3 to 32 small letters, digits and dashes, a letter first")
        if wish["production"] == wish["candidate"]:
            raise BadRequest("candidate and production are the same deployment", field="candidate",
                             value=wish["candidate"], remedy="name the new deployment")
        sample = wish.get("sample")
        if not isinstance(sample, list) or not 0 < len(sample) <= MAX_SAMPLE or not all(
            isinstance(request, dict) for request in sample
        ):
            raise BadRequest(f"sample must be a list of 1 to {MAX_SAMPLE} request objects", field="sample",
                             remedy='for example [{"store_id": "001"}]')
        if not str(wish.get("reason") or "").strip():
            raise BadRequest("a rollout needs a reason; it goes into the audit trail", field="reason", remedy="say why")
        steps = wish.get("steps", [10, 50, 100])
        if not isinstance(steps, list) or not steps or not all(
            isinstance(step, int) and 0 < step <= 100 for step in steps
        ) or sorted(set(steps)) != steps or steps[-1] != 100:
            raise BadRequest("steps must rise to 100", field="steps", value=steps, remedy="for example [10, 50, 100]")
        return cls(
            wish["production"], wish["candidate"], tuple(sample), str(wish["reason"]).strip(),
            str(wish.get("requested_by") or ""), tuple(steps),
            int(_number(wish, "mirror_percent", 10, MAX_MIRROR)), _number(wish, "soak_seconds", 600.0, 86_400.0),
            _number(wish, "max_shift", 0.25, 10.0), _number(wish, "max_slowdown", 2.0, 100.0),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what from_dict reads."""
        return asdict(self) | {"sample": list(self.sample), "steps": list(self.steps)}

    @property
    def rollout_id(self) -> str:
        """Name made of the content: the same wish again is the same rollout."""
        wish = {key: value for key, value in self.to_dict().items() if key != "requested_by"}
        digest = hashlib.sha256(json.dumps(wish, sort_keys=True).encode()).hexdigest()
        return f"rollout-{self.candidate}-{digest[:12]}"

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Every stage in order."""
        mirror = [Stage(f"mirror {self.mirror_percent} %", {self.production: 100},
                        {self.candidate: self.mirror_percent})] if self.mirror_percent else []
        return (
            Stage("test", {self.production: 100}, {}), *mirror,
            *(Stage(f"{step} %", {self.production: 100 - step, self.candidate: step} if step < 100
                    else {self.candidate: 100}, {}) for step in self.steps),
        )

    @property
    def before(self) -> Stage:
        """The state to roll back to."""
        return Stage("roll back", {self.production: 100}, {})


def _number(wish: Mapping[str, Any], field: str, default: float, highest: float) -> float:
    value = wish.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= highest:
        raise BadRequest(f"{field} must be a number from 0 to {highest:g}", field=field, value=value)
    return float(value)


def stop_reasons(plan: RolloutPlan, production: Sequence[Probe], candidate: Sequence[Probe],
                 endpoint: Sequence[Probe] = ()) -> list[str]:
    """Return why the rollout must stop, nothing if it may go on; the probes are in the sample's order.

    A request that production itself does not answer says nothing of the candidate and is left out.
    """
    pairs = [(old, new) for old, new in zip(production, candidate, strict=True) if old.status == 200]
    if not pairs:
        return [f"{plan.production} answers none of the {len(production)} sample requests"]
    reasons = []
    failed = [new.status for _, new in pairs if new.status != 200]
    if failed:
        reasons.append(f"{plan.candidate} failed {len(failed)} of {len(pairs)} requests ({_named(failed[0])})")
    answered = [(old, new) for old, new in pairs if new.status == 200]
    if any(set(old.units) != set(new.units) for old, new in answered):
        reasons.append(f"{plan.candidate} forecasts other products than {plan.production}")
    if any(not math.isfinite(units) or units < 0 for _, new in answered for units in new.units.values()):
        reasons.append(f"{plan.candidate} forecasts negative or infinite units")
    else:
        total = sum(sum(old.units.values()) for old, _ in answered)
        moved = sum(sum(new.units.values()) for _, new in answered) - total
        if answered and abs(moved) > plan.max_shift * max(total, 1.0):
            reasons.append(f"{plan.candidate} forecasts {moved / max(total, 1.0):+.0%} units, "
                           f"more than {plan.max_shift:.0%} away from {plan.production}")
    slow, limit = percentile_95(new for _, new in answered), plan.max_slowdown * percentile_95(old for old, _ in pairs)
    if slow > max(limit, SLOW_MS):
        reasons.append(f"{plan.candidate} needs {slow:.0f} ms for the slowest twentieth, the limit is {limit:.0f}")
    broken = [probe.status for probe in endpoint if probe.status != 200]
    if len(broken) > sum(old.status != 200 for old in production):
        reasons.append(f"the endpoint failed {len(broken)} of {len(endpoint)} requests ({_named(broken[0])})")
    return reasons


def _named(status: int) -> str:
    return f"HTTP {status}" if status else "no answer"


def percentile_95(probes: Iterable[Probe]) -> float:
    """Return the 95th percentile of the probes' milliseconds, 0 without any."""
    times = sorted(probe.milliseconds for probe in probes)
    return times[math.ceil(0.95 * len(times)) - 1] if times else 0.0
