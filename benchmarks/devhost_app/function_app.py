"""The benchmark's work, as a Functions app."""

import azure.durable_functions as df

app = df.DFApp()


@app.orchestration_trigger(context_name="context")
def chain(context: df.DurableOrchestrationContext):  # type: ignore[no-untyped-def]
    first = yield context.call_activity("step", 1)
    return (yield context.call_activity("step", first))


@app.orchestration_trigger(context_name="context")
def fan_out(context: df.DurableOrchestrationContext):  # type: ignore[no-untyped-def]
    count = context.get_input()["count"]
    return sum((yield context.task_all([context.call_activity("step", n) for n in range(count)])))


@app.orchestration_trigger(context_name="context")
def sequence(context: df.DurableOrchestrationContext):  # type: ignore[no-untyped-def]
    value = 0
    for _ in range(context.get_input()["count"]):
        value = yield context.call_activity("step", value)
    return value


@app.activity_trigger(input_name="n")
def step(n: int) -> int:
    return n + 1
