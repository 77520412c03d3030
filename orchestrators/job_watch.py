"""Planning, submitting and watching the jobs of one phase: the bodies behind the poll loop.

One tick is one bulk status request and one change of the job ledger, whatever the number of jobs. The intent is in
the ledger before anything is submitted, so a lost answer or a crash never makes a second job.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from domain.errors import JobRejected, NotFound, ShelfcastError, Throttled, Unavailable
from domain.job_states import JobSpec, JobStatus, Phase, is_known
from domain.polling import PollPolicy
from domain.runs import RunId, is_repeated
from orchestrators import job_plans
from orchestrators.costing import guard_budget
from orchestrators.ledger import Document, RunLedger
from orchestrators.scoring import build_lineup
from orchestrators.services import RunServices

SUBMIT_CHUNK = 8  # a submission takes about a second on Azure ML; an activity should end in seconds
GRACE = timedelta(minutes=2)  # a job just submitted may not be readable yet
LOST_AFTER = timedelta(minutes=10)  # a submitted job that the platform still does not know was lost: submit again


def plan_phase(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Write the intents of a phase; adopt what earlier attempts already made. Return {jobs, adopted}."""
    run_id, phase = request["run_id"], request["phase"]
    ledger = RunLedger(services.lake)
    if (existing := ledger.jobs(run_id, phase)) is None:
        run = ledger.run(run_id)
        items = {plan.unit: plan.to_item() for plan in _plans(services, ledger, run, phase)}
        if not is_repeated(run["redo_from"], job_plans.STEP_OF_PHASE[phase]):
            adopt(ledger, RunId.parse(run_id), phase, items)
        expected = guard_budget(services, run_id, phase, items)
        existing = ledger.plan_jobs(
            run_id, phase, {"run_id": run_id, "phase": phase, "estimate": expected, "items": items}
        )
    jobs = existing["items"].values()
    return {"jobs": len(jobs), "adopted": sum(1 for item in jobs if item["adopted_from"])}


def _plans(services: RunServices, ledger: RunLedger, run: Document, phase: str) -> list[job_plans.JobPlan]:
    effort = "quick" if run["kind"] == "validate" else services.settings.train_effort
    if phase == job_plans.SCORE:
        lineup, definition = build_lineup(services, ledger, run)
        return job_plans.plan_scoring(run, lineup, definition)
    decisions = ledger.noted(run["run_id"], "decisions", [])
    to_train = [decision["segment"] for decision in decisions if decision["action"] == "train"]
    needs_net = any(not key.endswith("-baseline") for key in to_train)
    if phase == job_plans.PRETRAIN:
        return job_plans.plan_pretrain(run, effort) if needs_net else []
    pooled: Document = {}
    if needs_net:
        pretraining = ledger.jobs(run["run_id"], job_plans.PRETRAIN)
        if pretraining is None:
            raise NotFound(f"{run['run_id']} has no pretraining yet", run_id=run["run_id"])
        pooled = pretraining["items"][job_plans.POOLED]
    return job_plans.plan_training(run, to_train, pooled, effort)


def adopt(ledger: RunLedger, run_id: RunId, phase: str, items: dict[str, Document]) -> None:
    """Take over, into `items`, jobs of earlier attempts with the same identity that succeeded or may still run."""
    for attempt in range(run_id.attempt - 1, 0, -1):
        earlier = ledger.jobs(str(RunId(run_id.kind, run_id.sales_week, attempt)), phase)
        for unit, old in (earlier or {"items": {}})["items"].items():
            item = items.get(unit)
            if item is None or item["adopted_from"] or old["identity"] != item["identity"]:
                continue
            ended_badly = Phase(old["phase"]) in (Phase.FAILED, Phase.CANCELLED) or old["cancel_requested_at"]
            if old["submitted_at"] and not ended_badly:
                items[unit] = old | {"adopted_from": old["adopted_from"] or old["spec"]["run_id"]}


