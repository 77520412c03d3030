"""Sub-orchestrations: children with names, input, failures and retries of their own."""

import os
import time

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.orchestration_trigger(context_name="context")
def family(context: df.DurableOrchestrationContext):
    named = context.call_sub_orchestrator("child", {"n": 1}, f"{context.instance_id}-first")
    others = [context.call_sub_orchestrator("child", {"n": n}) for n in (2, 3)]
    return (yield context.task_all([named, *others]))


@app.orchestration_trigger(context_name="context")
def child(context: df.DurableOrchestrationContext):
    n = context.get_input()["n"]
    doubled = yield context.call_activity("double", n)
    return {"n": doubled, "parent": context.parent_instance_id}


@app.orchestration_trigger(context_name="context")
def careful(context: df.DurableOrchestrationContext):
    try:
        yield context.call_sub_orchestrator("broken", None)
    except Exception as problem:
        return str(problem)


@app.orchestration_trigger(context_name="context")
def stubborn(context: df.DurableOrchestrationContext):
    retry = df.RetryOptions(50, 3)
    try:
        yield context.call_sub_orchestrator_with_retry("broken", retry, None)
    except Exception as problem:
        return f"gave up: {problem}"


@app.orchestration_trigger(context_name="context")
def broken(context: df.DurableOrchestrationContext):
    yield context.call_activity("double", 1)
    raise ValueError("the child is broken")


@app.activity_trigger(input_name="n")
def double(n: int) -> int:
    time.sleep(float(os.environ.get("STEP_SECONDS", "0")))
    return n * 2
