"""The run orchestrator: goes through the steps that the run's kind plans, in order, and closes the run.

1. open_run says which steps are still to do.
2. Each step is an activity, or the sub-orchestration run_jobs for steps that run Azure ML jobs.
3. note_step writes the outcome to the ledger and says whether to go on: a closed gate, too many failed jobs or an
   operator's cancellation stop the run before the next cost is incurred.
4. close_run gives the final status, also after an error that nobody expected.

Replay rules: time only from the context, no ids, no random numbers, no I/O; everything else is in activities.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from azure.durable_functions import DurableOrchestrationContext

from domain import activity_names as names
from domain.runs import Step
from orchestrators import job_plans, retry

Steps = Generator[Any, Any, Any]

_JOB_STEPS = {step: phase for phase, step in job_plans.STEP_OF_PHASE.items()}
_CURATED_FACTS = ("folder", "as_of_version", "cutoff", "sources", "absent_sources", "orphans")
_ACTIVITIES = {
    Step.DECIDE: names.DECIDE_TRAINING,
    Step.ACCEPT: names.ACCEPT_MODELS,
    Step.SCORING_GATE: names.COLLECT_SCORES,
    Step.PUBLISH: names.PUBLISH_WEEK,
    Step.RESULTS: names.WRITE_RESULTS,
}


def run_week(context: DurableOrchestrationContext) -> Steps:
    """Orchestrate one run; input {run_id}, output {run_id, status, message}."""
    request: Any = context.get_input()
    run_id = request["run_id"]
    error = ""
    try:
        yield from _all_steps(context, run_id)
    except Exception as failure:  # the run must be closed whatever happened; close_run keeps the reason
        error = str(failure)
    outcome = yield context.call_activity_with_retry(
        names.CLOSE_RUN, retry.LEDGER, {"run_id": run_id, "error": error[:2000]}
    )
    return outcome


def _all_steps(context: DurableOrchestrationContext, run_id: str) -> Steps:
    plan = yield context.call_activity_with_retry(names.OPEN_RUN, retry.LEDGER, {"run_id": run_id})
    steps = plan["steps"]
    for position, name in enumerate(steps):
        result = yield from _one_step(context, run_id, Step(name), plan)
        note = {"run_id": run_id, "step": name, "result": result,
                "next": steps[position + 1] if position + 1 < len(steps) else ""}
        noted = yield context.call_activity_with_retry(names.NOTE_STEP, retry.LEDGER, note)
        if not noted["go_on"]:
            return


def _one_step(context: DurableOrchestrationContext, run_id: str, step: Step, plan: dict[str, Any]) -> Steps:
    if step in _JOB_STEPS:
        phase = _JOB_STEPS[step]
        result = yield context.call_sub_orchestrator(
            names.RUN_JOBS, {"run_id": run_id, "phase": phase, "gap": 0.0}, f"{run_id}-{phase}"
        )
        return result
    if step in _ACTIVITIES:
        result = yield context.call_activity_with_retry(_ACTIVITIES[step], retry.WORK, {"run_id": run_id})
        return result
    if step is Step.DATA_GATE:
        gate = yield context.call_activity_with_retry(
            names.DATA_GATE, retry.LEDGER, {"sales_week": plan["sales_week"]}
        )
        return _gate_result(gate, plan["override_gate"])
    curated = yield context.call_activity_with_retry(
        names.CURATE_WEEK, retry.WORK, {"sales_week": plan["sales_week"], "as_of": plan["as_of"]}
    )
    return _curate_result(curated)


def _gate_result(gate: dict[str, Any], override: str) -> dict[str, Any]:
    if "failed" in gate:
        return gate
    reasons = "; ".join(gate["reasons"])
    result: dict[str, Any] = {"message": reasons or "open", "facts": {"gate": gate}}
    if not gate["open"]:
        if override:
            result["message"] = f"closed ({reasons}), overridden: {override}"
        else:
            result["failed"] = f"the data gate is closed: {reasons}"
    return result


def _curate_result(curated: dict[str, Any]) -> dict[str, Any]:
    if "failed" in curated:
        return curated
    states = curated["pair_states"]
    return {
        "message": f"{states.get('active', 0)} active pairs, {curated['pinned']} pinned data versions",
        "counts": states | curated["orphans"],
        "facts": {key: curated[key] for key in _CURATED_FACTS},
    }


