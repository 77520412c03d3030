"""Control activities: each rule as the service has it."""

from __future__ import annotations

import time

import pytest

from devhost.adf.errors import NotModelled, ParameterError
from devhost.adf.records import Event
from tests.adf.small_factory import activity, broken, expression, keep, needs, ok, run, statuses

TEXT = {"seen": {"type": "String"}}
LIST = {"seen": {"type": "Array"}}


def returns(**values: str) -> dict:
    pairs = [{"key": k, "value": {"type": "Expression", "content": v}} for k, v in values.items()]
    return activity("Return", "SetVariable", variableName="pipelineReturnValue", setSystemVariable=True, value=pairs)


def answer(ended, key: str = "value") -> object:
    return ended.return_value[key]


def value_of(text: str, *before: dict, **properties: object) -> object:
    """What an expression gives after some activities."""
    last = returns(value=text) | {"dependsOn": [needs(b["name"], "Completed") for b in before]}
    ended = run(*before, last, **properties)
    assert ended.status == "Succeeded", ended.message
    return answer(ended)


# ---- ForEach


def for_each(items: object, *inner: dict, **more: object) -> dict:
    return activity("Each", "ForEach", items=items, activities=list(inner), **more)


def test_for_each_sees_items_that_are_falsy() -> None:
    note = activity("Note", "AppendVariable", variableName="seen", value=expression("@item()"))
    each = for_each(expression("@createArray(0, '', false)"), note, isSequential=True)
    assert value_of("@variables('seen')", each, variables=LIST) == [0, "", False]


def test_for_each_runs_all_items_and_then_fails_with_the_inner_activity_named() -> None:
    inner = activity(
        "Check",
        "IfCondition",
        expression=expression("@equals(item(), 2)"),
        ifTrueActivities=[broken("Bad", message="two is bad")],
    )
    ended = run(for_each(expression("@range(1, 4)"), inner, isSequential=True))
    assert ended.status == "Failed"
    assert sum(a.activity_name == "Check" for a in ended.activities) == 4
    assert "Inner activity name: Check" in ended.message
    assert "two is bad" in ended.message


@pytest.mark.parametrize(("more", "turns"), [({"isSequential": True}, 4), ({"batchCount": 2}, 2), ({}, 1)])
def test_for_each_runs_as_many_at_once_as_it_says(more: dict, turns: int) -> None:
    events: list[Event] = []
    each = for_each(expression("@range(1, 4)"), activity("W", "Wait", waitTimeInSeconds=60), **more)
    run(each, events=events)
    running = most = 0
    for event in events:
        if event.name == "W":
            running += 1 if event.kind == "activity_started" else -1
            most = max(most, running)
    assert most == 4 // turns


def test_for_each_over_something_else_than_a_list_fails() -> None:
    ended = run(for_each(expression("@pipeline().RunId"), ok("A")))
    assert ended.status == "Failed"
    assert "'String'" in ended.message


def test_each_iteration_has_its_own_results() -> None:
    work = activity("Work", "Filter", items=expression("@createArray(item())"), condition=expression("@equals(1, 1)"))
    note = activity(
        "Note", "AppendVariable", "Work", variableName="seen", value=expression("@activity('Work').output.Value[0]")
    )
    each = for_each(expression("@range(0, 30)"), work, note)
    assert sorted(value_of("@variables('seen')", each, variables=LIST)) == list(range(30))


# ---- IfCondition and Switch


def test_if_can_use_an_inner_activitys_result_inside() -> None:
    inner = [
        activity("A", "Filter", items=expression("@createArray(1)"), condition=expression("@equals(1, 1)")),
        keep("seen", expression("@string(activity('A').output.FilteredItemsCount)"), "B", "A"),
    ]
    decide = activity("If", "IfCondition", expression=expression("@equals(1, 1)"), ifTrueActivities=inner)
    assert value_of("@variables('seen')", decide, variables=TEXT) == "1"


def test_if_without_the_branch_does_nothing() -> None:
    assert run(activity("If", "IfCondition", expression=expression("@equals(1, 2)"))).status == "Succeeded"


def test_if_needs_a_boolean() -> None:
    ended = run(activity("If", "IfCondition", expression=expression("@add(1, 2)")))
    assert "must evaluate to Boolean" in ended.message


