"""Control activities: branches, loops, variables, waiting, failing, calling other pipelines."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from devhost.adf.calls import Call, Invocation
from devhost.adf.errors import ActivityFailure
from devhost.adf.factory import Activity
from devhost.adf.flow import LevelOutcome
from devhost.adf.parameters import coerce, kind_of
from devhost.adf.runs import execute
from devhost.adf.scope import Scope, expressions_in, is_expression
from devhost.adf.spans import span_seconds

MAX_ITEMS: Final = 100_000
DEFAULT_BATCH: Final = 20
MAX_BATCH: Final = 50
UNTIL_SECONDS: Final = 7 * 86400.0
TURN_SECONDS: Final = 0.05  # between turns: the service takes seconds, and a condition never met must not spin
_VARIABLE_TYPES: Final = {"string": "String", "boolean": "Boolean", "bool": "Boolean", "array": "Array"}


async def if_condition(call: Call) -> dict[str, Any]:
    """Runs one of two branches."""
    met = _boolean(call.property("expression"), "expression")
    call.input = {"expressionResult": met}
    label = "ifTrueActivities" if met else "ifFalseActivities"
    await _branch(call, call.activity.block(label), "true" if met else "false")
    return {}


async def switch(call: Call) -> dict[str, Any]:
    """Runs the case whose value equals the text of `on`, else the default."""
    on = call.property("on")
    text = on if isinstance(on, str) else json.dumps(on)
    call.input = {"on": on}
    for label, activities in call.activity.children:
        value = label.removeprefix("case ")
        if label != value and (value == text or (isinstance(on, bool) and value.lower() == text)):
            await _branch(call, activities, value)
            return {}
    await _branch(call, call.activity.block("defaultActivities"), "default")
    return {}


async def for_each(call: Call) -> dict[str, Any]:
    """Runs the inner activities once an item: all items, then fails if one iteration failed."""
    items = call.property("items")
    if not isinstance(items, list):
        raise ActivityFailure(
            f"The function 'length' expects its parameter to be an array: items of {call.activity.name!r} is of type "
            f"'{kind_of(items)}'",
            code="InvalidTemplate",
            retryable=False,
        )
    if len(items) > MAX_ITEMS:
        raise ActivityFailure(f"{len(items)} items; the limit is {MAX_ITEMS}", code="BadRequest")
    sequential = call.property("isSequential", False) is True
    batch = 1 if sequential else min(int(call.property("batchCount", DEFAULT_BATCH)), MAX_BATCH)
    call.input = {"isSequential": sequential, "batchCount": batch, "itemsCount": len(items)}
    slots = asyncio.Semaphore(max(batch, 1))
    failures: dict[int, ActivityFailure] = {}

    async def one(index: int, item: Any) -> None:
        async with slots:
            label = f"[{index}]" + (f" {item}" if isinstance(item, str) and len(item) <= 40 else "")
            scope = call.scope.inside(call.activity.name, call.seen, item=item, iteration=str(index))
            scope.path = (*scope.path, label)
            outcome = await call.execution.run_scope(call.activity.block("activities"), scope)
            if not outcome.succeeded:
                failures[index] = _inner_failure(outcome, scope)

    await _all(one, items)
    if failures:
        raise failures[min(failures)]
    return {}


async def until(call: Call) -> dict[str, Any]:
    """Repeats until the expression is true or the time is up; an inner failure does not stop it."""
    text = call.activity.properties.get("timeout")
    limit = UNTIL_SECONDS if text is None else span_seconds(call.resolve(text))
    turns = 0
    try:
        async with asyncio.timeout(call.services.clock.limit(limit)):
            while True:
                turns += 1
                scope = call.scope.inside(call.activity.name, call.seen, iteration=str(turns))
                scope.path = (*scope.path, f"[{turns}]")
                outcome = await call.execution.run_scope(call.activity.block("activities"), scope)
                call.inner = scope.results()
                judge = Call(call.activity, call.execution, scope, {**call.seen, **call.inner})
                if _boolean(judge.property("expression"), "expression"):
                    break
                await asyncio.sleep(TURN_SECONDS)
    except TimeoutError:
        raise ActivityFailure(
            f"Until {call.activity.name!r} did not meet its condition within {text or '7.00:00:00'} ({turns} turns)",
            code="Timeout",
            status="TimedOut",
        ) from None
    if not outcome.succeeded:
        raise _inner_failure(outcome, scope)
    return {"turns": turns}


async def filter_items(call: Call) -> dict[str, Any]:
    """Keeps the items for which the condition is true."""
    items = call.property("items")
    if not isinstance(items, list):
        raise ActivityFailure(f"items is of type '{kind_of(items)}', not an array", code="InvalidTemplate")
    condition = call.activity.properties.get("condition")
    kept = [item for item in items if _boolean(call.resolve(condition, item=item), "condition")]
    call.input = {"itemsCount": len(items)}
    return {"ItemsCount": len(items), "FilteredItemsCount": len(kept), "Value": kept}


async def set_variable(call: Call) -> dict[str, Any]:
    """Sets a variable, or the values that the pipeline returns to its caller."""
    name = str(call.activity.properties.get("variableName"))
    if call.activity.properties.get("setSystemVariable") is True and name == "pipelineReturnValue":
        returned = {str(entry.get("key")): _returned(call, entry.get("value")) for entry in _entries(call)}
        call.input = {"variableName": name, "value": returned}
        call.execution.record.return_value.update(returned)
        return {"name": name, "value": returned}
    known = _variable(call, name)
    text = _text_of(call.activity.properties.get("value"))
    if f"variables('{known.lower()}')" in text.lower().replace(" ", ""):
        raise ActivityFailure(
            "The expression contains self referencing variable. A variable cannot reference itself in the expression.",
            code="BadRequest",
            retryable=False,
        )
    given = call.activity.properties.get("value")
    value = call.resolve(given)
    if not any(expressions_in(given)):
        value = coerce(value, call.execution.pipeline.variables[known].type, f"the value of {known!r}")
    call.input = {"variableName": known, "value": value}
    call.scope.variables[known] = _typed(call, known, value)
    return {"name": known, "value": value}


async def append_variable(call: Call) -> dict[str, Any]:
    """Adds one value to an array variable; safe in a parallel loop."""
    known = _variable(call, str(call.activity.properties.get("variableName")))
    value = call.resolve(call.activity.properties.get("value"))
    declared = call.execution.pipeline.variables[known].type
    if declared != "array":
        raise ActivityFailure(f"AppendVariable needs an Array; {known!r} is of type '{declared}'", code="BadRequest")
    call.input = {"variableName": known, "value": value}
    call.scope.variables[known] = [*(call.scope.variables[known] or []), value]
    return {"name": known, "value": value}


async def wait(call: Call) -> dict[str, Any]:
    """Waits `waitTimeInSeconds`."""
    seconds = float(call.property("waitTimeInSeconds", 0))
    call.input = {"waitTimeInSeconds": seconds}
    await call.services.clock.wait(seconds)
    return {}


async def fail(call: Call) -> dict[str, Any]:
    """Fails with the author's message and code; what cannot be read falls back as the service documents."""
    name = call.activity.name
    message, message_fault = _readable(call, "message")
    code, code_fault = _readable(call, "errorCode")
    call.input = {"message": message, "errorCode": code}
    if message_fault and code_fault:
        raise ActivityFailure(f"Failed to interpret {name} fail message or error code", code="ErrorCodeNotString")
    if message_fault:
        message = f"{name} fail message parameter couldn't be interpreted as a string"
    elif "message" not in call.activity.properties:
        message = "Fail message wasn't provided"
    elif not (message or "").strip():
        message = f"Failed to interpret {name} fail message or error code"
    raise ActivityFailure(str(message), code=code if code and code.strip() else "ErrorCodeNotString")


