"""Planning, submitting and watching the jobs of one phase: the bodies behind the poll loop.

One tick is one bulk status request and one change of the job ledger, whatever the number of jobs. The intent is in
the ledger before anything is submitted, so a lost answer or a crash never makes a second job.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from domain.costs import seconds_between
from domain.errors import NotFound, ShelfcastError, Unavailable
from domain.job_items import (
    blocked,
    cancel_sent,
    enforce,
    has_ended,
    is_in_flight,
    may_pass,
    observe,
    rejected,
    submitted,
    unseen,
    wants_cancel,
)
from domain.job_states import JobSpec, JobStatus, Phase
from domain.polling import PollPolicy
from domain.runs import RunId, is_overridden, is_repeated
from domain.slots import Claim
from orchestrators import job_plans
from orchestrators.costing import guard_budget
from orchestrators.ledger import Document, RunLedger
from orchestrators.scoring import build_lineup
from orchestrators.services import RunServices
from orchestrators.slots import take_slots
from orchestrators.tracing import run_dimensions
from orchestrators.waiting import LONGEST_PATIENCE, note_going_on, note_waiting, patience

SUBMIT_CHUNK = 8  # a submission takes about a second on Azure ML; an activity should end in seconds
LARGEST_CHUNK = 25
CHUNKS_A_LOOK = 40  # the poll loop starts so many activities at once
SUBMIT_SECONDS = 60.0  # with a service that answers slowly an activity leaves the rest to the next look


def plan_phase(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Write the intents of a phase; adopt what earlier attempts already made. Return {jobs, adopted}."""
    run_id, phase = request["run_id"], request["phase"]
    ledger = RunLedger(services.lake)
    if (existing := ledger.jobs(run_id, phase)) is None:
        run = ledger.run(run_id)
        items = {plan.unit: plan.to_item() for plan in _plans(services, ledger, run, phase)}
        if not is_repeated(run["redo_from"], job_plans.STEP_OF_PHASE[phase]):
            # A forced run repeats on purpose; its replays take over what it did, and nothing older.
            oldest = RunId.parse(run["forced_by"]).attempt if run["forced_by"] else 1
            adopt(ledger, RunId.parse(run_id), phase, items, oldest)
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


def adopt(ledger: RunLedger, run_id: RunId, phase: str, items: dict[str, Document], oldest: int = 1) -> None:
    """Take over, into `items`, jobs of earlier attempts with the same identity that succeeded or may still run.

    A job that a later attempt had taken over and found useless stays useless.
    """
    useless: set[str] = set()
    for attempt in range(run_id.attempt - 1, oldest - 1, -1):
        earlier = ledger.jobs(str(RunId(run_id.kind, run_id.sales_week, attempt)), phase)
        for unit, old in (earlier or {"items": {}})["items"].items():
            item = items.get(unit)
            if item is None or item["adopted_from"] or old["identity"] != item["identity"]:
                continue
            if Phase(old["phase"]) in (Phase.FAILED, Phase.CANCELLED) or old["cancel_requested_at"]:
                useless.add(old["name"])
            if old["submitted_at"] and old["name"] not in useless:
                origin = {"adopted_from": old["adopted_from"] or old["spec"]["run_id"], "instead_of": item}
                items[unit] = item | old | origin


