"""Human interaction: an approval, or a time-out that escalates; the timer is cancelled when the answer comes."""

import datetime
import json

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.orchestration_trigger(context_name="context")
def approval(context: df.DurableOrchestrationContext):
    yield context.call_activity("ask", context.instance_id)
    deadline = context.current_utc_datetime + datetime.timedelta(seconds=context.get_input()["seconds"])
    timer = context.create_timer(deadline)
    answer = context.wait_for_external_event("Answer")
    winner = yield context.task_any([answer, timer])
    if winner == timer:
        return (yield context.call_activity("escalate", context.instance_id))
    timer.cancel()
    return {"approved": answer.result}


@app.orchestration_trigger(context_name="context")
def two_signatures(context: df.DurableOrchestrationContext):
    first, second = yield context.task_all(
        [context.wait_for_external_event("First"), context.wait_for_external_event("Second")]
    )
    return [first, second]


@app.route(route="answers/{id}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def answer(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> str:
    await client.raise_event(req.route_params["id"], "Answer", req.get_json())
    return json.dumps((await client.get_status(req.route_params["id"])).to_json())


@app.activity_trigger(input_name="id")
def ask(id: str) -> None:
    return None


@app.activity_trigger(input_name="id")
def escalate(id: str) -> str:
    return f"escalated {id}"
