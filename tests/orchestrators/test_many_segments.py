"""A thousand segments on Azure ML's own SDK, one request in ten faulty, through the real orchestrators."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from adapters.azureml_client import AzureMl
from adapters.jobs_azureml import AzureMlJobs
from domain import activity_names as names
from domain.runs import RunRequest
from orchestrators import job_watch, runs
from orchestrators.costing import run_cost
from orchestrators.ledger import RunLedger
from tests.adapters.platforms import PROJECT
from tests.control_plane.server import ControlPlane
from tests.orchestrators.durable_driver import Driver
from tests.orchestrators.memory_lake import MemoryLake
from tests.orchestrators.world import WEEK, make_world

SEGMENTS = [f"r{number:04d}-large-baseline" for number in range(1000)]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_1000_segments_end_with_few_calls_a_look_and_short_histories(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lake: Any = MemoryLake()
    world = make_world(lake, MAX_JOBS_IN_FLIGHT="400", CODE_VERSION="abc123")
    with ControlPlane() as plane:
        for key, value in plane.environment.items():
            monkeypatch.setenv(key, value)
        settings = plane.environment
        workspace = AzureMl(settings["AML_SUBSCRIPTION_ID"], settings["AML_RESOURCE_GROUP"], settings["AML_WORKSPACE"])
        jobs = AzureMlJobs(workspace, PROJECT, settings["AML_COMPUTE"])
        services: Any = replace(world.services, jobs=jobs)  # type: ignore[arg-type]
        run_id, _ = runs.start_run(services, RunRequest.from_dict({"kind": "weekly", "sales_week": WEEK}))
        ledger = RunLedger(lake)
        folder = f"azureml://datastores/curated/paths/{WEEK}/abc/"
        facts = {"folder": folder, "as_of_version": "abc", "cutoff": "2017-W44"}
        ledger.change_run(str(run_id), lambda run: run.update(facts))
        decisions = [{"segment": key, "action": "train", "reasons": ["new"]} for key in SEGMENTS]
        ledger.note(str(run_id), "decisions", decisions)
        # The workspace lives on the driver's clock: a job queues for a minute and runs for ten.
        plane.workspace.clock = lambda: services.clock.now().timestamp()
        plane.workspace.wall_offset = 0.0
        plane.workspace.lives[""] = [(0.0, "Queued"), (60.0, "Running"), (660.0, "Completed")]
        plane.faults.random(0.1, seed=3, path="/workspaces/")
        looks: list[int] = []
        cpu = {"bodies": 0.0}

        def watched(body: Any) -> Any:
            def run(found: Any, request: dict[str, Any]) -> dict[str, Any]:
                before, began = len(plane.calls()), time.thread_time()
                try:
                    return body(found, request)  # type: ignore[no-any-return]
                finally:
                    cpu["bodies"] += time.thread_time() - began
                    if body is job_watch.poll_phase:
                        looks.append(len(plane.calls()) - before)
            return run

        driver = Driver(services, services.clock, {
            names.POLL_JOBS: watched(job_watch.poll_phase), names.SUBMIT_JOBS: watched(job_watch.submit_units),
            names.PLAN_JOBS: watched(job_watch.plan_phase),
        })
        driver.start(names.RUN_JOBS, "phase", {"run_id": str(run_id), "phase": "train", "gap": 0.0})
        began, whole = time.monotonic(), time.thread_time()
        ended = driver.run("phase")
        own = time.thread_time() - whole - cpu["bodies"]
        with capsys.disabled():
            print(
                f"\n1,000 segments, faults {plane.faults.counts}: jobs {len(plane.workspace.jobs)}, {len(looks)} looks "
                f"with at most {max(looks)} calls, {driver.activities} activities, longest history "
                f"{driver.longest_history} events; CPU of orchestrators {own:.1f} s, of bodies with the SDK "
                f"{cpu['bodies']:.1f} s; wall {time.monotonic() - began:.0f} s"
            )
        assert ended.result["counts"]["succeeded"] == 1000
        cost = run_cost(services, str(run_id))
        assert cost["node_minutes"] == pytest.approx(10_000, rel=0.03)  # ten minutes each by the service's clock
        assert len(plane.workspace.jobs) == 1000
        assert max(looks) <= 10 and driver.longest_history <= 500
