"""Chaining: each step takes the result of the one before."""

import os
import time
from pathlib import Path

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route(route="orders/{name}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def order(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    instance_id = await client.start_new("prepare", req.params.get("id"), {"name": req.route_params["name"]})
    return client.create_check_status_response(req, instance_id)


@app.orchestration_trigger(context_name="context")
def prepare(context: df.DurableOrchestrationContext):
    name = context.get_input()["name"]
    for step in ("washed", "cut", "packed"):
        context.set_custom_status({"doing": step})
        name = yield context.call_activity(treat, {"name": name, "step": step})
    return {"result": name, "at": str(context.current_utc_datetime), "id": context.new_uuid()}


@app.activity_trigger(input_name="work")
def treat(work: dict) -> str:
    with Path(os.environ["EFFECTS"]).open("a") as effects:
        effects.write(f"{work['step']}\n")
    time.sleep(float(os.environ.get("STEP_SECONDS", "0")))
    return f"{work['name']} {work['step']}"
