"""Eternal: an orchestration that begins anew with what it has learnt, and history that never grows."""

import datetime
import os
from pathlib import Path

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.orchestration_trigger(context_name="context")
def heartbeat(context: df.DurableOrchestrationContext):
    state = context.get_input()
    yield context.call_activity("beat", state["count"])
    yield context.create_timer(context.current_utc_datetime + datetime.timedelta(milliseconds=state.get("pause", 20)))
    if state["count"] + 1 < state["until"]:
        context.continue_as_new({**state, "count": state["count"] + 1})
        return None
    return state["count"] + 1


@app.activity_trigger(input_name="count")
def beat(count: int) -> None:
    with Path(os.environ["EFFECTS"]).open("a") as effects:
        effects.write(f"{count}\n")
