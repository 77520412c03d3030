"""Run replay by operators: a new attempt that does only what is missing, failed or changed (N2, R68-R69)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.errors import BadRequest, Conflict
from domain.job_states import Phase
from domain.runs import PLANS, RunId, RunRequest, RunStatus, Step, is_repeated
from domain.segments import Segment
from orchestrators import job_plans
from orchestrators.costing import expected_cost
from orchestrators.ledger import Document, RunLedger
from orchestrators.runs import start_attempt
from orchestrators.services import RunServices

_DATA_STEPS = (Step.DATA_GATE, Step.CURATE)
_DATA_FACTS = ("gate", "folder", "as_of_version", "cutoff", "sources", "absent_sources", "orphans")


def replay_run(
    services: RunServices, run_id: str, body: Mapping[str, Any], actor: str, traceparent: str = ""
) -> dict[str, Any]:
    """Plan (dry_run) or start a replay of an ended run; return {plan, run_id, started}.

    `data` = same (default) keeps the pinned data versions, fresh pins anew. `segments` limits the attempt. `from_step`
    repeats that step and all after it even if they had succeeded. Raises Conflict while the run, or another attempt of
    it, is still going on; the same call again finds the attempt that it has started.
    """
    old_id = RunId.parse(run_id)
    ledger = RunLedger(services.lake)
    old = ledger.run(run_id)
    if not RunStatus(old["status"]).ended:
        raise Conflict(f"{run_id} is still running", run_id=run_id, remedy="wait for its end or cancel it")
    latest = ledger.latest_attempt(old_id.kind, str(old_id.sales_week)) or old_id
    wish = _Wish(body, old)
    newest = ledger.run(str(latest))
    if not wish.dry_run and not RunStatus(newest["status"]).ended:
        if newest["replay_of"] == run_id and newest["request"]["reason"] == wish.reason:
            return {"plan": newest["replay_plan"], "run_id": str(latest), "started": True}
        raise Conflict(f"{latest} is still running", run_id=str(latest), remedy="wait for its end or cancel it")
    steps = _carried_steps(old, wish)
    plan = {
        "replays": run_id, "new_attempt": str(latest.next_attempt), "data": wish.data,
        "from_step": wish.from_step, "segments": list(wish.segments),
        "steps": [
            {"name": step["name"], "action": "keep" if step["status"] == "succeeded" else "do"} for step in steps
        ],
        "jobs": _job_plan(ledger, old, wish, services.settings.code_version),
        "not_yet_planned": [
            phase for phase, step in job_plans.STEP_OF_PHASE.items()
            if step in PLANS[old["kind"]] and ledger.jobs(run_id, phase) is None
        ],
    }
    plan["estimate"] = expected_cost(services, plan["jobs"])
    if wish.dry_run:
        return {"plan": plan, "run_id": str(latest.next_attempt), "started": False}
    request = RunRequest.from_dict(old["request"] | {
        "segments": list(wish.segments) or old["request"]["segments"], "reason": wish.reason, "force": False,
        "requested_by": actor, "override_gate": wish.override_gate, "override_gates": wish.override_gates,
        "correlation_id": str(body.get("correlation_id") or old["correlation_id"]),
    })
    facts = {key: old[key] for key in _DATA_FACTS if key in old} if steps[1]["status"] == "succeeded" else {}
    extra = facts | {
        "replay_of": run_id, "steps": steps, "redo_from": wish.from_step, "forced_by": old["forced_by"],
        "replay_plan": plan, "traceparent": traceparent,
    }
    new_id = start_attempt(services, request, latest, extra)
    return {"plan": plan, "run_id": str(new_id), "started": True}


class _Wish:
    """The checked body of a replay call."""

    def __init__(self, body: Mapping[str, Any], old: Document) -> None:
        known = {"dry_run", "reason", "segments", "from_step", "data", "override_gate", "override_gates",
                 "correlation_id"}
        if unknown := sorted(set(body) - known):
            raise BadRequest(f"unknown fields {', '.join(unknown)}; a replay takes {', '.join(sorted(known))}",
                             field=unknown[0], value=str(body[unknown[0]])[:80])
        self.dry_run = body.get("dry_run", False)
        if not isinstance(self.dry_run, bool):
            raise BadRequest("dry_run must be true or false", field="dry_run", value=self.dry_run)
        self.reason = str(body.get("reason") or "").strip()
        if not self.reason and not self.dry_run:
            raise BadRequest("a replay needs a reason; it goes into the audit trail", field="reason", remedy="say why")
        self.data = body.get("data", "same")
        if self.data not in ("same", "fresh"):
            raise BadRequest(f"data {self.data!r} is not same or fresh", field="data", value=self.data)
        segments = body.get("segments") or []
        if not isinstance(segments, list):
            raise BadRequest("segments must be a list of segment keys", field="segments", value=str(segments)[:80])
        self.segments = tuple(Segment.parse(key).key for key in segments)
        self.from_step = str(body.get("from_step") or "")
        steps = [step.value for step in PLANS[old["kind"]]]
        if self.from_step and self.from_step not in steps:
            raise BadRequest(f"from_step {self.from_step!r} is not one of {', '.join(steps)}", field="from_step",
                             value=self.from_step)
        self.override_gate = str(body.get("override_gate") or "")
        self.override_gates = body.get("override_gates") or []


def _carried_steps(old: Document, wish: _Wish) -> list[Document]:
    """Return the new attempt's steps: with the same data, a gate and a curation that succeeded are kept."""
    redo_data = wish.data == "fresh" or wish.from_step in (*_DATA_STEPS,)
    succeeded = {step["name"]: step for step in old["steps"] if step["status"] == "succeeded"}
    keep = not redo_data and all(step.value in succeeded for step in _DATA_STEPS)
    steps = []
    for step in PLANS[old["kind"]]:
        record: Document = {
            "name": step.value, "status": "waiting", "started_at": "", "ended_at": "", "message": "", "counts": {},
        }
        if keep and step in _DATA_STEPS:
            record = succeeded[step.value] | {"message": f"kept from {old['run_id']}"}
        steps.append(record)
    return steps


