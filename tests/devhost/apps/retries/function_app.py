"""Retries: an activity that fails at first, one that never succeeds, and durable HTTP calls."""

import os
from pathlib import Path

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.orchestration_trigger(context_name="context")
def patient(context: df.DurableOrchestrationContext):
    wanted = context.get_input()
    retry = df.RetryOptions(wanted.get("pause", 50), wanted["attempts"])
    try:
        result = yield context.call_activity_with_retry("flaky", retry, wanted["fails"])
    except Exception as problem:
        return f"gave up: {str(problem).splitlines()[0]}"
    after = yield context.call_activity("plain", result)
    return after


@app.orchestration_trigger(context_name="context")
def patient_many(context: df.DurableOrchestrationContext):
    retry = df.RetryOptions(20, 3)
    return (yield context.task_all([context.call_activity_with_retry("odd", retry, n) for n in range(4)]))


@app.orchestration_trigger(context_name="context")
def ask(context: df.DurableOrchestrationContext):
    answer = yield context.call_http("POST", context.get_input()["url"], {"a": 1}, {"x-one": "1"})
    return answer


@app.orchestration_trigger(context_name="context")
def lost(context: df.DurableOrchestrationContext):
    yield context.call_activity("nobody", 1)


@app.orchestration_trigger(context_name="context")
def fails(context: df.DurableOrchestrationContext):
    yield context.call_activity("flaky", 1000)


@app.route(route="echo", methods=["POST"])
def echo(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(req.get_body(), status_code=202, headers={"x-one": req.headers.get("x-one", "")})


@app.activity_trigger(input_name="fails")
def flaky(fails: int) -> str:
    with Path(os.environ["EFFECTS"]).open("a+") as effects:
        effects.seek(0)
        before = len(effects.readlines())
        effects.write("try\n")
    if before < fails:
        raise ValueError(f"attempt {before + 1}")
    return f"after {before + 1}"


@app.activity_trigger(input_name="n")
def odd(n: int) -> int:
    path = Path(f"{os.environ['EFFECTS']}-{n}")
    if not path.exists():
        path.write_text("once")
        raise ValueError("first time")
    return n


@app.activity_trigger(input_name="text")
def plain(text: str) -> str:
    return text.upper()
