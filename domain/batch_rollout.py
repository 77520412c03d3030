"""The rules of a batch rollout (R58, R103): other models take over a batch endpoint after a comparison.

pack (a run's models in one folder, with a sample) -> deploy (under its own name) -> score (the sample, by both names)
-> switch (the default). Production stays the default until the last step, so there is nothing to roll back.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from domain.errors import BadRequest, IntegrityError

SCORES = "forecasts.csv"  # output_file_name of the batch deployment
STAGES = ("pack", "deploy", "score", "switch")
_COLUMNS = ("model", "store", "product", "units")  # of the batch script's answer
_NAME = re.compile(r"^[a-z][a-z0-9-]{2,31}$")
Units = Mapping[tuple[str, str, str], float]


@dataclass(frozen=True)
class BatchPlan:
    """Which deployment takes over, what it is made of, and how far its forecasts may be from production's."""

    candidate: str
    reason: str
    requested_by: str
    models: str = ""  # URI of the folder of models; empty: a deployment that is there takes over unchecked
    data: str = ""  # URI of the curated folder that the sample is made of
    week: str = ""
    max_shift: float = 0.25  # share by which the sample's total units may differ from production's

    @classmethod
    def of_run(cls, wish: Mapping[str, Any], definition: str, data: str, week: str) -> BatchPlan:
        """Return the plan for a run's models; raise BadRequest naming field, value and remedy."""
        shift = wish.get("max_shift", 0.25)
        if isinstance(shift, bool) or not isinstance(shift, int | float) or not 0 <= shift <= 10:
            raise BadRequest("max_shift must be a number from 0 to 10", field="max_shift", value=shift)
        return cls(deployment_name(definition), _reason(wish), str(wish.get("requested_by") or ""), definition, data,
                   week, float(shift))

    @classmethod
    def switch(cls, wish: Mapping[str, Any]) -> BatchPlan:
        """Return the plan that makes a deployment the default as it is; raise BadRequest."""
        name = wish["switch_to"]
        if not isinstance(name, str) or not _NAME.match(name) or "run_id" in wish:
            raise BadRequest("switch_to must be a deployment's name, without run_id", field="switch_to", value=name,
                             remedy="3 to 32 small letters, digits and dashes, a letter first")
        return cls(name, _reason(wish), str(wish.get("requested_by") or ""))

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> BatchPlan:
        """Read what to_dict wrote."""
        return cls(**document)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @property
    def rollout_id(self) -> str:
        """Name made of the content: the same wish again is the same rollout."""
        wish = {key: value for key, value in self.to_dict().items() if key != "requested_by"}
        return f"batch-{hashlib.sha256(json.dumps(wish, sort_keys=True).encode()).hexdigest()[:12]}"

    @property
    def stages(self) -> tuple[str, ...]:
        """Every stage in order."""
        return STAGES if self.models else STAGES[-1:]


def deployment_name(definition: str) -> str:
    """Return the name of the deployment of a folder of models: its version, as Azure ML takes names."""
    return f"m-{definition.rstrip('/').rsplit('/', 1)[-1]}"[:32].lower()


def _reason(wish: Mapping[str, Any]) -> str:
    reason = str(wish.get("reason") or "").strip()
    if not reason:
        raise BadRequest("a rollout needs a reason; it goes into the audit trail", field="reason", remedy="say why")
    return reason


def read_scores(text: str, deployment: str) -> dict[tuple[str, str, str], float]:
    """Return units by (model, store, product) of a batch job's answer; raise IntegrityError for any other text."""
    found: dict[tuple[str, str, str], float] = {}
    for number, row in enumerate(csv.reader(text.splitlines()), start=1):
        try:
            model, store, product, units = row
            key = (model, store, product)
            if key in found:
                raise ValueError("it is there twice")
            found[key] = float(units)
        except ValueError as error:
            raise IntegrityError(f"{deployment} answered in row {number}: {row}, which is not {','.join(_COLUMNS)}: "
                                 f"{error}", row=number) from error
    return found


def refusals(plan: BatchPlan, expected: int, new: Units, production: str, old: Units | None) -> list[str]:
    """Return why the candidate must not become the default, nothing if it may; `expected` rows are in the sample."""
    reasons = []
    if len(new) != expected:
        reasons.append(f"{plan.candidate} scored {len(new)} of {expected} sample rows")
    if any(not math.isfinite(units) or units < 0 for units in new.values()):
        return [*reasons, f"{plan.candidate} forecasts negative or infinite units"]
    if old is None:
        return reasons
    if set(old) != set(new):
        missing, more = len(set(old) - set(new)), len(set(new) - set(old))
        reasons.append(f"{plan.candidate} lacks {missing} forecasts of {production} and has {more} others")
    total = sum(old.values())
    moved = sum(new.values()) - total
    if abs(moved) > plan.max_shift * max(total, 1.0):
        reasons.append(f"{plan.candidate} forecasts {moved / max(total, 1.0):+.0%} units, "
                       f"more than {plan.max_shift:.0%} away from {production}")
    return reasons
