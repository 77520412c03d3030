"""Triggers of the factory: weeks from dates, windows that survive a stop, events twice or never."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobServiceClient

from devhost.adf.cli import main
from devhost.adf.environments import apply_parameter_file
from devhost.adf.errors import FactoryError
from devhost.adf.factory import Factory, read_pipeline
from devhost.adf.runner import Options, Runner
from devhost.adf.spans import instant
from devhost.adf.triggers.blob_events import CREATED, DELETED, BlobEvent, BlobFilter, BlobWatcher
from devhost.adf.triggers.service import deliver, fire_schedule, next_fire_times, run_windows
from devhost.adf.triggers.starting import Firing, parameters_for, pipelines_of
from devhost.adf.triggers.tumbling import Tumbling
from tests.adf.forecast_app import ForecastApp
from tests.adf.small_factory import activity, broken, expression, factory, ok
from tests.adf.waiting import wait_until

ROOT = Path(__file__).parents[2]
ADF = ROOT / "adf"


def iso_week(day: date) -> str:
    year, week, _ = day.isocalendar()
    return f"{year}-W{week:02d}"


# ---- parameters of the factory's own triggers


@pytest.mark.parametrize("name", ["tr_weekly", "tr_sweep"])
def test_the_week_of_a_schedule_is_the_iso_week_of_its_local_day(name: str) -> None:
    loaded = Factory.load(ADF)
    _, given = next(pipelines_of(loaded.trigger(name)))
    for days in range(0, 3000, 5):
        local = datetime(2017, 1, 1, 6) + timedelta(days=days)
        scheduled = local.replace(tzinfo=UTC) + timedelta(hours=6)
        firing = Firing(name, "ScheduleTrigger", scheduled, scheduled)
        assert parameters_for(loaded, given, firing)["run_week"] == iso_week(local.date()), local


def test_a_window_names_the_week_that_it_covers() -> None:
    loaded = Factory.load(ADF)
    _, given = next(pipelines_of(loaded.trigger("tr_backfill_weekly")))
    for begin, end in Tumbling.read(loaded, "tr_backfill_weekly").windows(instant("2018-06-01T00:00:00Z")):
        outputs = {"windowStartTime": begin.isoformat(), "windowEndTime": end.isoformat()}
        firing = Firing("t", "TumblingWindowTrigger", end, end, outputs)
        assert parameters_for(loaded, given, firing)["run_week"] == iso_week(begin.date())


def test_the_environments_have_their_own_cadence() -> None:
    fire = {}
    for name in ("dev", "prod"):
        loaded = Factory.load(ADF)
        apply_parameter_file(loaded, ADF / "parameters" / f"{name}.json")
        fire[name] = next_fire_times(loaded, "tr_weekly", after=instant("2017-10-01T00:00:00Z"), count=10)
        assert f"-{name}" in loaded.linked_service("ls_functions")["typeProperties"]["functionAppUrl"]
        assert f"-{name}" in loaded.global_parameters["functions_url"]
        assert Tumbling.read(loaded, "tr_backfill_weekly").max_concurrency == {"dev": 1, "prod": 2}[name]
    assert {b - a for a, b in zip(fire["prod"], fire["prod"][1:], strict=False)} <= {
        timedelta(days=7),
        timedelta(days=7, hours=1),
    }
    assert len(set(fire["dev"]) & set(fire["prod"])) == 0


@pytest.mark.parametrize("file", sorted((ADF / "parameters").glob("*.json")), ids=lambda file: file.stem)
def test_every_environment_moves_every_address_to_itself(file: Path) -> None:
    loaded = Factory.load(ADF)
    apply_parameter_file(loaded, file)
    texts = [json.dumps(part) for part in (loaded.linked_services, loaded.triggers, loaded.global_parameters)]
    others = {other.stem for other in (ADF / "parameters").glob("*.json")} - {file.stem}
    assert not [other for other in others for text in texts if f"-{other}" in text or f"shelfcast{other}" in text]


def test_a_parameter_that_names_nothing_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    file.write_text(json.dumps({"parameters": {"tr_nothing_properties_x": {"value": 1}}}))
    with pytest.raises(FactoryError, match="tr_nothing_properties_x"):
        apply_parameter_file(Factory.load(ADF), file)


def test_the_weekly_schedule_fires_the_weekly_pipeline_of_its_week(tmp_path: Path) -> None:
    with ForecastApp() as app:
        options = Options(url=app.url, wait_scale=600, data=tmp_path)
        at = instant("2017-11-06T12:00:00Z")
        runs = asyncio.run(fire_schedule(Factory.load(ADF), "tr_weekly", options, at=at))
    assert [run.status for run in runs] == ["Succeeded"]
    assert list(app.started) == ["weekly-2017-W45-a1"]
    line = json.loads((tmp_path / "adf" / "trigger-runs.jsonl").read_text())
    assert line["triggeredPipelines"] == {"pl_forecast_weekly": runs[0].run_id}
    assert runs[0].invoked_by["invokedByType"] == "ScheduleTrigger"


# ---- tumbling windows


def test_a_backfill_of_eight_weeks_runs_two_at_a_time_oldest_first(tmp_path: Path) -> None:
    loaded = Factory.load(ADF)
    with ForecastApp(polls=1) as app:
        options = Options(url=app.url, wait_scale=600, data=tmp_path)
        first, until = instant("2017-09-04T00:00:00Z"), instant("2017-10-30T00:00:00Z")
        windows = asyncio.run(run_windows(loaded, "tr_backfill_weekly", options, first=first, until=until))
        assert [w.status for w in windows.values()] == ["Succeeded"] * 8
        assert sorted(app.started) == [f"backfill-2017-W{week}-a1" for week in range(36, 44)]
        asked = len(app.asked)
        asyncio.run(run_windows(loaded, "tr_backfill_weekly", options, first=first, until=until))
        assert len(app.asked) == asked, "a second back-fill finds nothing to do"


def tumbling(**settings: object) -> dict:
    base = {"frequency": "Hour", "interval": 1, "startTime": "2024-01-01T00:00:00Z", "maxConcurrency": 10}
    pipeline = {
        "pipelineReference": {"referenceName": "main", "type": "PipelineReference"},
        "parameters": {"start": "@trigger().outputs.windowStartTime", "end": "@{trigger().outputs.windowEndTime}"},
    }
    return {"type": "TumblingWindowTrigger", "typeProperties": base | settings, "pipeline": pipeline}


def windowed(*activities: dict, **settings: object) -> Factory:
    parameters = {"start": {"type": "String"}, "end": {"type": "String"}}
    made = factory(*activities, parameters=parameters)
    made.triggers["t"] = tumbling(**settings)
    return made


def run_all(made: Factory, name: str = "t", hours: int = 4, **options: object) -> dict:
    until = instant("2024-01-01T00:00:00Z") + timedelta(hours=hours)
    return dict(asyncio.run(run_windows(made, name, Options(wait_scale=600, **options), until=until)))


def test_windows_wait_for_the_earlier_one_of_their_own_trigger() -> None:
    itself = {"type": "SelfDependencyTumblingWindowTriggerReference", "offset": "-01:00:00", "size": "01:00:00"}
    events: list = []
    made = windowed(activity("W", "Wait", waitTimeInSeconds=20), dependsOn=[itself])

    async def whole() -> None:
        await run_windows(
            made, "t", Options(wait_scale=600), until=instant("2024-01-01T04:00:00Z"), watcher=events.append
        )

    asyncio.run(whole())
    order = [e.kind for e in events if e.name == "W"]
    assert order == ["activity_started", "activity_ended"] * 4


def test_a_failed_window_is_retried_and_holds_those_that_depend_on_it() -> None:
    itself = {"type": "SelfDependencyTumblingWindowTriggerReference", "offset": "-01:00:00"}
    only_second = activity(
        "If",
        "IfCondition",
        expression=expression("@contains(pipeline().parameters.start, 'T01')"),
        ifTrueActivities=[broken("Bad", message="no data")],
    )
    retry = {"count": 2, "intervalInSeconds": 30}
    windows = run_all(windowed(only_second, dependsOn=[itself], retryPolicy=retry))
    found = [(w.status, w.attempts) for w in windows.values()]
    assert found == [("Succeeded", 1), ("Failed", 3), ("Waiting", 0), ("Waiting", 0)]
    assert "no data" in windows["2024-01-01T01:00:00Z"].message


def test_failed_windows_run_again_when_asked(tmp_path: Path) -> None:
    assert {w.status for w in run_all(windowed(broken("Bad")), data=tmp_path).values()} == {"Failed"}
    good = windowed(ok("Good"))
    assert {w.status for w in run_all(good, data=tmp_path).values()} == {"Failed"}
    until = instant("2024-01-01T04:00:00Z")
    again = asyncio.run(run_windows(good, "t", Options(data=tmp_path), until=until, rerun_failed=True))
    assert {w.status for w in again.values()} == {"Succeeded"}


def test_the_command_runs_failed_windows_again_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "trigger").mkdir()
    trigger = {"name": "t", "properties": tumbling(endTime="2024-01-01T01:00:00Z")}
    (tmp_path / "trigger" / "t.json").write_text(json.dumps(trigger))
    command = ["backfill", "t", "--factory", str(tmp_path), "--data", str(tmp_path), "--time-scale", "600"]

    def backfill(only: dict, *more: str) -> int:
        parameters = {"start": {"type": "String"}, "end": {"type": "String"}}
        document = {"name": "main", "properties": {"activities": [only], "parameters": parameters}}
        (tmp_path / "pipeline" / "main.json").write_text(json.dumps(document))
        return main([*command, *more])

    assert backfill(broken("Bad", message="no data")) == 1
    assert backfill(ok("Good")) == 1, "what failed stays failed"
    assert "Failed     attempts 1  Operation on target Bad failed: no data" in capsys.readouterr().out
    assert backfill(ok("Good"), "--rerun-failed") == 0


def test_windows_wait_for_another_triggers_windows(tmp_path: Path) -> None:
    made = windowed(ok("A"))
    reference = {"referenceName": "t", "type": "TriggerReference"}
    upstream = {"type": "TumblingWindowTriggerDependencyReference", "referenceTrigger": reference}
    made.triggers["daily"] = tumbling(interval=4, dependsOn=[upstream])
    assert [w.status for w in run_all(made, "daily", data=tmp_path).values()] == ["Waiting"]
    run_all(made, "t", hours=3, data=tmp_path)
    assert [w.status for w in run_all(made, "daily", data=tmp_path).values()] == ["Waiting"]
    run_all(made, "t", data=tmp_path)
    assert [w.status for w in run_all(made, "daily", data=tmp_path).values()] == ["Succeeded"]


def test_windows_end_before_they_run_and_stop_at_the_triggers_end() -> None:
    until = instant("2024-01-01T05:30:00Z")
    assert len(list(Tumbling.read(windowed(ok("A")), "t").windows(until))) == 5
    assert len(list(Tumbling.read(windowed(ok("A"), delay="01:00:00"), "t").windows(until))) == 4
    assert len(list(Tumbling.read(windowed(ok("A"), endTime="2024-01-01T02:00:00Z"), "t").windows(until))) == 2
    months = Tumbling.read(windowed(ok("A"), frequency="Month"), "t").windows(instant("2024-04-01T00:00:00Z"))
    assert [begin.month for begin, _ in months] == [1, 2, 3]


# ---- storage events


@pytest.mark.parametrize(
    ("settings", "name", "size", "fires"),
    [
        ({"blobPathBeginsWith": "/landing/blobs/a/"}, "a/x.csv", 1, True),
        ({"blobPathBeginsWith": "/landing/blobs/a/"}, "ab/x.csv", 1, False),
        ({"blobPathBeginsWith": "/landing/"}, "b/x.csv", 1, True),
        ({"blobPathEndsWith": ".csv"}, "b/x.csv", 1, True),
        ({"blobPathEndsWith": ".csv"}, "b/x.json", 1, False),
        ({"blobPathBeginsWith": "/landing/", "ignoreEmptyBlobs": True}, "b/x.csv", 0, False),
        ({"blobPathBeginsWith": "/landing/", "events": [DELETED]}, "b/x.csv", 1, False),
    ],
)
def test_a_storage_trigger_fires_for_the_blobs_it_names(settings: dict, name: str, size: int, fires: bool) -> None:
    found = BlobFilter.read("t", {"typeProperties": settings})
    assert found.matches(BlobEvent(CREATED, "landing", name, size, "e")) is fires


def test_the_watcher_finds_new_changed_and_deleted_blobs_at_least_once(azurite: str, tmp_path: Path) -> None:
    container = BlobServiceClient.from_connection_string(azurite).create_container("events")
    container.upload_blob("a/1.csv", b"1")
    state = tmp_path / "seen.json"
    watcher = BlobWatcher(azurite, state)
    assert watcher.changes({"events"}) == [], "the first look takes stock"
    container.upload_blob("a/2.csv", b"2")
    container.upload_blob("a/1.csv", b"changed", overwrite=True)
    assert sorted(e.name for e in watcher.changes({"events"})) == ["a/1.csv", "a/2.csv"]
    again = BlobWatcher(azurite, state)
    events = again.changes({"events"})
    assert sorted(e.name for e in events) == ["a/1.csv", "a/2.csv"], "not handled, so told again after a restart"
    for event in events:
        again.seen(event)
    assert again.changes({"events"}) == []
    container.delete_blob("a/2.csv")
    assert [(e.type, e.body()) for e in again.changes({"events"})] == [
        (DELETED, {"folderPath": "events/a", "fileName": "2.csv"})
    ]


def test_watching_delivers_a_new_blob_to_its_pipeline(azurite: str, tmp_path: Path) -> None:
    container = BlobServiceClient.from_connection_string(azurite).get_container_client("landing")
    with contextlib.suppress(ResourceExistsError):  # the triggers watch this very name, as other tests do
        container.create_container()
    with ForecastApp() as app:
        command = [sys.executable, "-m", "devhost.adf", "watch", "--factory", str(ADF), "--url", app.url]
        command += ["--only", "tr_blob_deliveries", "--storage", azurite, "--poll", "0.1", "--data", str(tmp_path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            seen = tmp_path / "adf" / "triggers" / "blobs-seen.json"
            wait_until(seen.exists)
            container.upload_blob("deliveries/2017-W44/watched.csv", b"data", overwrite=True)
            wait_until(lambda: bool(app.conditioned))
            process.send_signal(signal.SIGINT)
    assert app.conditioned == {"landing/deliveries/2017-W44/watched.csv"}
    assert process.returncode == 0


def test_next_prints_fire_times(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["next", "tr_weekly", "--factory", str(ADF), "--environment", str(ADF / "parameters" / "prod.json")]
    assert main([*arguments, "--after", "2017-11-01T00:00:00Z", "--count", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == ["2017-11-06T12:00:00Z tr_weekly", "2017-11-13T12:00:00Z tr_weekly"]


def test_a_pipeline_can_read_the_event_that_started_it() -> None:
    made = factory(ok("A"))
    done = [{"key": "file", "value": {"type": "Expression", "content": "@pipeline()?.TriggerEvent?.fileName"}}]
    given = activity("Return", "SetVariable", variableName="pipelineReturnValue", setSystemVariable=True, value=done)
    made.pipelines["main"] = read_pipeline("main", {"activities": [given]})
    reference = {"pipelineReference": {"referenceName": "main"}}
    made.triggers["t"] = {
        "type": "BlobEventsTrigger",
        "pipelines": [reference],
        "typeProperties": {"blobPathEndsWith": ".csv"},
    }

    async def whole() -> object:
        async with Runner(made) as runner:
            return (await deliver(runner, BlobEvent(CREATED, "c", "f/x.csv", 1, "e")))[0].return_value

    assert asyncio.run(whole()) == {"file": "x.csv"}
