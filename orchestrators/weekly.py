"""The run orchestrator: goes through the steps that the run's kind plans, in order, and closes the run.

1. open_run says which steps are still to do.
2. Each step is an activity, or the sub-orchestration run_jobs for steps that run Azure ML jobs.
3. note_step writes the outcome to the ledger and says whether to go on: a closed gate, too many failed jobs or an
   operator's cancellation stop the run before the next cost is incurred.
4. close_run gives the final status, also after an error that nobody expected.

Everything is in the ledger, so the orchestration may begin anew at any point: it goes on with the first step that is
not done. Replay rules: time only from the context, no ids, no random numbers, no I/O; all else is in activities.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from azure.durable_functions import DurableOrchestrationContext

from domain import activity_names as names
from domain.runs import Step
from orchestrators import job_plans
from orchestrators.patience import EVENTS_A_CALL, BeginAnew, Patience

Steps = Generator[Any, Any, Any]

MAX_ERROR = 2000
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
    """Orchestrate one run; input {run_id, closing?, error?}, output {run_id, status, message}."""
    request: Any = context.get_input()
    run_id, error = request["run_id"], str(request.get("error", ""))
    patience = Patience(context)
    closing = bool(request.get("closing"))
    try:
        if not closing:
            try:
                yield from _all_steps(patience, run_id)
            except BeginAnew:
                raise
            except Exception as failure:  # the run must be closed whatever happened; close_run keeps the reason
                error = str(failure)[:MAX_ERROR]
            closing = True
        outcome = yield from patience.call(names.CLOSE_RUN, {"run_id": run_id, "error": error})
    except BeginAnew:
        context.continue_as_new({"run_id": run_id, "closing": closing, "error": error})
        return None
    return outcome


def _all_steps(patience: Patience, run_id: str) -> Steps:
    plan = yield from _answer(patience, names.OPEN_RUN, {"run_id": run_id})
    steps = plan["steps"]
    for position, name in enumerate(steps):
        result = yield from _one_step(patience, run_id, Step(name), plan)
        note = {"run_id": run_id, "step": name, "result": result,
                "next": steps[position + 1] if position + 1 < len(steps) else ""}
        noted = yield from _answer(patience, names.NOTE_STEP, note)
        if not noted["go_on"]:
            return


def _answer(patience: Patience, name: str, request: dict[str, Any]) -> Steps:
    """Call an activity that only keeps the ledger: if it cannot, the run cannot go on."""
    answer = yield from patience.call(name, request)
    if "failed" in answer:
        raise RuntimeError(f"{name}: {answer['failed']}")
    return answer


def _one_step(patience: Patience, run_id: str, step: Step, plan: dict[str, Any]) -> Steps:
    if step in _JOB_STEPS:
        # No instance id of our own: a loop that outlived its parent must not stand in the way of the next one.
        patience.events += EVENTS_A_CALL
        result = yield patience.context.call_sub_orchestrator(
            names.RUN_JOBS, {"run_id": run_id, "phase": _JOB_STEPS[step], "gap": 0.0}
        )
        return result
    if step in _ACTIVITIES:
        result = yield from patience.call(_ACTIVITIES[step], {"run_id": run_id})
        return result
    if step is Step.DATA_GATE:
        gate = yield from patience.call(names.DATA_GATE, {"sales_week": plan["sales_week"], "run_id": run_id})
        return _gate_result(gate, plan["override_gate"])
    curated = yield from patience.call(
        names.CURATE_WEEK, {"sales_week": plan["sales_week"], "as_of": plan["as_of"], "run_id": run_id}
    )
    return _curate_result(curated)


def _gate_result(gate: dict[str, Any], override: str) -> dict[str, Any]:
    if "failed" in gate:
        return gate
    reasons = "; ".join(gate["reasons"])
    result: dict[str, Any] = {"message": reasons or "open", "facts": {"gate": gate}}
    if not gate["open"]:
        if override:
            result |= {"message": f"closed ({reasons}), overridden: {override}", "overridden": reasons}
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