def submit_units(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Submit the named units of a phase; return {submitted, rejected, retry_after}.

    A job that the platform refuses for good fails with its reason; one that it cannot take now stays planned.
    """
    run_id, phase = request["run_id"], request["phase"]
    ledger = RunLedger(services.lake)
    items = (ledger.jobs(run_id, phase) or {"items": {}})["items"]
    taken: list[str] = []
    refused: dict[str, str] = {}
    waiting: dict[str, str] = {}
    retry_after = usual = services.settings.poll_first_seconds
    until = time.monotonic() + SUBMIT_SECONDS
    for unit in request["units"]:
        item = items[unit]
        if item["submitted_at"] or has_ended(item):
            continue
        if time.monotonic() > until:
            break
        error = _submit(services, ledger, item)
        if error is None:
            taken.append(unit)
            continue
        is_late = isinstance(error, Unavailable)
        (waiting if is_late or _may_pass(services, item, error) else refused)[unit] = error.message
        if is_late:
            retry_after = patience(error, usual)
            break
    now = services.clock.now()

    def change(document: Document) -> None:
        for unit in taken:
            submitted(document["items"][unit], now)
        for unit, message in refused.items():
            rejected(document["items"][unit], message, now)
        for unit, message in waiting.items():
            blocked(document["items"][unit], message, now)

    changed = ledger.change_jobs(run_id, phase, change)["items"]
    _emit_all(services, ledger, run_id, [changed[unit] for unit in waiting])
    if held := _held_up(changed):
        note_waiting(services, run_id, "submit_units", held)
    return {"submitted": len(taken), "rejected": len(refused), "retry_after": retry_after if waiting else 0.0}


def _submit(services: RunServices, ledger: RunLedger, item: Document) -> ShelfcastError | None:
    try:
        services.jobs.submit(JobSpec.from_dict(item["spec"]))
    except ShelfcastError as error:
        return error
    except Exception as error:  # a defect of a platform's client must not stop the other jobs
        logging.getLogger(__name__).exception("submitting %s", item["name"])
        run = ledger.run(item["spec"]["run_id"])
        services.telemetry.exception(error, run_dimensions(run) | {"segment": item["unit"]})
        return ShelfcastError(f"{type(error).__name__}: {error}", is_defect=True)
    return None


def _may_pass(services: RunServices, item: Document, error: ShelfcastError) -> bool:
    is_defect = bool(error.fields.get("is_defect"))
    return is_defect or may_pass(item, int(error.fields.get("status") or 0), services.clock.now())


def disown(ledger: RunLedger, run_id: str, phase: str, useless: dict[str, str], now: datetime) -> None:
    """Count ended jobs as failed that left nothing to go on with (unit: why), so that a replay does them again."""
    def change(document: Document) -> None:
        for unit, why in useless.items():
            rejected(document["items"][unit], why, now)

    if useless:
        ledger.change_jobs(run_id, phase, change)


def cancel_units(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Tell the platform to cancel the named units; return {cancelled, retry_after}. Safe to repeat."""
    run_id, phase = request["run_id"], request["phase"]
    ledger = RunLedger(services.lake)
    items = (ledger.jobs(run_id, phase) or {"items": {}})["items"]
    told: list[str] = []
    retry_after = 0.0
    for unit in request["units"]:
        if not wants_cancel(items[unit]):
            continue
        try:
            services.jobs.cancel(items[unit]["name"])
        except ShelfcastError as error:
            retry_after = patience(error, services.settings.poll_first_seconds)
            note_waiting(services, run_id, "cancel_units", error.message)
            continue
        told.append(unit)
    now = services.clock.now()

    def change(document: Document) -> None:
        for unit in told:
            cancel_sent(document["items"][unit], now)

    ledger.change_jobs(run_id, phase, change)
    return {"cancelled": len(told), "retry_after": retry_after}


def poll_phase(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Look at all jobs of a phase once, note what changed, and say what is to do.

    Returns {counts, submit: [[unit, ...], ...], cancel: [...], gap}, or {result} once every job has ended. A platform
    that cannot be reached only makes the gap longer: polling goes on until every job has ended or passed its deadline.
    """
    run_id, phase = request["run_id"], request["phase"]
    settings = services.settings
    policy = PollPolicy(settings.poll_first_seconds, settings.poll_longest_seconds)
    ledger = RunLedger(services.lake)
    document = ledger.jobs(run_id, phase)
    if document is None:
        raise NotFound(f"{run_id} has no planned jobs for {phase}", run_id=run_id)
    before = document["items"]
    run = ledger.run(run_id)
    cancelling = bool(run["cancel_requested"])
    statuses, asked, trouble = _look(services, run, before)
    now = services.clock.now()
    deadline = timedelta(
        minutes=settings.score_deadline_minutes if phase == job_plans.SCORE else settings.train_deadline_minutes
    )

    def change(document: Document) -> None:
        for item in document["items"].values():
            if is_in_flight(item):
                if statuses is None:
                    unseen(item, now, deadline)
                    continue
                observe(item, statuses.get(item["name"]), now)
            enforce(item, now, deadline, cancelling=cancelling)

    old = {unit: (item["phase"], item["status"]) for unit, item in before.items()}
    items = ledger.change_jobs(run_id, phase, change)["items"]
    changed = [item for unit, item in items.items() if (item["phase"], item["status"]) != old[unit]]
    for item in changed:
        _emit(services, run, item)
    to_cancel = [unit for unit, item in items.items() if wants_cancel(item)]
    if held := trouble or _held_up(items):
        note_waiting(services, run_id, "poll_phase" if trouble else "submit_units", held)
    elif not to_cancel:
        note_going_on(services, run)
    wanted = 0 if cancelling else sum(1 for item in items.values() if item["phase"] == Phase.PLANNED.value)
    in_flight = sum(1 for item in items.values() if is_in_flight(item))
    kind = job_plans.SCORE if phase == job_plans.SCORE else job_plans.TRAIN
    granted = take_slots(services, run_id, phase, Claim(kind, in_flight, wanted))
    if all(has_ended(item) for item in items.values()):
        return {"result": finish_phase(ledger, run, phase, settings.max_failed_share)}
    gap = policy.next_gap(float(request["gap"]), changed=bool(changed), retry_after=min(asked, LONGEST_PATIENCE))
    return {
        "counts": _counts(items), "submit": _chunks(_planned(items)[:granted]) if statuses is not None else [],
        "cancel": _chunks(to_cancel), "gap": gap,
    }


def _held_up(items: dict[str, Document]) -> str:
    """Return why a job could not be submitted yet, or nothing if none is held up."""
    held = (item for item in items.values() if item["blocked_since"] and not has_ended(item))
    return next((f"{item['unit']}: {item['error']}" for item in held), "")


def _look(
    services: RunServices, run: Document, items: dict[str, Document]
) -> tuple[dict[str, JobStatus] | None, float, str]:
    """Return (statuses by job name, 0, ""), or (None, seconds to wait, why) if the platform cannot be asked.

    Adopted jobs carry the run that submitted them, and platforms list jobs by run: a look is at the jobs of one run,
    whichever chance chooses, so that adopting does not multiply the requests. The others were not asked about.
    """
    watched: dict[str, list[str]] = {}
    for item in items.values():
        if is_in_flight(item):
            watched.setdefault(item["spec"]["run_id"], []).append(item["name"])
    if not watched:
        return {}, 0.0, ""
    (owner,) = random.sample(sorted(watched), 1)
    others = chain.from_iterable(job_names for run_id, job_names in watched.items() if run_id != owner)
    statuses = {name: JobStatus(name, "") for name in others}
    try:
        statuses |= services.jobs.statuses(owner, watched[owner])
    except ShelfcastError as error:
        return None, float(error.fields.get("retry_after") or 0.0), error.message
    except Exception as error:  # whatever broke, not being able to look says nothing about the jobs
        logging.getLogger(__name__).exception("looking at jobs")
        services.telemetry.exception(error, run_dimensions(run))
        return None, 0.0, f"{type(error).__name__}: {error}"
    return statuses, 0.0, ""


def _emit_all(services: RunServices, ledger: RunLedger, run_id: str, items: list[Document]) -> None:
    run = ledger.run(run_id) if items else {}
    for item in items:
        _emit(services, run, item)


def _emit(services: RunServices, run: Document, item: Document) -> None:
    region, _, rest = str(item["unit"]).partition("-")
    services.telemetry.event(
        "aml_job_state",
        run_dimensions(run) | {
            "job_name": item["name"], "status": item["status"] or item["phase"], "phase": item["phase"],
            "segment": item["unit"], "region": region if rest else "", "error": item["error"],
            "preempted": item["preempted"],
            "quota_refused": bool(item["blocked_since"]) and "quota" in item["error"].lower(),
        },
        {"seconds": seconds_between(item["started_at"], item["ended_at"]),
         "queued_seconds": seconds_between(item["submitted_at"], item["started_at"])},
    )


def _planned(items: dict[str, Document]) -> list[str]:
    return [unit for unit, item in items.items() if item["phase"] == Phase.PLANNED.value]


def _chunks(units: list[str]) -> list[list[str]]:
    """Cut into chunks for one activity each: a few jobs, or more where there would be too many activities."""
    size = min(LARGEST_CHUNK, max(SUBMIT_CHUNK, -(-len(units) // CHUNKS_A_LOOK)))
    return [units[start:start + size] for start in range(0, len(units), size)]


def _counts(items: dict[str, Document]) -> dict[str, int]:
    counts = Counter(item["phase"] for item in items.values())
    return {phase.value: counts.get(phase.value, 0) for phase in Phase}


def finish_phase(ledger: RunLedger, run: Document, phase: str, max_failed_share: float) -> dict[str, Any]:
    """Return a phase's result for its step: counts, and a failure when too many jobs failed (the training gate)."""
    document = ledger.jobs(run["run_id"], phase) or {"items": {}}
    items = document["items"].values()
    bad = [item for item in items if Phase(item["phase"]) in (Phase.FAILED, Phase.CANCELLED)]
    counts = _counts(document["items"]) | {
        "adopted": sum(1 for item in items if item["adopted_from"]),
        "preempted": sum(int(item["preempted"]) for item in items),
    }
    result: dict[str, Any] = {"counts": counts, "message": f"{counts['succeeded']} of {len(items)} jobs succeeded"}
    if not bad:
        return result
    named = "; ".join(f"{item['unit']}: {item['error'] or item['status']}" for item in bad[:3])
    result |= {"message": f"{len(bad)} of {len(items)} jobs failed: {named}", "facts": {"failed_jobs": len(bad)}}
    allowed = max_failed_share if phase == job_plans.TRAIN else 0.0
    if len(bad) > allowed * len(items):
        if phase == job_plans.TRAIN and is_overridden(run["request"], job_plans.STEP_OF_PHASE[phase]):
            result["overridden"] = result["message"]
        else:
            result["failed"] = result["message"]
    return result