def submit_units(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Submit the named units of a phase; return {submitted, retry_after}.

    A job that the platform refuses for good fails with its reason; one that it cannot take now stays planned.
    """
    run_id, phase = request["run_id"], request["phase"]
    ledger = RunLedger(services.lake)
    items = (ledger.jobs(run_id, phase) or {"items": {}})["items"]
    submitted: list[str] = []
    rejected: dict[str, str] = {}
    retry_after = 0.0
    for unit in request["units"]:
        item = items[unit]
        if item["submitted_at"]:
            continue
        try:
            services.jobs.submit(JobSpec.from_dict(item["spec"]))
        except Throttled as error:
            retry_after = float(error.fields.get("retry_after", 30))
            break
        except Unavailable:
            retry_after = services.settings.poll_first_seconds
            break
        except (JobRejected, ShelfcastError) as error:
            rejected[unit] = error.message
        else:
            submitted.append(unit)
    now = services.clock.now().isoformat(timespec="milliseconds")

    def change(document: Document) -> None:
        for unit in submitted:
            entry = document["items"][unit]
            if not entry["submitted_at"]:
                entry.update({"phase": Phase.WAITING.value, "status": "Submitted", "submitted_at": now})
        for unit, message in rejected.items():
            document["items"][unit].update({"phase": Phase.FAILED.value, "error": message, "ended_at": now})

    ledger.change_jobs(run_id, phase, change)
    return {"submitted": len(submitted), "rejected": len(rejected), "retry_after": retry_after}


def poll_phase(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Look at all jobs of a phase once, note what changed, and say what is to do.

    Returns {counts, submit: [[unit, ...], ...], gap}, or {result} once every job has ended. A platform that cannot be
    reached only makes the gap longer: polling goes on until every job has ended or passed its deadline.
    """
    run_id, phase = request["run_id"], request["phase"]
    settings = services.settings
    policy = PollPolicy(settings.poll_first_seconds, settings.poll_longest_seconds)
    ledger = RunLedger(services.lake)
    document = ledger.jobs(run_id, phase)
    if document is None:
        raise NotFound(f"{run_id} has no planned jobs for {phase}", run_id=run_id)
    items = document["items"]
    now = services.clock.now()
    watched = [item["name"] for item in items.values() if item["submitted_at"] and not Phase(item["phase"]).ended]
    cancelling = bool(ledger.run(run_id)["cancel_requested"])
    try:
        statuses = services.jobs.statuses(run_id, watched) if watched else {}
    except Unavailable as error:
        asked = float(error.fields.get("retry_after", 0))
        gap = policy.next_gap(float(request["gap"]), changed=False, retry_after=asked)
        return {"counts": _counts(items), "submit": [], "gap": gap}
    deadline = timedelta(
        minutes=settings.score_deadline_minutes if phase == job_plans.SCORE else settings.train_deadline_minutes
    )
    to_cancel: list[str] = []

    def change(document: Document) -> None:
        to_cancel.clear()
        for item in document["items"].values():
            if Phase(item["phase"]).ended:
                continue
            if not item["submitted_at"]:
                if cancelling:
                    item.update({"phase": Phase.CANCELLED.value, "ended_at": now.isoformat(), "error": "run cancelled"})
                continue
            _update(item, statuses.get(item["name"]), now)
            if Phase(item["phase"]).ended or not item["submitted_at"]:
                continue
            overdue = now - datetime.fromisoformat(item["submitted_at"]) > deadline
            if (overdue or cancelling) and _take_down(item, now, deadline if overdue else None):
                to_cancel.append(item["name"])

    before = _counts(items)
    items = ledger.change_jobs(run_id, phase, change)["items"]
    for name in to_cancel:
        services.jobs.cancel(name)
    after = _counts(items)
    if all(Phase(item["phase"]).ended for item in items.values()):
        return {"result": finish_phase(ledger, run_id, phase, settings.max_failed_share)}
    gap = policy.next_gap(float(request["gap"]), changed=after != before)
    return {"counts": after, "submit": [] if cancelling else _to_submit(services, items), "gap": gap}


def _update(item: Document, status: JobStatus | None, now: datetime) -> None:
    """Copy one status into the ledger entry. A job that is nowhere is young, or it was lost."""
    if status is None:
        age = now - datetime.fromisoformat(item["submitted_at"])
        if age > LOST_AFTER:
            item.update({"submitted_at": "", "phase": Phase.PLANNED.value, "error": "the platform lost the job"})
        elif age > GRACE:
            item["error"] = "the platform does not know the job (yet)"
        return
    phase = status.phase
    if item["cancel_requested_at"] and phase is Phase.CANCELLED:
        phase = Phase.FAILED if "deadline" in item["error"] else Phase.CANCELLED
    item.update({"status": status.status, "phase": phase.value, "preempted": status.preempted})
    item["started_at"] = status.started_at or item["started_at"]
    item["ended_at"] = status.ended_at or item["ended_at"]
    if status.error and not item["cancel_requested_at"]:
        item["error"] = status.error
    elif not is_known(status.status):
        item["error"] = f"unknown status {status.status!r}: waiting on"
    if phase is Phase.SUCCEEDED:
        item["error"] = ""


def _take_down(item: Document, now: datetime, deadline: timedelta | None) -> bool:
    """Ask once for cancellation; a job that ignores it for the grace time counts as failed. True = cancel it now."""
    if not item["cancel_requested_at"]:
        item["cancel_requested_at"] = now.isoformat(timespec="milliseconds")
        minutes = f"{deadline.total_seconds() / 60:g}" if deadline else ""
        item["error"] = f"deadline of {minutes} minutes passed" if deadline else "run cancelled"
        return True
    if now - datetime.fromisoformat(item["cancel_requested_at"]) > GRACE:
        phase = Phase.FAILED if deadline else Phase.CANCELLED
        item.update({"phase": phase.value, "ended_at": now.isoformat(timespec="milliseconds")})
        item["error"] += "; the platform did not confirm the cancellation"
    return False


def _to_submit(services: RunServices, items: dict[str, Document]) -> list[list[str]]:
    in_flight = sum(1 for item in items.values() if item["submitted_at"] and not Phase(item["phase"]).ended)
    free = max(0, services.settings.max_jobs_in_flight - in_flight)
    waiting = [unit for unit, item in items.items() if item["phase"] == Phase.PLANNED.value][:free]
    return [waiting[start:start + SUBMIT_CHUNK] for start in range(0, len(waiting), SUBMIT_CHUNK)]


def _counts(items: dict[str, Document]) -> dict[str, int]:
    counts = Counter(item["phase"] for item in items.values())
    return {phase.value: counts.get(phase.value, 0) for phase in Phase}


def finish_phase(ledger: RunLedger, run_id: str, phase: str, max_failed_share: float) -> dict[str, Any]:
    """Return a phase's result for its step: counts, and a failure when too many jobs failed."""
    document = ledger.jobs(run_id, phase) or {"items": {}}
    items = document["items"].values()
    bad = [item for item in items if Phase(item["phase"]) in (Phase.FAILED, Phase.CANCELLED)]
    counts = _counts(document["items"]) | {"adopted": sum(1 for item in items if item["adopted_from"])}
    result: dict[str, Any] = {"counts": counts, "message": f"{counts['succeeded']} of {len(items)} jobs succeeded"}
    if bad:
        named = "; ".join(f"{item['unit']}: {item['error'] or item['status']}" for item in bad[:3])
        result["message"] = f"{len(bad)} of {len(items)} jobs failed: {named}"
        allowed = max_failed_share if phase == job_plans.TRAIN else 0.0
        if len(bad) > allowed * len(items):
            result["failed"] = result["message"]
        else:
            result["facts"] = {"failed_jobs": len(bad)}
    return result

