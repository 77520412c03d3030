"""An app in several files: blueprints of their own, registered here."""

import azure.durable_functions as df
import azure.functions as func
from greetings import greetings

app = df.DFApp(http_auth_level=func.AuthLevel.FUNCTION)
app.register_functions(greetings)


@app.function_name("Ping")
@app.route(route="ping/{number:int}", methods=["GET"])
async def ping(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    return func.HttpResponse(f"{context.function_name} {req.route_params['number']} {len(context.invocation_id)}")
