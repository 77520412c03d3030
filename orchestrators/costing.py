"""Cost of a run: an estimate before its jobs are submitted, a guard, and the actual figures after (N11)."""

from __future__ import annotations

from typing import Any

from domain.costs import FIRST_GUESS_MINUTES, cost_of_phases, estimate, node_minutes
from domain.errors import BudgetExceeded
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
