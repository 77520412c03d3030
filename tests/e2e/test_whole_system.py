"""The whole system on the local testing data set: raw files in, forecasts out; again; and killed on the way."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from adapters.lake import connect
from domain.sales_weeks import SalesWeek
from orchestrators.publishing import published_bytes

ROOT = Path(__file__).resolve().parents[2]
WEEK = "2017-W45"
RUN = f"weekly-{WEEK}-a1"

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Demo:
    """`make run` on the local testing data set in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "local_testing"
        self.port = free_port()

    def command(self, *more: str) -> list[str]:
        return [sys.executable, "-m", "samples.demo", "--sample", "local_testing", "--data", str(self.folder),
                "--port", str(self.port), *more]

    def once(self, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command("--once", *more), cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False,
            env={**os.environ, "COLUMNS": "200"},
        )

    def serve(self) -> subprocess.Popen[bytes]:
        log = (self.folder / "serve.log").open("wb")
        return subprocess.Popen(self.command(), cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "COLUMNS": "200"})

    @property
    def state(self) -> dict:
        return json.loads((self.data / "host.json").read_text("utf-8"))

    def api(self, path: str, **body: object) -> requests.Response:
        key = json.loads((self.data / "keys.json").read_text("utf-8"))["master"]
        address, headers = f"http://127.0.0.1:{self.port}/api/{path}", {"x-functions-key": key}
        if body:
            return requests.post(address, json=body, headers=headers, timeout=60)
        return requests.get(address, headers=headers, timeout=60)

    def run_document(self) -> dict:
        return self.api(f"runs/{RUN}").json()

    def published(self) -> bytes:
        return published_bytes(connect(self.state["azurite"]["connection_string"]), SalesWeek.parse(WEEK))[0]


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def wait_for(what: object, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if what():  # type: ignore[operator]
                return
        except (OSError, ValueError, KeyError, requests.RequestException):
            pass
        time.sleep(0.3)
    raise AssertionError(f"did not happen within {seconds} s")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Demo, str, bytes]]:
    """One run from nothing, and what it published; its host goes on serving."""
    demo = Demo(tmp_path_factory.mktemp("undisturbed"))
    done = demo.once()
    assert done.returncode == 0, done.stdout + done.stderr
    process = demo.serve()
    try:
        wait_for(lambda: "serving until" in (demo.folder / "serve.log").read_text("utf-8"), 120)
        yield demo, done.stdout, demo.published()
    finally:
        stop(process)


def test_the_summary_tells_the_whole_story(undisturbed: tuple[Demo, str, bytes]) -> None:
    _, text, _ = undisturbed
    for source in ("deliveries", "returns", "weather_history", "weather_forecast", "shoppers", "special_events",
                   "stores", "products", "promotions"):
        assert re.search(rf"{source}\s*│\s*\d+\s*│\s*[\d,]+", text), source
    for words in ("56 ensembles and 28 baselines", "relative MAPE reduction", "RMSE 0", "RMSE all", "large x fast",
                  "gap 0", "forecasts for 2017-W45", "pl_forecast_weekly Succeeded"):
        assert words in text, words


def test_calling_it_again_does_nothing_twice(undisturbed: tuple[Demo, str, bytes]) -> None:
    demo, _, before = undisturbed
    started = time.monotonic()
    again = demo.once()
    assert again.returncode == 0, again.stdout + again.stderr
    assert "0 files dropped, 0 conditioned, 0 jobs submitted, nothing was done twice" in again.stdout
    assert demo.published() == before
    assert len(demo.api("runs").json()["runs"]) == 1
    assert time.monotonic() - started < 60


def test_everything_expected_is_scored_or_explained(undisturbed: tuple[Demo, str, bytes]) -> None:
    demo, _, data = undisturbed
    ledger = demo.run_document()["completeness"]
    assert ledger["closed"] and ledger["gap"] == 0 and ledger["expected"] >= 560
    assert ledger["expected"] == ledger["scored"] + sum(ledger["explained"].values())
    assert len(data.splitlines()) - 1 == ledger["scored"]


