"""A blueprint with durable functions."""

import azure.durable_functions as df
import azure.functions as func

greetings = df.Blueprint()


@greetings.route(route="greet", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
@greetings.durable_client_input(client_name="client")
async def greet(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    instance_id = await client.start_new("Greeting", client_input=req.get_json())
    return await client.wait_for_completion_or_create_check_status_response(req, instance_id, 5000, 50)


@greetings.orchestration_trigger(context_name="context", orchestration="Greeting")
def greeting_orchestrator(context: df.DurableOrchestrationContext):
    return (yield context.call_activity("Say", context.get_input()))


@greetings.activity_trigger(input_name="names", activity="Say")
async def say_activity(names: list) -> list:
    return [f"hello {name}" for name in names]
