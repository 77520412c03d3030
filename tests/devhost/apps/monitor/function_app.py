"""Monitor: look, sleep on a durable timer, look again, until it is so or too late."""

import datetime
import os
from pathlib import Path

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.orchestration_trigger(context_name="context")
def watch(context: df.DurableOrchestrationContext):
    wanted = context.get_input()
    deadline = context.current_utc_datetime + datetime.timedelta(seconds=wanted["seconds"])
    looks = 0
    while context.current_utc_datetime < deadline:
        looks += 1
        if (yield context.call_activity("exists", wanted["path"])):
            return {"found": True, "looks": looks}
        yield context.create_timer(context.current_utc_datetime + datetime.timedelta(milliseconds=200))
    return {"found": False, "looks": looks}


@app.activity_trigger(input_name="path")
def exists(path: str) -> bool:
    with Path(os.environ["EFFECTS"]).open("a") as effects:
        effects.write("look\n")
    return Path(path).exists()
