"""Entities: counters that are called, signalled, read and deleted."""

import json

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.entity_trigger(context_name="context")
def Counter(context: df.DurableEntityContext):
    value = context.get_state(lambda: 0)
    operation = context.operation_name
    if operation == "add":
        value += context.get_input()
        context.set_state(value)
        context.set_result(value)
    elif operation == "get":
        context.set_result(value)
    elif operation == "fail":
        raise ValueError("the counter is broken")
    elif operation == "delete":
        context.destruct_on_exit()


@app.orchestration_trigger(context_name="context")
def count(context: df.DurableOrchestrationContext):
    entity = df.EntityId("Counter", context.get_input()["key"])
    context.signal_entity(entity, "add", 10)
    first = yield context.call_entity(entity, "add", 1)
    both = yield context.task_all([context.call_entity(entity, "add", 2), context.call_entity(entity, "get")])
    try:
        yield context.call_entity(entity, "fail")
    except Exception as problem:
        return [first, both, str(problem)]


@app.route(route="counters/{key}")
@app.durable_client_input(client_name="client")
async def counter(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    entity = df.EntityId("Counter", req.route_params["key"])
    if req.method == "POST":
        await client.signal_entity(entity, "add", int(req.params["by"]))
        return func.HttpResponse(status_code=202)
    found = await client.read_entity_state(entity)
    return func.HttpResponse(json.dumps({"exists": found.entity_exists, "state": found.entity_state}))
