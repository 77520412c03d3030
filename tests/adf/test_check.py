"""Offline validation: every broken copy of a clean factory is found."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devhost.adf.check import check_factory
from devhost.adf.cli import main
from devhost.adf.factory import Factory, read_pipeline
from tests.adf.small_factory import activity, expression, factory, ok

ROOT = Path(__file__).parents[2]
ADF = ROOT / "adf"
OPENAPI: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text())


def findings(made: Factory, openapi: dict[str, Any] | None = None) -> list[str]:
    return [str(finding) for finding in check_factory(made, openapi=openapi)]


def changed(pipeline: str, old: str, new: str) -> Factory:
    """The factory with a text of one pipeline changed."""
    loaded = Factory.load(ADF)
    text = json.dumps(loaded.pipelines[pipeline].definition)
    assert old in text, f"{old} is not in {pipeline}"
    loaded.pipelines[pipeline] = read_pipeline(pipeline, json.loads(text.replace(old, new)))
    return loaded


def test_the_factory_is_sound_and_the_app_serves_what_it_calls() -> None:
    assert findings(Factory.load(ADF), OPENAPI) == []
    assert main(["check", "--factory", str(ADF), "--openapi", str(ROOT / "docs" / "openapi.json")]) == 0


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/condition/{source}", "no route /api/condition/{...}"),
        ("/gate/{sales_week}", "no route /api/gate/{...}"),
        ("/runs", "no route /api/runs"),
        ("/runs/{run_id}/wait", "no route /api/runs/{...}/wait"),
        ("/runs/webhook", "route /api/runs/webhook does not take POST"),
    ],
)
def test_a_renamed_route_is_found(path: str, told: str) -> None:
    document = copy.deepcopy(OPENAPI)
    document["paths"][f"/renamed{path}"] = document["paths"].pop(path)
    assert any(told in finding for finding in findings(Factory.load(ADF), document))


def test_a_route_that_takes_another_method_is_found() -> None:
    document = copy.deepcopy(OPENAPI)
    gate = document["paths"]["/gate/{sales_week}"]
    del gate["post"]
    assert any("does not take POST, only GET" in f for f in findings(Factory.load(ADF), document))


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ("RunStarted", "run_id"),
        ("RunOutcome", "status"),
        ("RunOutcome", "message"),
        ("GateOutcome", "open"),
        ("GateOutcome", "reasons"),
        ("ConditionOutcome", "counts"),
    ],
)
def test_a_renamed_output_field_is_found(schema: str, field: str) -> None:
    document = copy.deepcopy(OPENAPI)
    properties = document["components"]["schemas"][schema]["properties"]
    properties[f"{field}_renamed"] = properties.pop(field)
    assert any(f"answers nothing called '{field}'" in f for f in findings(Factory.load(ADF), document))


def test_a_renamed_body_field_is_found() -> None:
    document = copy.deepcopy(OPENAPI)
    request = document["components"]["schemas"]["RunRequest"]
    request["properties"]["week"] = request["properties"].pop("sales_week")
    request["required"] = ["week" if name == "sales_week" else name for name in request.get("required", [])]
    told = findings(Factory.load(ADF), document)
    assert any("does not take 'sales_week'" in finding for finding in told)


@pytest.mark.parametrize(
    ("pipeline", "old", "new", "told"),
    [
        ("pl_condition_source", '"run_week": {', '"week": {', "has no parameter 'run_week'"),
        ("pl_condition_source", "pipeline().parameters.source", "pipeline().parameters.origin", "parameter 'origin'"),
        ("pl_forecast_weekly", "pl_run_orchestration", "pl_run", "pipeline 'pl_run' does not exist"),
        ("pl_forecast_weekly", "ls_functions", "ls_function", "linked service 'ls_function' does not exist"),
        ("pl_forecast_weekly", "activity('Ask data gate')", "activity('Ask gate')", "activity('Ask gate')"),
        ("pl_forecast_weekly", "pipelineReturnValue.run_id", "pipelineReturnValue.id", "does not return 'id'"),
        ("pl_forecast_weekly", "join(", "joined(", "joined() is not one of Data Factory's functions"),
        ("pl_forecast_weekly", ", '; ')", ")", "was invoked with '1' parameter"),
        ("pl_forecast_weekly", "@concat('gate/'", "@concat('gate/", "is not"),
        ("pl_run_orchestration", "functions_url", "function_url", "global parameter 'function_url' is not declared"),
        ("pl_condition_all", "variables('failed')", "variables('fails')", "variable 'fails' is not declared"),
        ("pl_condition_all", '"variableName": "failed"', '"variableName": "fails"', "variable 'fails' is not declared"),
        ("pl_backfill_week", "pipeline().RunId", "pipeline().RunID2", "is not a system variable"),
        ("pl_backfill_week", "@pipeline().parameters.score", "@trigger().score", "outside a trigger"),
        ("pl_backfill_week", "@pipeline().parameters.score", "@item()", "item() outside a ForEach"),
    ],
)
def test_a_broken_pipeline_is_found(pipeline: str, old: str, new: str, told: str) -> None:
    assert any(told in finding for finding in findings(changed(pipeline, old, new)))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.update(pipelines=[{"pipelineReference": {"referenceName": "pl_no"}}]), "'pl_no' does not exist"),
        (lambda t: t["pipelines"][0]["parameters"].pop("run_week"), "'run_week' of pipeline"),
        (lambda t: t["pipelines"][0]["parameters"].update(week=1), "has no parameter 'week'"),
        (lambda t: t["pipelines"][0]["parameters"].update(run_week="@isoWeek()"), "isoWeek() is not one of"),
    ],
)
def test_a_broken_trigger_is_found(change: Callable[[dict[str, Any]], object], told: str) -> None:
    loaded = Factory.load(ADF)
    change(loaded.triggers["tr_weekly"])
    assert any(finding.startswith("trigger tr_weekly") and told in finding for finding in findings(loaded))


def test_names_are_found_whatever_their_case_as_the_service_does() -> None:
    text = expression("@concat(pipeline().Parameters.WEEK, activity('a').Status)")
    made = factory(ok("A"), activity("F", "Fail", "A", message=text), parameters={"week": {"type": "String"}})
    assert findings(made) == []


def test_conditions_and_nesting_that_the_service_refuses_are_found() -> None:
    both = ok("B", {"activity": "A", "dependencyConditions": ["Completed", "Failed"]})
    assert findings(factory(ok("A"), both)) == ["main/B: Completed stands beside Failed, which is refused"]
    inner = activity("Inner", "ForEach", items=expression("@range(0, 2)"), activities=[ok("A")])
    outer = activity("Outer", "Until", expression=expression("@equals(1, 1)"), activities=[inner])
    assert findings(factory(outer)) == ["main/Outer: ForEach 'Inner' stands inside a Until: use a pipeline of its own"]


def test_what_is_inactive_is_not_looked_at() -> None:
    off = activity("F", "Fail", message=expression("@nope()")) | {"state": "Inactive"}
    assert findings(factory(off)) == []


def test_an_answer_that_is_not_described_cannot_be_trusted() -> None:
    document = copy.deepcopy(OPENAPI)
    post = document["paths"]["/gate/{sales_week}"]["post"]
    post["responses"]["200"].pop("content")
    assert any("does not say what it answers" in finding for finding in findings(Factory.load(ADF), document))
