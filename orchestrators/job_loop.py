"""The poll loop of one phase: submit what fits, look once a tick, wait, and begin anew before the history grows.

A look costs up to 8 history events with its timer and a submitted chunk up to 4, retries apart, so an execution ends
after EVENTS_PER_EXECUTION of them: its history stays below 500 events, whatever the number of jobs and hours.
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import Any

from azure.durable_functions import DurableOrchestrationContext

from domain import activity_names as names
from orchestrators import retry

EVENTS_PER_EXECUTION = 300
EVENTS_A_LOOK = 8
EVENTS_A_CHUNK = 4
CHUNKS_AT_ONCE = 40


def run_jobs(context: DurableOrchestrationContext) -> Generator[Any, Any, Any]:
    """Orchestrate one phase; input {run_id, phase, gap, planned?}, output the step's result."""
    request: Any = context.get_input()
    key = {"run_id": request["run_id"], "phase": request["phase"]}
    if not request.get("planned"):
        planned = yield context.call_activity_with_retry(names.PLAN_JOBS, retry.WORK, key)
        if "failed" in planned:
            return planned
    gap = float(request["gap"])
    events = 0
    while events < EVENTS_PER_EXECUTION:
        tick = yield context.call_activity_with_retry(names.POLL_JOBS, retry.LEDGER, key | {"gap": gap})
        if "result" in tick:
            return tick["result"]
        gap = float(tick["gap"])
        if tick["submit"]:
            answers = yield context.task_all([
                context.call_activity_with_retry(names.SUBMIT_JOBS, retry.LEDGER, key | {"units": units})
                for units in tick["submit"][:CHUNKS_AT_ONCE]
            ])
            gap = max([gap, *(float(answer["retry_after"]) for answer in answers)])
        yield context.create_timer(context.current_utc_datetime + timedelta(seconds=gap))
        events += EVENTS_A_LOOK + EVENTS_A_CHUNK * len(tick["submit"][:CHUNKS_AT_ONCE])
    context.continue_as_new(key | {"gap": gap, "planned": True})
    return None
