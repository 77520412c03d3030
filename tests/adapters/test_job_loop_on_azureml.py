"""The job loop of the orchestrators on Azure ML's SDK: crashes at every call."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from domain.errors import Unavailable
from domain.runs import RunRequest
from orchestrators.job_watch import plan_phase, poll_phase, submit_units
from orchestrators.ledger import RunLedger
from orchestrators.runs import start_run
from tests.adapters.platforms import AzurePlatform
from tests.control_plane.faults import Fault
from tests.orchestrators.conftest import ScriptedServices, services
from tests.orchestrators.durable_driver import Crash, Fuse, Fused

__all__ = ["services"]  # the fixture
PHASE = "train"


def open_run(services: ScriptedServices, segments: list[str]) -> str:
    """A run whose training is decided; baselines need no pretraining."""
    run_id, _ = start_run(services, RunRequest.from_dict({"kind": "weekly", "sales_week": "2017-W45"}))
    ledger = RunLedger(services.lake)
    facts = {"folder": "azureml://datastores/curated/paths/2017-W45/abc/", "as_of_version": "abc", "cutoff": "2017-W44"}
    ledger.change_run(str(run_id), lambda run: run.update(facts))
    decisions = [{"segment": key, "action": "train", "reasons": ["new"]} for key in segments]
    ledger.note(str(run_id), "decisions", decisions)
    return str(run_id)


def drive(services: ScriptedServices, run_id: str, fuse: Fuse) -> dict[str, Any]:
    def activity(body: Callable[..., dict[str, Any]], **request: Any) -> dict[str, Any]:
        """What durable does: an activity that crashed or failed runs again from its start."""
        for _ in range(50):
            try:
                answer = body(services, {"run_id": run_id, "phase": PHASE, **request})
            except (Crash, Unavailable):
                continue
            fuse.end_activity()
            return answer
        raise AssertionError("the activity never ended")

    activity(plan_phase)
    for _ in range(200):
        answer = activity(poll_phase, gap=1.0)
        if "result" in answer:
            result: dict[str, Any] = answer["result"]
            return result
        for units in answer["submit"]:
            activity(submit_units, units=units)
        time.sleep(0.02)
    raise AssertionError("the phase never ended")


@pytest.mark.long
@pytest.mark.parametrize("lost", ["", "lost_before", "lost_after", "garbled"])
def test_a_crash_at_any_call_of_the_loop_makes_each_intent_one_job(
    azure_platform: AzurePlatform, services: ScriptedServices, lost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plane, jobs, lake = azure_platform.plane, azure_platform.jobs, services.lake
    segments = [f"r{number:02d}-large-baseline" for number in range(1, 4)]
    plane.workspace.lives[""] = [(0.0, "Queued"), (0.02, "Running"), (0.04, "Completed")]

    def run_once(fuse: Fuse) -> None:
        for blob in list(lake.list("runs")):
            lake.delete("runs", blob.path)
        plane.workspace.jobs.clear()
        plane.faults.clear()
        run_id = open_run(replace(services, jobs=jobs), segments)
        if lost:
            plane.faults.add(Fault(lost, method="PUT", path="/jobs/", times=1))
        fused: Any = replace(services, jobs=Fused(jobs, fuse, "jobs"), lake=Fused(lake, fuse, "lake"))  # type: ignore[arg-type]
        result = drive(fused, run_id, fuse)
        assert sorted(plane.workspace.jobs) == [f"{run_id}-{key}" for key in segments]
        assert result["counts"]["succeeded"] == len(segments)

    whole = Fuse()
    run_once(whole)
    points = whole.points[::1 if not lost else 3]
    for at, after in points:
        run_once(Fuse(at, after))
    with capsys.disabled():
        print(
            f"\nkill points tried {len(points)} with {lost or 'no'} lost answer: jobs {len(points) * len(segments)}, "
            "duplicates 0, lost 0"
        )