def _job_plan(ledger: RunLedger, old: Document, wish: _Wish, code_version: str) -> list[dict[str, str]]:
    """Return what becomes of each job that the old run planned, as far as it is known before the new attempt looks."""
    plan: list[dict[str, str]] = []
    anew = ""
    if wish.data == "fresh":
        anew = "the data are pinned anew; a job whose data turn out the same is kept"
    elif code_version != old["code_version"]:
        anew = f"the code is now {code_version}, it was {old['code_version']}"
    retrained: set[str] = set()
    for phase, step in job_plans.STEP_OF_PHASE.items():
        for unit, item in (ledger.jobs(old["run_id"], phase) or {"items": {}})["items"].items():
            if not _is_wanted(phase, unit, wish.segments):
                continue
            why = anew
            if is_repeated(wish.from_step, step):
                why = f"repeated from step {wish.from_step}"
            elif not why and phase == job_plans.SCORE and unit in retrained:
                why = "a model of the region is trained again"
            going = item["submitted_at"] and not Phase(item["phase"]).ended
            if item["phase"] == Phase.SUCCEEDED.value and not why:
                action = "keep"
            elif going and not why:
                action, why = "adopt", "still running when the run ended"
            else:
                action, why = "run", why or item["error"] or f"it was {item['phase']}"
            if action == "run" and phase == job_plans.TRAIN:
                retrained.add(unit.split("-")[0])
            plan.append({"phase": phase, "unit": unit, "action": action, "name": item["name"], "was": item["phase"],
                         "error": item["error"], "why": why})
    return plan


def _is_wanted(phase: str, unit: str, segments: tuple[str, ...]) -> bool:
    """Whether an attempt that is limited to some segments (empty = all) is about a unit of a phase."""
    if not segments or phase == job_plans.PRETRAIN:
        return True
    if phase == job_plans.SCORE:
        return unit in {Segment.parse(key).region for key in segments}
    return unit in segments or unit in {Segment.parse(key).baseline.key for key in segments}