def test_if_fails_when_its_branch_fails_and_its_failure_path_runs() -> None:
    decide = activity("If", "IfCondition", expression=expression("@true"), ifTrueActivities=[broken("Bad")])
    ended = run(decide, ok("Handle", needs("If", "Failed")))
    assert statuses(ended)["Handle"] == "Succeeded"
    assert ended.status == "Succeeded"


@pytest.mark.parametrize(
    ("on", "seen"), [("@concat('b', '')", "case b"), ("@string(7)", "case 7"), ("@concat('?')", "other")]
)
def test_switch_takes_the_equal_case_or_the_default(on: str, seen: str) -> None:
    cases = [
        {"value": "b", "activities": [keep("seen", "case b", "B")]},
        {"value": "7", "activities": [keep("seen", "case 7", "Seven")]},
    ]
    switch = activity(
        "Switch", "Switch", on=expression(on), cases=cases, defaultActivities=[keep("seen", "other", "Other")]
    )
    assert value_of("@variables('seen')", switch, variables=TEXT) == seen


# ---- Until


def test_until_stops_when_the_condition_is_met() -> None:
    grow = activity("Grow", "AppendVariable", variableName="seen", value="x")
    until = activity(
        "Until", "Until", expression=expression("@equals(length(variables('seen')), 3)"), activities=[grow]
    )
    assert value_of("@variables('seen')", until, variables=LIST) == ["x", "x", "x"]


def test_until_waits_for_this_turns_results_whatever_the_order_of_the_children() -> None:
    inner = [
        activity(
            "Read",
            "AppendVariable",
            "Make",
            variableName="seen",
            value=expression("@activity('Make').output.ItemsCount"),
        ),
        activity(
            "Make", "Filter", "Grow", items=expression("@variables('count')"), condition=expression("@equals(1, 1)")
        ),
        activity("Grow", "AppendVariable", variableName="count", value="x"),
    ]
    until = activity(
        "Until", "Until", expression=expression("@greater(activity('Make').output.ItemsCount, 2)"), activities=inner
    )
    variables = {**LIST, "count": {"type": "Array"}}
    assert value_of("@variables('seen')", until, variables=variables) == [1, 2, 3]


def test_an_inner_failure_does_not_stop_until() -> None:
    grow = activity("Grow", "AppendVariable", variableName="seen", value="x")
    bad_at_first = activity(
        "Try",
        "IfCondition",
        "Grow",
        expression=expression("@less(length(variables('seen')), 3)"),
        ifTrueActivities=[broken("Bad")],
    )
    until = activity(
        "Until",
        "Until",
        expression=expression("@equals(activity('Try').status, 'Succeeded')"),
        activities=[grow, bad_at_first],
    )
    ended = run(until, variables=LIST)
    assert ended.status == "Succeeded", ended.message
    assert sum(a.activity_name == "Bad" and a.status == "Failed" for a in ended.activities) == 2


def test_until_gives_up_after_its_timeout() -> None:
    until = activity(
        "Until",
        "Until",
        expression=expression("@equals(1, 2)"),
        timeout="0.01:00:00",
        activities=[activity("W", "Wait", waitTimeInSeconds=60)],
    )
    begun = time.monotonic()
    ended = run(until, options={"limit_scale": 7200.0})
    assert ended.status == "Failed"
    assert ended.activity("Until").status == "TimedOut"
    assert "did not meet its condition within 0.01:00:00" in ended.message
    assert time.monotonic() - begun < 3


# ---- variables


def test_a_variables_default_is_fresh_each_run() -> None:
    grow = activity("Grow", "AppendVariable", variableName="seen", value="x")
    for _ in range(2):
        assert value_of("@variables('seen')", grow, variables={"seen": {"type": "Array", "defaultValue": ["a"]}}) == [
            "a",
            "x",
        ]


def test_setting_a_variable_of_another_type_fails_as_the_service_says_it() -> None:
    ended = run(keep("seen", expression("@add(1, 2)")), variables=TEXT)
    assert (
        "The variable 'seen' of type 'String' cannot be initialized or updated with value of type 'Integer'"
        in ended.message
    )


