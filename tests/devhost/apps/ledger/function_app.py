"""Every activity records its effect, so that none can be lost or invented unnoticed."""

import os
from pathlib import Path

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.orchestration_trigger(context_name="context")
def book(context: df.DurableOrchestrationContext):
    number = context.get_input()["n"]
    first = yield context.call_activity("enter", f"{number}-a")
    rest = yield context.task_all([context.call_activity("enter", f"{number}-{side}") for side in ("b", "c")])
    closed = yield context.call_sub_orchestrator("close", number, f"close-{number}")
    return [first, *rest, closed]


@app.orchestration_trigger(context_name="context")
def close(context: df.DurableOrchestrationContext):
    return (yield context.call_activity("enter", f"{context.get_input()}-z"))


@app.activity_trigger(input_name="entry")
def enter(entry: str) -> str:
    # One write call, so that a kill leaves whole lines.
    with Path(os.environ["EFFECTS"]).open("ab", buffering=0) as effects:
        effects.write(f"{entry}\n".encode())
    return entry
