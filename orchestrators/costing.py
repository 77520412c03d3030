"""Cost of a run: an estimate before its jobs are submitted, a guard, and the actual figures after (N11)."""

from __future__ import annotations

from collections import Counter
from typing import Any

from domain.costs import FIRST_GUESS_MINUTES, cost_of_phases, estimate, node_minutes
from domain.errors import BudgetExceeded
from domain.runs import PLANS, Step
from orchestrators import job_plans
from orchestrators.ledger import Document, RunLedger
from orchestrators.services import RunServices

RUNS_LOOKED_AT = 5


def run_cost(services: RunServices, run_id: str) -> dict[str, Any]:
    """Return the run's node minutes and cost so far: in total, per phase, per job."""
    ledger = RunLedger(services.lake)
    phases = {
        phase: (ledger.jobs(run_id, phase) or {"items": {}})["items"].values() for phase in job_plans.STEP_OF_PHASE
    }
    return cost_of_phases(run_id, phases, services.settings.node_price_per_hour)


def estimate_run(services: RunServices, run: Document, decisions: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what all phases of a run are expected to cost, if every job has to run.

    Raises BudgetExceeded before the first job is submitted if that is above RUN_BUDGET (0 = no limit).
    """
    to_train = [str(decision["segment"]) for decision in decisions if decision["action"] == "train"]
    regions = {str(decision["segment"]).split("-")[0] for decision in decisions}
    steps = PLANS[run["kind"]]
    jobs = {
        job_plans.PRETRAIN: int(any(not key.endswith("-baseline") for key in to_train)),
        job_plans.TRAIN: len(to_train),
        job_plans.SCORE: len(regions) if Step.SCORE in steps else 0,
    }
    ledger, phases, total = RunLedger(services.lake), {}, 0.0
    for phase, count in jobs.items():
        minutes, basis = _minutes_a_job(ledger, phase)
        cost = estimate(count, minutes, services.settings.node_price_per_hour)
        phases[phase] = {"jobs": count, "minutes_a_job": round(minutes, 4), "basis": basis, "cost": round(cost, 6)}
        total += cost
    budget = services.settings.run_budget
    if budget and total > budget and not run["replay_of"]:  # a replay adopts: its phases are judged one by one
        raise BudgetExceeded(
            f"{run['run_id']} would cost about {total:.2f}, the budget is {budget:.2f}; nothing was submitted",
            remedy="raise RUN_BUDGET, or run fewer segments",
        )
    return {"cost": round(total, 6), "phases": phases, "budget": budget}


def expected_cost(services: RunServices, jobs: list[dict[str, str]]) -> dict[str, Any]:
    """Return what the jobs of a replay's plan that have to run are expected to cost."""
    ledger, price = RunLedger(services.lake), services.settings.node_price_per_hour
    counts = Counter(job["phase"] for job in jobs if job["action"] == "run")
    cost = sum(estimate(count, _minutes_a_job(ledger, phase)[0], price) for phase, count in counts.items())
    return {"jobs": sum(counts.values()), "cost": round(cost, 6)}


def guard_budget(services: RunServices, run_id: str, phase: str, items: dict[str, Document]) -> dict[str, Any]:
    """Return the phase's estimate; raise BudgetExceeded if the run would pass RUN_BUDGET (0 = no limit)."""
    jobs = sum(1 for item in items.values() if not item["adopted_from"])
    minutes, basis = _minutes_a_job(RunLedger(services.lake), phase)
    settings = services.settings
    expected = estimate(jobs, minutes, settings.node_price_per_hour)
    spent = run_cost(services, run_id)["cost"]
    if jobs and settings.run_budget and spent + expected > settings.run_budget:
        raise BudgetExceeded(
            f"{phase} of {run_id}: {jobs} jobs of about {minutes:.1f} node minutes would cost {expected:.2f} on top of "
            f"{spent:.2f}, the budget is {settings.run_budget:.2f}; nothing was submitted",
            remedy="raise RUN_BUDGET, or replay with fewer segments",
        )
    return {"jobs": jobs, "minutes_a_job": round(minutes, 4), "basis": basis, "cost": round(expected, 6)}


def _minutes_a_job(ledger: RunLedger, phase: str) -> tuple[float, str]:
    for run in ledger.run_ids()[:RUNS_LOOKED_AT]:
        items = (ledger.jobs(str(run), phase) or {"items": {}})["items"].values()
        measured = [minutes for item in items if (minutes := node_minutes(item, str(run)))]
        if measured:
            return sum(measured) / len(measured), f"mean of {len(measured)} jobs of {run}"
    return FIRST_GUESS_MINUTES[phase], "first guess"