def test_a_forecast_is_explained_down_to_raw_rows(undisturbed: tuple[Demo, str, bytes]) -> None:
    demo, _, _ = undisturbed
    (row,) = demo.api(f"forecasts/{WEEK}?limit=1").json()["rows"]
    told = demo.api(f"explain?sales_week={WEEK}&store_id={row['store_id']}&product_id={row['product_id']}").json()
    assert told["forecast"]["units"] == row["units"] and told["model"]["version"] == row["model_version"]
    assert told["rows"] and all(raw["source_file"] and raw["source_row"] >= 1 for raw in told["rows"])


def test_the_audit_trail_is_whole_and_names_the_publish(undisturbed: tuple[Demo, str, bytes]) -> None:
    demo, _, _ = undisturbed
    audit = demo.api("audit?limit=1000").json()
    actions = {entry["action"] for entry in audit["entries"]}
    assert audit["intact"] and {"run_started", "model_promoted", "week_published"} <= actions


def test_a_pipeline_run_with_its_activities_is_on_record(undisturbed: tuple[Demo, str, bytes]) -> None:
    demo, _, _ = undisturbed
    runs = demo.api("pipelines/runs?limit=200").json()["runs"]
    top = [run for run in runs if run["pipelineName"] == "pl_forecast_weekly"]
    assert top and len(top[-1]["activityRuns"]) > 3
    assert {"pl_condition_all", "pl_run_orchestration"} <= {run["pipelineName"] for run in runs}
    assert demo.run_document()["correlation_id"] in {run["runId"] for run in top}


def test_wrong_calls_get_problem_documents(undisturbed: tuple[Demo, str, bytes]) -> None:
    demo, _, _ = undisturbed
    wrong = demo.api("runs", kind="weekly", sales_week="week 45")
    assert wrong.status_code == 400 and wrong.headers["Content-Type"].startswith("application/problem+json")
    assert "2017-W45" in wrong.json()["detail"]
    assert demo.api("runs/weekly-2017-W01-a1").status_code == 404
    assert demo.api("models/nonsense").status_code == 400
    assert demo.api("condition/unknown", sales_week=WEEK).status_code == 404
    assert demo.api(f"runs/{RUN}/cancel", reason="late").status_code == 409
    assert requests.get(f"http://127.0.0.1:{demo.port}/api/ops/../../settings.py", timeout=10).status_code == 404


def test_a_dry_replay_shows_that_everything_is_kept(undisturbed: tuple[Demo, str, bytes]) -> None:
    demo, _, _ = undisturbed
    plan = demo.api(f"runs/{RUN}/replay", dry_run=True).json()["plan"]
    assert {job["action"] for job in plan["jobs"]} == {"keep"}
    assert demo.api(f"runs/{RUN}/replay", dry_run=False).status_code == 400  # a replay needs a reason


def test_killed_in_the_middle_of_training_it_goes_on_and_publishes_the_same_bytes(
    undisturbed: tuple[Demo, str, bytes], tmp_path: Path
) -> None:
    _, _, expected = undisturbed
    demo = Demo(tmp_path)
    process = demo.serve()
    try:
        wait_for(lambda: demo.run_document()["jobs"]["train"]["succeeded"] >= 3, 900)
        host = demo.state["pid"]
        os.kill(host, signal.SIGKILL)
    finally:
        stop(process)
    done = demo.once()
    assert done.returncode == 0, done.stdout + done.stderr
    process = demo.serve()
    try:
        wait_for(lambda: "serving until" in (demo.folder / "serve.log").read_text("utf-8"), 120)
        assert demo.published() == expected
        document = demo.run_document()
        names = [job["name"] for phase in document["jobs"].values() for job in phase["items"]]
        assert len(names) == len(set(names)) and all(job.startswith(RUN) for job in names)
        folders = {path.name for path in (demo.data / "local" / "jobs" / "jobs").iterdir()}
        assert folders == set(names)
    finally:
        stop(process)


def test_a_busy_port_is_said_plainly(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        demo = Demo(tmp_path)
        demo.port = taken.getsockname()[1]
        done = demo.once()
    assert done.returncode == 2 and f"port {demo.port} is taken" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("wrong", [["--week", "2017-W60"], ["--sample", "nothing"]])
def test_bad_input_on_the_command_line_is_said_plainly(tmp_path: Path, wrong: list[str]) -> None:
    done = Demo(tmp_path).once(*wrong)
    assert done.returncode == 2 and wrong[1] in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
