"""Orchestrations that operators suspend, resume, terminate, rewind, restart, query and purge."""

import os
import time
from pathlib import Path

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.FUNCTION)


@app.orchestration_trigger(context_name="context")
def waits(context: df.DurableOrchestrationContext):
    context.set_custom_status("waiting")
    first = yield context.wait_for_external_event("Go")
    second = yield context.call_activity("use", first)
    return second


@app.orchestration_trigger(context_name="context")
def echo(context: df.DurableOrchestrationContext):
    return (yield context.call_activity("use", context.get_input()))


@app.orchestration_trigger(context_name="context")
def parent(context: df.DurableOrchestrationContext):
    before = yield context.call_activity("use", "before")
    inside = yield context.call_sub_orchestrator("fragile", None, f"{context.instance_id}-child")
    return [before, inside]


@app.orchestration_trigger(context_name="context")
def fragile(context: df.DurableOrchestrationContext):
    return (yield context.call_activity("needs_file", None))


@app.orchestration_trigger(context_name="context")
def wavers(context: df.DurableOrchestrationContext):
    """Breaks the rules: asks for other work when it is replayed."""
    name = "use" if not Path(os.environ["EFFECTS"]).exists() else "needs_file"
    yield context.call_activity(name, 1)
    return "never"


@app.orchestration_trigger(context_name="context")
def sleeps(context: df.DurableOrchestrationContext):
    yield context.call_activity("slow", 5)
    return "slept"


@app.activity_trigger(input_name="value")
def use(value: object) -> object:
    with Path(os.environ["EFFECTS"]).open("a") as effects:
        effects.write(f"{value}\n")
    return value


@app.activity_trigger(input_name="nothing")
def needs_file(nothing: object) -> str:
    return Path(os.environ["EFFECTS"] + "-file").read_text()


@app.activity_trigger(input_name="seconds")
def slow(seconds: float) -> None:
    time.sleep(seconds)


@app.route(route="quick")
def quick(req: func.HttpRequest) -> str:
    return "quick"


@app.route(route="admin-only", auth_level=func.AuthLevel.ADMIN)
def admin_only(req: func.HttpRequest) -> str:
    return "admin"


@app.route(route="items/{kind:alpha}/{id:int?}", auth_level=func.AuthLevel.ANONYMOUS)
def items(req: func.HttpRequest) -> func.HttpResponse:
    headers = {"x-url": req.url, "x-kind": req.route_params["kind"], "Set-Cookie": "a=1; Path=/"}
    return func.HttpResponse(req.get_body(), status_code=201, headers=headers, mimetype="application/x-test")


@app.route(route="items/special", auth_level=func.AuthLevel.ANONYMOUS)
def special(req: func.HttpRequest) -> str:
    return "special"


@app.route(route="breaks", auth_level=func.AuthLevel.ANONYMOUS)
def breaks(req: func.HttpRequest) -> str:
    raise RuntimeError("it broke")


@app.route(route="nothing", auth_level=func.AuthLevel.ANONYMOUS)
async def nothing(req: func.HttpRequest) -> str:
    return None  # type: ignore[return-value]
