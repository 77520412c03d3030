"""The factory's own pipelines, run end to end against an app with the same routes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devhost.adf.runner import Factory, Options, PipelineRun, run_pipeline
from tests.adf.forecast_app import ForecastApp

ADF = Path(__file__).parents[2] / "adf"
SOURCES = ["deliveries", "stores", "products"]
WEEKLY = {"run_week": "2017-W45", "sources": SOURCES}


def run(app: ForecastApp, pipeline: str, parameters: dict[str, object], **options: object) -> PipelineRun:
    settings = {"wait_scale": 600.0} | options
    return run_pipeline(Factory.load(ADF), pipeline, parameters, options=Options(url=app.url, **settings))


def test_the_weekly_pipeline_conditions_asks_the_gate_and_waits_for_the_run(tmp_path: Path) -> None:
    with ForecastApp() as app:
        ended = run(app, "pl_forecast_weekly", {**WEEKLY, "reason": 'new "data"'}, data=tmp_path)
    assert ended.status == "Succeeded", ended.message
    assert ended.return_value == {
        "run_id": "weekly-2017-W45-a1",
        "status": "succeeded",
        "message": "published",
        "failed_sources": [],
    }
    assert {asked.path for asked in app.calls("POST", "/api/condition")} == {f"/api/condition/{s}" for s in SOURCES}
    assert app.started["weekly-2017-W45-a1"] == {
        "kind": "weekly",
        "sales_week": "2017-W45",
        "force": False,
        "reason": 'new "data"',
        "correlation_id": ended.run_id,
    }
    assert {asked.body["correlation_id"] for asked in app.asked if asked.text} == {ended.run_id}
    record = json.loads((tmp_path / "adf" / "runs" / f"{ended.run_id}.json").read_text())
    assert record["activityRuns"][0]["activityName"] == "Condition all"
    assert record["status"] == "Succeeded"


def test_a_dead_source_is_noted_and_handed_to_the_gate() -> None:
    with ForecastApp(dead=("stores",)) as app:
        ended = run(app, "pl_forecast_weekly", WEEKLY)
    assert ended.status == "Succeeded", ended.message
    assert ended.return_value["failed_sources"] == ["stores"]
    assert app.calls("POST", "/api/gate")[0].body["failed_sources"] == ["stores"]
    assert len(app.calls("POST", "/api/condition/stores")) == 3, "first attempt and two retries"


def test_a_closed_gate_fails_the_pipeline_with_its_reasons_and_starts_nothing() -> None:
    with ForecastApp(reasons=("stores is missing", "deliveries is late")) as app:
        ended = run(app, "pl_forecast_weekly", WEEKLY)
    assert ended.status == "Failed"
    assert "The data gate of 2017-W45 is closed: stores is missing; deliveries is late" in ended.message
    assert "deliveries is late. Bring the files" in ended.message
    assert not app.started


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("failed", 'training failed: 3 of 56 segments, "r01-large-fast" first'),
        ("failed", "publish refused: 120 of 14000 expected pairs are neither scored nor explained"),
        ("cancelled", "cancelled by an operator"),
    ],
)
def test_a_run_that_did_not_end_well_fails_the_pipeline_with_its_message(status: str, message: str) -> None:
    with ForecastApp(status=status, message=message) as app:
        ended = run(app, "pl_forecast_weekly", WEEKLY)
    assert ended.status == "Failed"
    assert f"weekly-2017-W45-a1 ended {status}: {message}. Replay it" in ended.message


def test_a_degraded_run_ends_well() -> None:
    with ForecastApp(status="degraded", message="2 segments fell back") as app:
        ended = run(app, "pl_forecast_weekly", WEEKLY)
    assert ended.status == "Succeeded"
    assert ended.return_value["status"] == "degraded"


def test_a_route_that_fails_twice_is_retried_and_nobody_notices() -> None:
    with ForecastApp(failing={"gate": 2, "runs": 2}) as app:
        ended = run(app, "pl_forecast_weekly", WEEKLY)
    assert ended.status == "Succeeded", ended.message
    assert len(app.calls("POST", "/api/gate")) == 3
    attempts = [a.retry_attempt for a in ended.activities if a.activity_name == "Ask data gate"]
    assert attempts == [0, 1, 2]


def test_a_run_far_longer_than_230_seconds_is_waited_for_by_one_activity_run() -> None:
    with ForecastApp(polls=40) as app:
        ended = run(app, "pl_run_orchestration", {"kind": "train", "run_week": "2017-W45"}, wait_scale=6000.0)
    assert ended.status == "Succeeded", ended.message
    assert app.looked["train-2017-W45-a1"] == 41
    assert len([a for a in ended.activities if a.activity_name == "Wait for run"]) == 1


def test_a_function_slower_than_230_seconds_is_cut_and_named() -> None:
    with ForecastApp(slow={"gate": 0.5}) as app:
        ended = run(app, "pl_forecast_weekly", {**WEEKLY, "sources": []}, limit_scale=2000.0)
    assert ended.status == "Failed"
    assert "gate/2017-W45" in ended.message
    assert "no answer within 230 seconds" in ended.message


def test_the_callback_variant_waits_for_the_app_to_call_back() -> None:
    with ForecastApp() as app:
        ended = run(app, "pl_run_orchestration_webhook", {"kind": "score", "run_week": "2017-W45"})
    assert ended.status == "Succeeded", ended.message
    assert ended.return_value["run_id"] == "score-2017-W45-a1"
    assert ended.activity("Run and wait for callback").input == "***"


def test_the_callback_variant_fails_with_what_the_callback_says() -> None:
    with ForecastApp(status="failed", message="no champion for 2 segments") as app:
        ended = run(app, "pl_run_orchestration_webhook", {"kind": "score", "run_week": "2017-W45"})
    assert ended.status == "Failed"
    assert ended.message == "Operation on target Run and wait for callback failed: no champion for 2 segments"
    assert ended.activity("Run and wait for callback").error["errorCode"] == "run_failed"


def test_a_file_that_arrived_is_conditioned_by_its_path() -> None:
    with ForecastApp() as app:
        parameters = {"source": "deliveries", "folder_path": "landing/deliveries/2017-W44", "file_name": 'east "2".csv'}
        ended = run(app, "pl_blob_arrived", parameters)
    assert ended.status == "Succeeded", ended.message
    body = app.calls("POST", "/api/condition/deliveries")[0].body
    assert body["blob_path"] == 'landing/deliveries/2017-W44/east "2".csv'
    assert (body["sales_week"], body["reason"]) == ("2017-W44", "event")


@pytest.mark.parametrize(("score", "runs"), [(True, 1), (False, 0)])
def test_a_past_week_is_conditioned_and_scored_only_if_asked(score: bool, runs: int) -> None:
    with ForecastApp() as app:
        ended = run(app, "pl_backfill_week", {"run_week": "2017-W40", "sources": SOURCES, "score": score})
    assert ended.status == "Succeeded", ended.message
    assert len(app.calls("POST", "/api/condition")) == len(SOURCES)
    assert len(app.started) == runs
