"""Runs: identity, request, plan of steps, states."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from domain.errors import BadRequest
from domain.sales_weeks import SalesWeek
from domain.segments import Segment

_RUN_ID = re.compile(r"^(?P<kind>[a-z]+)-(?P<week>\d{4}-W\d{2})-a(?P<attempt>[1-9]\d{0,3})$")
MAX_REASON = 500


class RunStatus(StrEnum):
    """State of a run. `degraded` = finished and published, but something runs in failover state."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    DEGRADED = "degraded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether the run will not change any more."""
        return self is not RunStatus.RUNNING

    @property
    def well(self) -> bool:
        """Whether the run did what it was for."""
        return self in (RunStatus.SUCCEEDED, RunStatus.DEGRADED)


def remedy_of(status: RunStatus, run_id: str) -> str:
    """Return what a person can do about a run that ended otherwise than well; empty for the others."""
    if status is RunStatus.FAILED:
        return (
            f"Mend the cause, then POST /api/runs/{run_id}/replay with a reason: it does again only what is missing or "
            f"failed; GET /api/runs/{run_id} shows every step and job"
        )
    if status is RunStatus.CANCELLED:
        return f"POST /api/runs/{run_id}/replay with a reason goes on with it"
    if status is RunStatus.DEGRADED:
        return f"GET /api/runs/{run_id} says which segments fell back and why"
    return ""


class Step(StrEnum):
    """Steps of a run, in the order in which they happen."""

    DATA_GATE = "data_gate"
    CURATE = "curate"
    DECIDE = "decide"
    PRETRAIN = "pretrain"
    TRAIN = "train"
    ACCEPT = "accept"
    SCORE = "score"
    SCORING_GATE = "scoring_gate"
    PUBLISH = "publish"
    RESULTS = "results"


_TRAINING = (Step.DECIDE, Step.PRETRAIN, Step.TRAIN, Step.ACCEPT)
_SCORING = (Step.SCORE, Step.SCORING_GATE)

# What each kind of run does. `validate` proves data, training and scoring end to end and publishes nothing (R81).
PLANS: Mapping[str, tuple[Step, ...]] = {
    "weekly": (Step.DATA_GATE, Step.CURATE, *_TRAINING, *_SCORING, Step.PUBLISH, Step.RESULTS),
    "train": (Step.DATA_GATE, Step.CURATE, *_TRAINING, Step.RESULTS),
    "score": (Step.DATA_GATE, Step.CURATE, *_SCORING, Step.PUBLISH, Step.RESULTS),
    "validate": (Step.DATA_GATE, Step.CURATE, *_TRAINING, *_SCORING),
    "backfill": (Step.DATA_GATE, Step.CURATE, *_TRAINING, *_SCORING, Step.PUBLISH, Step.RESULTS),
}
KINDS = tuple(PLANS)

# These kinds look at the past or at a change of code: what they train serves themselves and never replaces production.
ISOLATED_KINDS = ("validate", "backfill")

# Gates that an operator may override with a reason: the data, the share of failed training jobs, implausible forecasts.
# Forecasts that are incomplete, not finite or negative are never published.
OVERRIDABLE = (Step.DATA_GATE, Step.TRAIN, Step.SCORING_GATE)


def is_repeated(redo_from: str, step: Step) -> bool:
    """Return whether a replay `from_step` does this step again even where it had succeeded."""
    order = list(Step)
    return bool(redo_from) and order.index(step) >= order.index(Step(redo_from))


@dataclass(frozen=True)
class RunId:
    """`weekly-2017-W45-a1`: kind, sales week, attempt. Also the durable instance id and the stem of job names."""

    kind: str
    sales_week: SalesWeek
    attempt: int

    @classmethod
    def parse(cls, text: str) -> RunId:
        """Read a run id; raise BadRequest for anything else."""
        match = _RUN_ID.match(text if isinstance(text, str) else "")
        if not match or match["kind"] not in PLANS:
            raise BadRequest(
                f"{text!r} is not a run id; write KIND-YYYY-Www-aN, for example weekly-2017-W45-a1",
                field="run_id", value=text, remedy="take it from GET /api/runs",
            )
        return cls(match["kind"], SalesWeek.parse(match["week"]), int(match["attempt"]))

    @property
    def next_attempt(self) -> RunId:
        """Identity of the attempt after this one."""
        return RunId(self.kind, self.sales_week, self.attempt + 1)

    def __str__(self) -> str:
        return f"{self.kind}-{self.sales_week}-a{self.attempt}"


@dataclass(frozen=True)
class RunRequest:
    """What somebody asked for. `segments` empty = all."""

    kind: str
    sales_week: SalesWeek
    segments: tuple[str, ...] = ()
    force: bool = False  # train even what needs no training, as a new attempt
    reason: str = ""
    correlation_id: str = ""
    requested_by: str = ""
    as_of: str = ""  # ISO 8601 time: use only data that was known then (bitemporal back-fill); empty = now
    override_gate: str = ""  # an operator's reason to go on although a gate is closed
    override_gates: tuple[str, ...] = ()  # the gates that the reason is for; with a reason alone, the data gate

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunRequest:
        """Read and check a request body; raise BadRequest naming field, value and remedy."""
        kind = str(data.get("kind"))
        if kind not in PLANS:
            raise BadRequest(
                f"kind {kind!r} is not one of {', '.join(KINDS)}", field="kind", value=kind, remedy="use a listed kind"
            )
        known = {"kind", "sales_week", "segments", "force", "reason", "correlation_id", "requested_by", "as_of",
                 "override_gate", "override_gates"}
        unknown = sorted(set(data) - known)
        if unknown:
            raise BadRequest(
                f"unknown fields {', '.join(unknown)}; a run takes {', '.join(sorted(known))}",
                field=unknown[0], value=data[unknown[0]], remedy="remove them",
            )
        segments = data.get("segments") or []
        if not isinstance(segments, Sequence) or isinstance(segments, str):
            raise BadRequest("segments must be a list of segment keys", field="segments", value=segments)
        force = data.get("force", False)
        if not isinstance(force, bool):
            raise BadRequest("force must be true or false", field="force", value=force)
        return cls(
            kind=kind,
            sales_week=SalesWeek.parse(data.get("sales_week", "")),
            segments=tuple(Segment.parse(key).key for key in segments),
            force=force,
            reason=_text(data, "reason"),
            correlation_id=_text(data, "correlation_id"),
            requested_by=_text(data, "requested_by"),
            as_of=_utc_time(_text(data, "as_of")),
            override_gate=_text(data, "override_gate"),
            override_gates=_gates(data),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that from_dict reads."""
        return {
            "kind": self.kind, "sales_week": str(self.sales_week), "segments": list(self.segments),
            "force": self.force, "reason": self.reason, "correlation_id": self.correlation_id,
            "requested_by": self.requested_by, "as_of": self.as_of, "override_gate": self.override_gate,
            "override_gates": list(self.override_gates),
        }


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key) or ""
    if not isinstance(value, str) or len(value) > MAX_REASON:
        raise BadRequest(f"{key} must be text of at most {MAX_REASON} characters", field=key, value=str(value)[:80])
    return value


