"""The whole system on the local testing data set: raw files in, forecasts out; again; and killed on the way."""

from __future__ import annotations

import csv
import gzip
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
from playwright.sync_api import Page, expect, sync_playwright

from adapters.lake import connect
from dashboard.screenshots import chromium_path
from domain.sales_weeks import SalesWeek
from orchestrators.publishing import published_bytes

ROOT = Path(__file__).resolve().parents[2]
WEEK = "2017-W45"
RUN = f"weekly-{WEEK}-a1"
DEADLINE = 60_000  # milliseconds for anything that the page is to show: the machine may be busy with other things

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
        return self._ended(self.command("--once", *more))

    def once_on_a_full_disk(self) -> subprocess.CompletedProcess[str]:
        """The same where every disk counts as full."""
        full = "import sys, samples.demo as demo; demo.FULL_BYTES = 10**18; sys.exit(demo.main(sys.argv[1:]))"
        return self._ended([sys.executable, "-c", full, *self.command("--once")[3:]])

    def _ended(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False,
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


def test_the_models_of_a_run_become_the_batch_endpoints_default(undisturbed: tuple[Demo, str, bytes]) -> None:
    demo, _, _ = undisturbed
    started = demo.api("rollouts/batch", run_id=RUN, reason="models of the week")
    assert started.status_code == 202, started.text
    rollout = f"rollouts/{started.json()['rollout_id']}"
    wait_for(lambda: demo.api(rollout).json()["status"] != "running", 240)
    document = demo.api(rollout).json()
    assert document["status"] == "completed", document["message"]
    pack, _, score, switch = document["stages"]
    (answered,) = score["scores"].values()
    assert pack["models"] >= 56 and answered["rows"] == pack["sample_rows"] >= 56
    assert switch["default"] == document["plan"]["candidate"]


def test_killed_in_training_and_stopped_by_a_full_disk_it_goes_on_and_publishes_the_same_bytes(
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
    full = demo.once_on_a_full_disk()
    assert full.returncode == 2 and "No space left on device" in full.stdout and "goes on where it was" in full.stdout
    assert "Traceback" not in full.stdout + full.stderr
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


@pytest.fixture(scope="module")
def opened(undisturbed: tuple[Demo, str, bytes]) -> Iterator[Page]:
    """The operators' page of the running system, in a browser; a script error fails the test."""
    demo, _, _ = undisturbed
    key = json.loads((demo.data / "keys.json").read_text("utf-8"))["function"]
    faults: list[str] = []
    expect.set_options(timeout=DEADLINE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(DEADLINE)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"http://127.0.0.1:{demo.port}/api/ops/?code={key}")
        yield page
        browser.close()
    assert faults == []


def show(page: Page, place: str) -> None:
    page.goto(page.url.split("#")[0] + place)
    page.wait_for_selector("main[aria-busy=false] h1")


def test_on_the_page_a_number_is_explained(undisturbed: tuple[Demo, str, bytes], opened: Page) -> None:
    show(opened, "#/forecasts")
    opened.locator("tbody th a").first.click()
    expect(opened.locator("#explain canvas")).to_be_visible()
    raw = opened.get_by_role("region", name="Raw rows behind the forecast").locator("tbody tr")
    expect(raw.first).to_contain_text(re.compile(r"dsd_2017-W\d\d\.txt\.gz"))
    assert raw.count() > 20  # all weeks of the history, not only the last ones


def test_on_the_page_a_week_is_conditioned_again(undisturbed: tuple[Demo, str, bytes], opened: Page) -> None:
    show(opened, "#/quality/deliveries?week=2017-W44")
    opened.get_by_role("button", name="Condition again…").click()
    opened.locator("dialog").get_by_label("Reason").fill("the provider mended its export")
    opened.locator("dialog").get_by_role("button", name="Condition again").click()
    expect(opened.locator("dialog .notice")).to_contain_text("Conditioned")
    opened.keyboard.press("Escape")
    show(opened, "#/audit")
    expect(opened.locator("main")).to_contain_text("the provider mended its export")


def test_on_the_page_a_refused_model_is_promoted(undisturbed: tuple[Demo, str, bytes], opened: Page) -> None:
    demo, _, _ = undisturbed
    refused = next(row["segment"] for row in demo.api("models").json()["models"] if row["stage"] == "refused")
    show(opened, f"#/models/{refused}")
    opened.get_by_role("button", name="Promote this…").first.click()
    opened.locator("dialog").get_by_label("Reason").fill("the only one that knows the new range")
    opened.locator("dialog").get_by_role("button", name="Promote").click()
    expect(opened.locator(".toast").last).to_contain_text("promoted")
    assert demo.api(f"models/{refused}").json()["versions"][0]["stage"] == "production"
    show(opened, "#/audit")
    expect(opened.locator("main")).to_contain_text("the only one that knows the new range")


def test_on_the_page_a_run_is_replayed(undisturbed: tuple[Demo, str, bytes], opened: Page) -> None:
    show(opened, f"#/runs/{RUN}")
    opened.get_by_role("button", name="Replay…").click()
    dialog = opened.locator("dialog")
    dialog.get_by_label("Reason").fill("the result tables were restored")
    dialog.get_by_label("From step").select_option("results")
    dialog.get_by_role("button", name="Preview").click()
    expect(opened.locator("#plan")).to_contain_text(f"{RUN.removesuffix('1')}2 would")
    dialog.get_by_role("button", name="Start the replay").click()
    expect(opened.locator("main h1")).to_contain_text(f"{RUN.removesuffix('1')}2")
    expect(opened.locator(".page-head .badge")).to_have_text(re.compile("succeeded|degraded"), timeout=120_000)


def test_a_corrected_raw_row_moves_exactly_the_forecasts_that_are_listed(
    undisturbed: tuple[Demo, str, bytes]
) -> None:
    demo, _, _ = undisturbed
    lake, before = connect(demo.state["azurite"]["connection_string"]), demo.published()
    (pair,) = demo.api(f"forecasts/{WEEK}?limit=1").json()["rows"]
    told = demo.api(f"explain?sales_week={WEEK}&store_id={pair['store_id']}&product_id={pair['product_id']}").json()
    raw = next(row for row in reversed(told["rows"]) if row["sales_week"] == "2017-W44")
    path = f"deliveries/2017-W44/{raw['source_file']}"
    lines = gzip.decompress(lake.read("landing", path).data).split(b"\n")
    cells = lines[raw["source_row"]].split(b"|")
    place = cells.index(str(int(raw["units"])).encode())
    cells[place] = str(int(raw["units"]) + 40).encode()
    lines[raw["source_row"]] = b"|".join(cells)
    lake.write("landing", path, gzip.compress(b"\n".join(lines)))
    assert demo.api("condition/deliveries", sales_week="2017-W44").status_code in (200, 202)
    run_id = demo.api("runs", kind="score", sales_week=WEEK, reason="a raw row was corrected").json()["run_id"]
    wait_for(lambda: demo.api(f"runs/{run_id}").json()["status"] in ("succeeded", "degraded"), 300)
    changes = demo.api(f"forecasts/{WEEK}/changes").json()
    listed = {(row["store_id"], row["product_id"]): row["after"]["units"] for row in changes["rows"]}
    old, new = ({(row["store_id"], row["product_id"]): (row["units"], row["order_units"]) for row in
                 csv.DictReader(text.decode().splitlines())} for text in (before, demo.published()))
    moved = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    assert listed.keys() == moved and (pair["store_id"], pair["product_id"]) in moved
    assert len(moved) < len(old)
    (source,) = changes["sources"]
    assert (source["source"], source["sales_week"]) == ("deliveries", "2017-W44")
    (row,) = source["rows"]
    assert row["source_row"] == raw["source_row"]
    assert row["fields"]["units"] == [str(int(raw["units"])), str(int(raw["units"]) + 40)]