async def execute_pipeline(call: Call) -> dict[str, Any]:
    """Runs another pipeline; its failure is this activity's unless the call does not wait."""
    reference = call.activity.properties.get("pipeline") or {}
    name = str(call.resolve(reference.get("referenceName")))
    given = {key: call.resolve(value) for key, value in (call.activity.properties.get("parameters") or {}).items()}
    child = call.services.factory.pipeline(name)
    secure = {key for key, spec in child.parameters.items() if spec.secure}
    call.input = {
        "pipelineName": child.name,
        "waitOnCompletion": call.activity.properties.get("waitOnCompletion", True),
        "parameters": {key: "********" if key in secure else value for key, value in given.items()},
    }
    caller = call.execution.record
    invocation = Invocation(
        type="PipelineActivity",
        name=call.activity.name,
        id=caller.run_id,
        time=call.services.clock.now(),
        pipeline=caller.pipeline,
        run_id=caller.run_id,
        group_id=caller.group_id,
        event=call.execution.invocation.event,
    )
    started = execute(call.services, child.name, given, invocation, path=(*call.scope.path, call.activity.name))
    if call.property("waitOnCompletion", True) is False:
        task = asyncio.create_task(started)
        call.services.background.add(task)
        task.add_done_callback(call.services.background.discard)
        return {"pipelineName": child.name}
    run = await started
    output: dict[str, Any] = {"pipelineName": run.pipeline, "pipelineRunId": run.run_id}
    if run.return_value:
        output["pipelineReturnValue"] = run.return_value
    if not run.succeeded:
        raise ActivityFailure(run.message or f"pipeline {run.pipeline!r} ended {run.status}", output=output)
    return output


