"""An operator's day over HTTP: the app on a local host, its jobs on Azure ML's SDK and a control plane of our own."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from adapters.lake import BlobLake, connect
from domain import lake_paths
from domain.job_states import JobSpec
from domain.sales_weeks import SalesWeek, weeks_between
from scripts.host_process import HostProcess
from tests.control_plane.server import ControlPlane
from tests.control_plane.workspace import Job
from tests.orchestrators.conftest import ROOT, StepClock
from tests.orchestrators.world import WorkingJobs

WEEK = "2017-W45"
EARLIER_WEEK = "2017-W44"
REGIONS = [f"r{number:02d}" for number in range(1, 15)]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
BAD = ["r05-large-fast", "r05-large-slow", "r05-small-slow"]
QUICK = [(0.0, "Queued"), (0.5, "Running"), (1.0, "Completed")]

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


def conditioned(
    lake: Any, source: str, week: str, rows: list[dict[str, Any]], ended_at: str = "2017-11-05T10:00:00.000+00:00"
) -> None:
    """Put one data version into the conditioned zone, as conditioning leaves it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*rows[0], "source_file", "source_row"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "source_file": f"{source}.csv", "source_row": n} for n, row in enumerate(rows, 1))
    data = text.getvalue().encode()
    folder, version = f"{source}/{week}/", hashlib.sha256(data).hexdigest()[:16]
    lake.write(lake_paths.CONDITIONED, f"{folder}{version}.csv", data)
    lake.write_json(lake_paths.CONDITIONED, f"{folder}{version}.manifest.json", {
        "source": source, "sales_week": week, "status": "accepted", "data_version": version,
        "ended_at": ended_at, "outputs": {"data": {"sha256": hashlib.sha256(data).hexdigest()}},
        "counts": {"records_read": len(rows), "conditioned": len(rows), "quarantined": 0, "duplicates": 0},
    }, metadata={"status": "accepted", "conditioned": str(len(rows)), "data_version": version})
    lake.write_json(
        lake_paths.CONDITIONED, f"{folder}current.json", {"data_version": version, "rows": len(rows)},
        metadata={"data_version": version},
    )


def seed(lake: Any) -> None:
    """Ten weeks of deliveries of four products to 28 stores."""
    stores = [
        {"store_id": f"{region[1:]}{number}", "region": region, "store_format": store_format}
        for region in REGIONS for number, store_format in enumerate(("large", "small"))
    ]
    products = [{"product_id": f"p{n}", "name": f"product {n}", "pack_size": 1} for n in range(4)]
    conditioned(lake, "stores", "2017-W35", stores)
    conditioned(lake, "products", "2017-W35", products)
    for week in weeks_between(SalesWeek.parse("2017-W35"), SalesWeek.parse("2017-W44")):
        conditioned(lake, "deliveries", str(week), [
            {"store_id": store["store_id"], "product_id": f"p{n}", "delivery_date": week.monday.isoformat(),
             "units": 10 + n} for store in stores for n in range(4)
        ])