def test_a_variable_cannot_be_set_from_itself() -> None:
    ended = run(keep("seen", expression("@concat(variables('seen'), 'x')")), variables=TEXT)
    assert "self referencing variable" in ended.message


def test_parallel_appends_lose_nothing() -> None:
    note = activity("Note", "AppendVariable", variableName="seen", value=expression("@item()"))
    each = for_each(expression("@range(0, 200)"), note, batchCount=50)
    assert sorted(value_of("@variables('seen')", each, variables=LIST)) == list(range(200))


# ---- Fail


@pytest.mark.parametrize(
    ("message", "code", "seen_message", "seen_code"),
    [
        ('no "disk" {x}', "E1", 'no "disk" {x}', "E1"),
        (expression("@concat('a', 'b')"), expression("@string(12)"), "ab", "12"),
        (expression("@createArray(1)"), "E1", "F fail message parameter couldn't be interpreted as a string", "E1"),
        ("  ", "E1", "Failed to interpret F fail message or error code", "E1"),
        ("m", expression("@createArray(1)"), "m", "ErrorCodeNotString"),
        ("m", "", "m", "ErrorCodeNotString"),
        (
            expression("@nope()"),
            expression("@nope()"),
            "Failed to interpret F fail message or error code",
            "ErrorCodeNotString",
        ),
    ],
)
def test_fail_says_what_the_author_wrote_or_the_documented_fallback(message, code, seen_message, seen_code) -> None:
    ended = run(activity("F", "Fail", message=message, errorCode=code))
    error = ended.activity("F").error
    assert (error["message"], error["errorCode"]) == (seen_message, seen_code)
    assert ended.message == f"Operation on target F failed: {seen_message}"


def test_the_error_of_a_failed_activity_is_an_object() -> None:
    handled = returns(value="@activity('F').error.message", code="@activity('F').error.errorCode")
    ended = run(broken("F", message="why"), handled | {"dependsOn": [needs("F", "Failed")]})
    assert ended.return_value == {"value": "why", "code": "500"}


# ---- ExecutePipeline


def call(name: str = "child", **properties: object) -> dict:
    return activity(
        "Call", "ExecutePipeline", pipeline={"referenceName": name, "type": "PipelineReference"}, **properties
    )


def test_a_child_gets_parameters_and_returns_values() -> None:
    child = {
        "activities": [returns(value="@concat('got ', pipeline().parameters.x)")],
        "parameters": {"x": {"type": "String"}},
    }
    caller = call(waitOnCompletion=True, parameters={"x": expression("@toUpper('a')")})
    text = "@activity('Call').output.pipelineReturnValue.value"
    assert value_of(text, caller, children={"child": child}) == "got A"


def test_a_childs_failure_is_its_callers() -> None:
    child = {"activities": [broken("Deep", message="far down")]}
    ended = run(call(waitOnCompletion=True), ok("Next", "Call"), children={"child": child})
    assert ended.message == "Operation on target Call failed: Operation on target Deep failed: far down"
    assert statuses(ended)["Next"] == "Skipped"


def test_a_child_that_is_not_waited_for_cannot_fail_its_caller(tmp_path) -> None:
    ended = run(
        call(waitOnCompletion=False), children={"child": {"activities": [broken("Deep")]}}, options={"data": tmp_path}
    )
    assert ended.status == "Succeeded"
    assert len(list((tmp_path / "adf" / "runs").glob("*.json"))) == 2


def test_a_child_knows_who_called_it() -> None:
    child = {"activities": [returns(value="@pipeline().TriggeredByPipelineName", kind="@pipeline().TriggerType")]}
    ended = run(
        call(waitOnCompletion=True),
        returns(value="@activity('Call').output.pipelineReturnValue") | {"dependsOn": [needs("Call", "Succeeded")]},
        children={"child": child},
    )
    assert answer(ended) == {"value": "main", "kind": "PipelineActivity"}


def test_typed_parameters_are_converted_and_refused() -> None:
    child = {
        "activities": [returns(value="@pipeline().parameters.list", flag="@pipeline().parameters.flag")],
        "parameters": {"list": {"type": "Array"}, "flag": {"type": "Bool"}},
    }
    read = returns(value="@activity('Call').output.pipelineReturnValue") | {"dependsOn": [needs("Call", "Succeeded")]}
    given = {"list": "[1, 2]", "flag": "true"}
    ended = run(call(parameters=given), read, children={"child": child})
    assert answer(ended) == {"value": [1, 2], "flag": True}
    ended = run(call(parameters={"list": "no list", "flag": True}), children={"child": child})
    assert "is declared array" in ended.message


