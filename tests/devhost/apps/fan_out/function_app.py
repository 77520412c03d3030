"""Fan-out and fan-in: many activities at once, their results together; failures wait for the slowest."""

import os
import time
from pathlib import Path

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.orchestration_trigger(context_name="context")
def total(context: df.DurableOrchestrationContext):
    sizes = yield context.task_all([context.call_activity("measure", n) for n in range(context.get_input()["count"])])
    return sum(sizes)


@app.orchestration_trigger(context_name="context")
def first_of(context: df.DurableOrchestrationContext):
    tasks = [context.call_activity("wait", 0.05), context.call_activity("wait", 1.5)]
    winner = yield context.task_any(tasks)
    return winner == tasks[0]


@app.orchestration_trigger(context_name="context")
def one_fails(context: df.DurableOrchestrationContext):
    try:
        yield context.task_all([context.call_activity("wait", 1.0), context.call_activity("wait", -1)])
    except Exception as problem:
        after = yield context.call_activity("measure", 7)
        return [after, str(problem)]


@app.orchestration_trigger(context_name="context")
def one_by_one(context: df.DurableOrchestrationContext):
    """Takes results in the order of their arrival."""
    left = [context.call_activity("wait", 0.01 * n) for n in range(5)]
    seen = []
    while left:
        done = yield context.task_any(left)
        left.remove(done)
        seen.append(done.result)
    return sorted(seen)


@app.activity_trigger(input_name="n")
def measure(n: int) -> int:
    time.sleep(float(os.environ.get("STEP_SECONDS", "0")))
    if "EFFECTS" in os.environ:
        with Path(os.environ["EFFECTS"]).open("a") as effects:
            effects.write(f"{n}\n")
    return n


@app.activity_trigger(input_name="seconds")
def wait(seconds: float) -> float:
    if seconds < 0:
        raise ValueError("cannot wait for the past")
    time.sleep(seconds)
    return seconds