@dataclass
class Office:
    """The running app as an operator reaches it."""

    host: HostProcess
    plane: ControlPlane
    lake: BlobLake

    def call(
        self, method: str, path: str, headers: dict[str, str] | None = None, **body: Any
    ) -> tuple[int, Any]:
        key = json.loads((self.host.data / "keys.json").read_text("utf-8"))["master"]
        sent = {"x-functions-key": key, **(headers or {})}
        status, answer, _ = self.host.call(method, f"/api/{path}", body or None, sent)
        return status, answer

    def operations(self, run_id: str) -> dict[str, set[str]]:
        """The operation ids under which telemetry reported each kind of event of a run."""
        found: dict[str, set[str]] = {}
        for line in (self.host.data.parent / "local" / "telemetry.jsonl").read_text("utf-8").splitlines():
            item = json.loads(line)
            if item["dimensions"].get("run_id") == run_id:
                found.setdefault(item["name"], set()).add(item["operation_id"])
        return found

    def wait(self, run_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + 800
        while time.monotonic() < deadline:
            status, answer = self.call("GET", f"runs/{run_id}/wait")
            if status == 200:
                return dict(answer)
            time.sleep(1)
        raise AssertionError(f"{run_id} has not ended: {answer}")


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    tmp_path = tmp_path_factory.mktemp("office")
    with ControlPlane() as plane:
        env = plane.environment | {
            "MAX_FAILED_SHARE": "0", "MAX_JOBS_IN_FLIGHT": "40", "POLL_FIRST_SECONDS": "1", "POLL_LONGEST_SECONDS": "4",
            "CODE_VERSION": "c1", "DATA_DIR": str(tmp_path / "local"), "SCENARIO_FILE": "config/scenario.json",
        }
        with HostProcess(ROOT, tmp_path / "host", env=env) as host:
            azurite = host.state.azurite
            assert azurite is not None
            lake = connect(str(azurite["connection_string"]))
            lake.ensure_containers(lake_paths.CONTAINERS)
            seed(lake)
            worker = WorkingJobs(lake, StepClock())

            def work(job: Job) -> None:
                worker._work(_spec(job))

            plane.workspace.on_completed = work
            plane.workspace.lives[""] = QUICK
            yield Office(host, plane, lake)


def _spec(job: Job) -> JobSpec:
    facts = job.properties
    inputs = {name: entry.get("uri") or entry.get("value") for name, entry in facts["inputs"].items()}
    outputs = {name: entry["uri"] for name, entry in facts["outputs"].items()}
    return JobSpec(job.name, facts["experimentName"], "", "", "", inputs, outputs, {})


def test_three_of_56_segments_fail_and_an_operator_replays_just_these(office: Office) -> None:
    lives = office.plane.workspace.lives
    lives |= {f"weekly-{WEEK}-a1-{key}": [(0.0, "Running"), (0.5, "Failed")] for key in BAD}
    wish = {"kind": "weekly", "sales_week": WEEK}
    traceparent = f"00-{TRACE}-00f067aa0ba902b7-01"
    status, started = office.call("POST", "runs", {"traceparent": traceparent}, **wish)
    assert (status, started["is_new"]) == (202, True)
    again = office.call("POST", "runs", {"traceparent": f"00-{TRACE[::-1]}-00f067aa0ba902b7-01"}, **wish)[1]
    assert (again["run_id"], again["is_new"]) == (started["run_id"], False)
    run_id = started["run_id"]

    # The API names the cause, and nothing is published.
    outcome = office.wait(run_id)
    assert outcome["status"] == "failed" and "3 of 84 jobs failed: r05-large-fast" in outcome["message"]
    shown = office.call("GET", f"runs/{run_id}")[1]
    failed = {job["segment"]: job["error"] for job in shown["jobs"]["train"]["items"] if job["phase"] == "failed"}
    assert sorted(failed) == BAD and all("Azure ML reports that the job failed" in why for why in failed.values())
    assert office.call("GET", f"forecasts/{WEEK}")[0] == 404

    # The trace of the call that started it is on the run, on every job as Azure ML has it, and on every event.
    assert (shown["traceparent"], shown["operation_id"]) == (traceparent, TRACE)
    assert {job.properties["tags"]["traceparent"] for job in office.plane.workspace.jobs.values()} == {traceparent}
    told = office.operations(run_id)
    assert {"run_started", "run_step", "aml_job_state"} <= set(told)
    assert all(operations == {TRACE} for operations in told.values()), told

    # A dry run lists exactly the three; the replay does them and nothing else again.
    status, planned = office.call("POST", f"runs/{run_id}/replay", dry_run=True)
    assert status == 200 and not planned["started"]
    assert sorted(job["unit"] for job in planned["plan"]["jobs"] if job["action"] == "run") == BAD
    before = set(office.plane.workspace.jobs)
    status, replayed = office.call("POST", f"runs/{run_id}/replay", reason="the region's file was corrected")
    assert status == 202 and replayed["run_id"] == f"weekly-{WEEK}-a2"
    outcome = office.wait(replayed["run_id"])
    assert outcome["status"] == "succeeded", outcome["message"]
    told = office.operations(replayed["run_id"])  # a call without a trace: the run's own operation, not its elder's
    assert {"model_evaluated", "region_scored", "week_published"} <= set(told)
    assert len(set.union(*told.values())) == 1 and set.union(*told.values()) != {TRACE}
    new = {name.removeprefix(f"{replayed['run_id']}-") for name in set(office.plane.workspace.jobs) - before}
    assert new == {*BAD, *(f"score-{region}" for region in REGIONS)}

    # The week is published as a whole, and the trail says who did what and why.
    forecasts = office.call("GET", f"forecasts/{WEEK}?limit=1000")[1]
    assert forecasts["total"] == 28 * 4 and forecasts["run_id"] == replayed["run_id"]
    audit = office.call("GET", "audit?limit=1000")[1]
    assert audit["intact"]
    told = [entry for entry in audit["entries"] if entry["subject"] == replayed["run_id"]]
    assert {(entry["action"], entry["actor"]) for entry in told} == {("run_started", "function key")}
    assert told[-1]["details"]["reason"] == "the region's file was corrected"
    actions = {entry["action"] for entry in audit["entries"]}
    assert {"run_started", "model_promoted", "week_published"} <= actions
    assert office.call("POST", f"runs/{run_id}/cancel", reason="late")[0] == 409


def test_a_host_that_is_killed_in_a_run_goes_on_where_it_was(office: Office) -> None:
    jobs = office.plane.workspace.jobs
    office.plane.workspace.lives[""] = [(0.0, "Queued"), (1.0, "Running"), (6.0, "Completed")]
    status, started = office.call("POST", "runs", kind="score", sales_week=WEEK, reason="killed")
    assert status == 202, "the models are those of the operator's story"
    run_id = started["run_id"]
    deadline = time.monotonic() + 120
    while not any(name.startswith(run_id) for name in jobs):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    office.host.kill()
    office.host.start()
    outcome = office.wait(run_id)
    assert outcome["status"] == "succeeded", outcome["message"]
    assert sorted(name for name in jobs if name.startswith(run_id)) == [f"{run_id}-score-{r}" for r in REGIONS]


def test_two_calls_at_once_are_one_run_and_one_whose_orchestration_is_gone_is_closed(office: Office) -> None:
    office.plane.workspace.lives[""] = [(0.0, "Running"), (600.0, "Completed")]
    wish = {"kind": "weekly", "sales_week": EARLIER_WEEK}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: office.call("POST", "runs", **wish), range(4)))
    assert {status for status, _ in answers} == {202}, answers
    assert {answer["run_id"] for _, answer in answers} == {f"weekly-{EARLIER_WEEK}-a1"}
    run_id = answers[0][1]["run_id"]
    key = json.loads((office.host.data / "keys.json").read_text("utf-8"))["master"]
    management = f"/runtime/webhooks/durabletask/instances/{run_id}"
    assert office.host.call("POST", f"{management}/terminate?reason=by+hand&code={key}")[0] in (202, 410)
    outcome = office.wait(run_id)
    assert outcome["status"] == "failed" and "the orchestration ended as Terminated" in outcome["message"]
    # The hourly watchdog does the same for a run that nobody waits for.
    second = office.call("POST", "runs", **wish)[1]["run_id"]
    assert second == f"weekly-{EARLIER_WEEK}-a2"
    management = f"/runtime/webhooks/durabletask/instances/{second}"
    office.host.call("POST", f"{management}/terminate?reason=by+hand&code={key}")
    status, _, _ = office.host.call("POST", "/admin/functions/watchdog", {"input": ""}, {"x-functions-key": key})
    assert status == 202
    deadline = time.monotonic() + 60
    while office.call("GET", f"runs/{second}")[1]["status"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert office.call("GET", "audit")[1]["intact"]