def test_a_run_with_wrong_parameters_is_refused_before_it_starts() -> None:
    with pytest.raises(ParameterError, match="has no parameter 'y'; it has: x"):
        run(ok("A"), given={"y": 1}, parameters={"x": {"type": "String", "defaultValue": ""}})
    with pytest.raises(ParameterError, match="'x' of pipeline 'main' was not given"):
        run(ok("A"), parameters={"x": {"type": "String"}})


def test_a_pipelines_concurrency_holds_its_runs_back() -> None:
    child = {"activities": [activity("W", "Wait", waitTimeInSeconds=60)], "concurrency": 1}
    events: list[Event] = []
    run(for_each(expression("@range(0, 3)"), call(waitOnCompletion=True)), children={"child": child}, events=events)
    running = most = 0
    for event in events:
        if event.name == "W":
            running += 1 if event.kind == "activity_started" else -1
            most = max(most, running)
    assert most == 1


# ---- other


def test_filter_counts_and_keeps() -> None:
    keep_big = activity("F", "Filter", items=expression("@range(1, 5)"), condition=expression("@greater(item(), 3)"))
    found = value_of("@activity('F').output", keep_big)
    assert found == {"ItemsCount": 5, "FilteredItemsCount": 2, "Value": [4, 5]}


def test_returned_values_can_be_typed() -> None:
    pairs = [
        {"key": "n", "value": {"type": "Int", "content": "5"}},
        {"key": "none", "value": {"type": "Null", "content": None}},
        {"key": "list", "value": {"type": "Array", "content": [{"type": "Expression", "content": "@add(1, 1)"}]}},
        {
            "key": "object",
            "value": {"type": "Object", "content": [{"key": "a", "value": {"type": "Boolean", "content": True}}]},
        },
    ]
    done = activity("Return", "SetVariable", variableName="pipelineReturnValue", setSystemVariable=True, value=pairs)
    assert run(done).return_value == {"n": 5, "none": None, "list": [2], "object": {"a": True}}


def test_what_is_not_modelled_is_refused_by_name_before_anything_runs() -> None:
    events: list[Event] = []
    inner = activity("Load", "DatabricksNotebook", notebookPath="/x")
    with pytest.raises(NotModelled) as refused:
        run(ok("A"), for_each(expression("@range(0, 2)"), inner), events=events)
    assert refused.value.names == ("main/Load: activity type DatabricksNotebook",)
    assert not events


def test_an_answer_stands_in_for_an_activity_that_cannot_run_here() -> None:
    load = activity("Load", "DatabricksNotebook", notebookPath="/x")
    text = "@activity('Load').output.runOutput"
    assert value_of(text, load, options={"answers": {"Load": {"runOutput": "done"}}}) == "done"


def test_an_odd_definition_fails_its_activity_and_not_the_runner() -> None:
    ended = run(activity("W", "Wait", waitTimeInSeconds="soon"), ok("Handle", needs("W", "Failed")))
    assert ended.status == "Succeeded"
    assert "could not convert" in ended.activity("W").error["message"]


def test_a_static_value_takes_its_variables_type() -> None:
    flag = keep("flag", "true")
    assert value_of("@variables('flag')", flag, variables={"flag": {"type": "Boolean"}}) is True


def test_a_variable_without_a_default_starts_empty() -> None:
    kinds = {"text": {"type": "String"}, "flag": {"type": "Boolean"}, "list": {"type": "Array"}}
    text = "@createArray(variables('text'), variables('flag'), variables('list'))"
    assert value_of(text, variables=kinds) == ["", False, []]


def test_an_answers_activity_still_has_its_expressions_evaluated() -> None:
    load = activity("Load", "SqlServerStoredProcedure", storedProcedureName="@{activity('Nobody').output.x}")
    ended = run(load, options={"answers": {"Load": {}}})
    assert "activity 'Nobody' can't be referenced" in ended.message
