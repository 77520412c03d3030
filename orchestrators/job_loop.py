"""The poll loop of one phase: look once a tick, submit and cancel what the look says, wait; begin anew in time.

A look with its timer costs 8 history events and a chunk of submissions 4, so the history of an execution stays below
500 events, whatever the number of jobs and hours (see orchestrators.patience).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from azure.durable_functions import DurableOrchestrationContext

from domain import activity_names as names
from orchestrators.patience import EVENTS_A_CALL, BeginAnew, Patience

CHUNKS_AT_ONCE = 40
GAP_AFTER_A_FAULT = 5.0


def run_jobs(context: DurableOrchestrationContext) -> Generator[Any, Any, Any]:
    """Orchestrate one phase; input {run_id, phase, gap, planned?}, output the step's result."""
    request: Any = context.get_input()
    key = {"run_id": request["run_id"], "phase": request["phase"]}
    state = key | {"gap": float(request.get("gap", 0.0)), "planned": bool(request.get("planned"))}
    try:
        result = yield from _watch(Patience(context), key, state)
    except BeginAnew:
        context.continue_as_new(state)
        return None
    return result


def _watch(patience: Patience, key: dict[str, Any], state: dict[str, Any]) -> Generator[Any, Any, Any]:
    if not state["planned"]:
        planned = yield from patience.call(names.PLAN_JOBS, key)
        if "failed" in planned:
            return planned
        state["planned"] = True
    while True:
        tick = yield from patience.call(names.POLL_JOBS, key | {"gap": state["gap"]})
        if "failed" in tick:
            return tick
        if "result" in tick:
            return tick["result"]
        state["gap"] = float(tick["gap"])
        wishes = [(names.CANCEL_JOBS, units) for units in tick["cancel"]]
        wishes += [(names.SUBMIT_JOBS, units) for units in tick["submit"]]
        if wishes:
            asked = yield from _all_at_once(patience, key, wishes[:CHUNKS_AT_ONCE])
            state["gap"] = max(state["gap"], asked)
        yield from patience.wait(state["gap"])


def _all_at_once(
    patience: Patience, key: dict[str, Any], wishes: list[tuple[str, list[str]]]
) -> Generator[Any, Any, Any]:
    """Fan out; return the longest wait that an answer asks for. What did not happen, the next look wishes again."""
    patience.events += EVENTS_A_CALL * len(wishes)
    context = patience.context
    try:
        answers = yield context.task_all([
            context.call_activity(name, key | {"units": units}) for name, units in wishes
        ])
    except Exception:  # one chunk broke: the ledger knows which units were submitted
        return GAP_AFTER_A_FAULT
    return max(float(answer.get("retry_after") or answer.get("again") or 0.0) for answer in answers)