def _utc_time(text: str) -> str:
    """Return a time as ISO 8601 UTC with milliseconds, the form that data versions carry; empty stays empty."""
    if not text:
        return ""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadRequest(
            f"as_of {text!r} is not a time; write it as 2017-11-06T06:00:00Z", field="as_of", value=text,
            remedy="use ISO 8601",
        ) from error
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds")


def _gates(data: Mapping[str, Any]) -> tuple[str, ...]:
    gates = data.get("override_gates") or []
    allowed = [step.value for step in OVERRIDABLE]
    if not isinstance(gates, Sequence) or isinstance(gates, str) or any(gate not in allowed for gate in gates):
        raise BadRequest(f"override_gates takes {', '.join(allowed)}", field="override_gates", value=str(gates)[:80])
    reason = str(data.get("override_gate") or "")
    if gates and not reason:
        raise BadRequest("overriding a gate needs a reason: override_gate", field="override_gate", remedy="say why")
    return tuple(gates) if gates or not reason else (Step.DATA_GATE.value,)


def is_overridden(request: Mapping[str, Any], gate: Step) -> bool:
    """Return whether the request of a run (its JSON form) overrides a gate."""
    return bool(request["override_gate"]) and gate.value in request["override_gates"]


@dataclass(frozen=True)
class StepRecord:
    """One step of a run as the ledger keeps it. Times are ISO 8601 UTC text."""

    name: str
    status: str = "waiting"  # waiting | running | succeeded | failed | skipped
    started_at: str = ""
    ended_at: str = ""
    message: str = ""
    counts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name, "status": self.status, "started_at": self.started_at, "ended_at": self.ended_at,
            "message": self.message, "counts": self.counts,
        }
