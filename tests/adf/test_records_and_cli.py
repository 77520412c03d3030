"""Run records in the service's shape, the command line, the tree on the terminal."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from devhost.adf.cli import main
from devhost.adf.display import RunTree
from devhost.adf.errors import FactoryError
from devhost.adf.factory import Factory
from tests.adf.forecast_app import ForecastApp
from tests.adf.small_factory import activity, broken, expression, ok, run

ROOT = Path(__file__).parents[2]
PIPELINE_RUN = {
    "runId", "runGroupId", "isLatest", "pipelineName", "parameters", "invokedBy", "runStart", "runEnd", "lastUpdated",
    "durationInMs", "status", "message",
}  # fmt: skip
ACTIVITY_RUN = {
    "activityRunId", "activityName", "activityType", "pipelineName", "pipelineRunId", "linkedServiceName", "status",
    "activityRunStart", "activityRunEnd", "durationInMs", "input", "output", "error",
}  # fmt: skip


def write_factory(root: Path, **pipelines: dict) -> Path:
    (root / "pipeline").mkdir(parents=True)
    for name, properties in pipelines.items():
        (root / "pipeline" / f"{name}.json").write_text(json.dumps({"name": name, "properties": properties}))
    return root


def test_a_record_has_the_services_fields_and_masks_secure_parameters(tmp_path: Path) -> None:
    parameters = {"key": {"type": "SecureString"}, "plain": {"type": "String"}}
    ended = run(ok("A"), parameters=parameters, given={"key": "s3cret", "plain": "x"}, options={"data": tmp_path})
    text = (tmp_path / "adf" / "runs" / f"{ended.run_id}.json").read_text()
    record = json.loads(text)
    assert record.keys() >= PIPELINE_RUN
    assert record["activityRuns"][0].keys() >= ACTIVITY_RUN
    assert record["parameters"] == {"key": "********", "plain": "x"}
    assert "s3cret" not in text
    assert record["runStart"].endswith("Z")


def test_a_secure_parameter_handed_to_a_child_is_masked_everywhere(tmp_path: Path) -> None:
    child = {"activities": [ok("A")], "parameters": {"key": {"type": "SecureString"}}}
    call = activity(
        "Call",
        "ExecutePipeline",
        pipeline={"referenceName": "child", "type": "PipelineReference"},
        parameters={"key": expression("@concat('s3', 'cret')")},
    )
    run(call, children={"child": child}, options={"data": tmp_path})
    records = [file.read_text() for file in (tmp_path / "adf" / "runs").glob("*.json")]
    assert len(records) == 2
    assert not any("s3cret" in record for record in records)


def test_the_command_runs_a_pipeline_and_answers_with_its_status(tmp_path: Path, capsys) -> None:
    root = write_factory(tmp_path / "adf", good={"activities": [ok("A")]}, bad={"activities": [broken("B")]})
    arguments = ["--factory", str(root), "--data", str(tmp_path), "--plain"]
    assert main(["run", "good", *arguments]) == 0
    assert "Succeeded good" in capsys.readouterr().out
    assert main(["run", "bad", *arguments]) == 1
    assert "Operation on target B failed: broken" in capsys.readouterr().out
    assert main(["run", "good", "--json", *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "Succeeded"
    assert main(["runs", "--data", str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert main(["list", "--factory", str(root)]) == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["none"], "pipeline 'none' does not exist; known: load, main"),
        (["main"], "parameter 'week' of pipeline 'main' was not given"),
        (["main", "-p", "week=1", "-p", "weak=1"], "has no parameter 'weak'"),
        (["main", "-p", "week"], "'week' is not NAME=VALUE"),
        (["load"], "load/Load: activity type DatabricksNotebook"),
    ],
)
def test_what_cannot_run_is_refused_with_its_reason(tmp_path: Path, capsys, arguments: list[str], told: str) -> None:
    week = {"activities": [ok("A")], "parameters": {"week": {"type": "String"}}}
    root = write_factory(tmp_path, main=week, load={"activities": [activity("Load", "DatabricksNotebook")]})
    assert main(["run", *arguments, "--factory", str(root), "--data", str(tmp_path)]) == 2
    assert told in capsys.readouterr().err


def test_a_folder_that_is_no_factory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FactoryError, match="no factory at"):
        Factory.load(tmp_path / "nothing")
    with pytest.raises(FactoryError, match="holds no pipeline"):
        Factory.load(tmp_path)
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "x.json").write_text("{")
    with pytest.raises(FactoryError, match=r"x\.json: cannot be read as JSON"):
        Factory.load(tmp_path)


def test_other_layouts_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "loose.json").write_text("\ufeff" + json.dumps({"name": "p", "activities": [ok("A")]}))
    assert list(Factory.load(tmp_path).pipelines) == ["p"]
    assert list(Factory.load(tmp_path / "loose.json").pipelines) == ["p"]
    write_factory(tmp_path / "src" / "adf", q={"activities": [ok("A")], "parameters": [{"x": {"type": "Int"}}]})
    nested = Factory.load(tmp_path / "src")
    assert list(nested.pipelines) == ["q"]
    assert list(nested.pipelines["q"].parameters) == ["x"]


def test_one_pipeline_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    root = write_factory(tmp_path, good={"activities": [ok("A")]}, bad={"activities": [ok("B", "Nobody")]})
    loaded = Factory.load(root)
    assert list(loaded.pipelines) == ["good"]
    with pytest.raises(FactoryError, match="'bad' cannot run: activity 'B' depends on 'Nobody'"):
        loaded.pipeline("bad")


def test_ctrl_c_cancels_the_run_and_its_record_says_so(tmp_path: Path) -> None:
    root = write_factory(tmp_path / "adf", main={"activities": [activity("W", "Wait", waitTimeInSeconds=600)]})
    command = [sys.executable, "-m", "devhost.adf", "run", "main", "--factory", str(root), "--data", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        runs = tmp_path / "adf" / "runs"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not list(runs.glob("*.json")):
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
    record = json.loads(next(runs.glob("*.json")).read_text())
    assert (process.returncode, record["status"]) == (1, "Cancelled")
    assert record["activityRuns"][0]["status"] == "Cancelled"


def test_the_tree_shows_every_activity_with_status_and_duration() -> None:
    tree = RunTree()
    with ForecastApp(reasons=("stores is missing",)) as app:
        from devhost.adf.runner import Options, run_pipeline

        parameters = {"run_week": "2017-W45", "sources": ["stores"]}
        options = Options(url=app.url, wait_scale=600)
        run_pipeline(ROOT / "adf", "pl_forecast_weekly", parameters, options=options, watcher=tree)
    console = Console(file=io.StringIO(), width=200)
    console.print(tree.render())
    shown = console.file.getvalue()
    for part in (
        "✘ pl_forecast_weekly",
        "✔ Condition all",
        "[0] stores",
        "✔ Condition source",
        "✘ Fail with the reasons",
    ):
        assert part in shown
    assert "– Run weekly" in shown
    assert "The data gate of 2017-W45 is closed: stores is missing" in shown


def test_overrides_reach_globals_and_linked_services(tmp_path: Path, capsys) -> None:
    with ForecastApp() as app:
        arguments = ["run", "pl_run_orchestration", "--factory", str(ROOT / "adf"), "--data", str(tmp_path), "--plain"]
        arguments += ["-p", "kind=train", "-p", "run_week=2017-W45", "-p", "force=true", "--time-scale", "600"]
        arguments += ["--linked-service", f"ls_functions={app.url}", "--global", f"functions_url={app.url}"]
        assert main(arguments) == 0
    assert app.started["train-2017-W45-a1"]["force"] is True
    assert main([*arguments, "--global", "nothing=1"]) == 2
    assert "global parameter 'nothing' does not exist" in capsys.readouterr().err