async def _branch(call: Call, activities: tuple[Activity, ...], label: str) -> None:
    scope = call.scope.inside(call.activity.name, call.seen)
    outcome = await call.execution.run_scope(activities, scope)
    call.inner = scope.results()
    if not outcome.succeeded:
        raise _inner_failure(outcome, scope)
    call.input = {**(call.input or {}), "branch": label}


async def _all(one: Any, items: list[Any]) -> None:
    async with asyncio.TaskGroup() as group:
        for index, item in enumerate(items):
            group.create_task(one(index, item))


def _inner_failure(outcome: LevelOutcome, scope: Scope) -> ActivityFailure:
    name = outcome.failed[0]
    error = scope.results().get(name, {}).get("error") or {}
    return ActivityFailure(
        "Activity failed because an inner activity failed; "
        f"Inner activity name: {name}, Error: {error.get('message', 'no message')}",
        code=str(error.get("errorCode", "")),
        retryable=False,
    )


def _boolean(value: Any, what: str) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise ActivityFailure(
        f"The {what} must evaluate to Boolean; it is of type '{kind_of(value)}'",
        code="InvalidTemplate",
        retryable=False,
    )


def _entries(call: Call) -> list[dict[str, Any]]:
    value = call.activity.properties.get("value")
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _returned(call: Call, value: Any) -> Any:
    """One returned value: `{type, content}`, where content may be a list or object of such pairs again."""
    if not isinstance(value, dict) or "type" not in value:
        return call.resolve(value)
    kind, content = str(value["type"]).lower(), value.get("content", value.get("value"))
    if kind == "null":
        return None
    if kind == "array" and isinstance(content, list):
        return [_returned(call, part) for part in content]
    if kind == "object" and isinstance(content, list):
        return {str(part.get("key")): _returned(call, part.get("value")) for part in content}
    found = call.resolve(content)
    plain = {"int": "int", "integer": "int", "float": "float", "boolean": "bool", "bool": "bool"}.get(kind)
    return coerce(found, plain, "a returned value") if plain else found


def _variable(call: Call, name: str) -> str:
    for known in call.execution.pipeline.variables:
        if known.lower() == name.lower():
            return known
    raise ActivityFailure(f"the variable {name!r} is not declared", code="BadRequest", retryable=False)


def _typed(call: Call, name: str, value: Any) -> Any:
    declared = _VARIABLE_TYPES.get(call.execution.pipeline.variables[name].type)
    if declared is not None and kind_of(value) != declared:
        raise ActivityFailure(
            f"The variable '{name}' of type '{declared}' cannot be initialized or updated with value of type "
            f"'{kind_of(value)}'. The variable '{name}' only supports values of types '{declared}'.",
            code="ActionExecutionFailed",
            retryable=False,
        )
    return value


def _text_of(value: Any) -> str:
    if is_expression(value):
        value = value.get("value", value.get("content"))
    return value if isinstance(value, str) and value.startswith("@") else json.dumps(value) if "@" in str(value) else ""


def _readable(call: Call, name: str) -> tuple[str | None, bool]:
    """A Fail property's text and whether it could not be read as text."""
    try:
        value = call.property(name)
    except ActivityFailure:
        return None, True
    if value is None or isinstance(value, str):
        return value, False
    if isinstance(value, int | float):
        return json.dumps(value), False
    return None, True
