"""The job loop of the orchestrators on Azure ML's SDK: crashes at every call, and a thousand segments."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
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

__all__ = ["services"]  # the fixture
PHASE = "train"


class Crash(BaseException):
    """The host is gone: no handler of the product may see this."""


@dataclass
class Fuse:
    """Counts calls of the ports and crashes before or after the one that was asked for."""

    at: int = -1
    after: bool = False
    calls: int = 0
    names: list[str] = field(default_factory=list)

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        number, self.calls = self.calls, self.calls + 1
        self.names.append(name)
        if number == self.at and not self.after:
            raise Crash(name)
        answer = function(*args, **kwargs)
        if number == self.at:
            raise Crash(name)
        return answer


class Fused:
    """A port whose calls go through the fuse."""

    def __init__(self, port: Any, fuse: Fuse) -> None:
        self._port, self._fuse = port, fuse

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._port, name)
        return lambda *args, **kwargs: self._fuse.call(name, attribute, *args, **kwargs)


def open_run(services: ScriptedServices, segments: list[str]) -> str:
    """A run whose training is decided; baselines need no pretraining."""
    run_id, _ = start_run(services, RunRequest.from_dict({"kind": "weekly", "sales_week": "2017-W45"}))
    ledger = RunLedger(services.lake)
    facts = {"folder": "azureml://datastores/curated/paths/2017-W45/abc/", "as_of_version": "abc", "cutoff": "2017-W44"}
    ledger.change_run(str(run_id), lambda run: run.update(facts))
    decisions = [{"segment": key, "action": "train", "reasons": ["new"]} for key in segments]
    ledger.note(str(run_id), "decisions", decisions)
    return str(run_id)


def activity(
    body: Callable[..., dict[str, Any]], services: ScriptedServices, request: dict[str, Any]
) -> dict[str, Any]:
    """What durable does: an activity that crashed or failed runs again from its start."""
    for _ in range(50):
        try:
            return body(services, request)
        except (Crash, Unavailable):
            continue
    raise AssertionError("the activity never ended")


def drive(services: ScriptedServices, run_id: str, ticks: int = 200, pause: float = 0.05) -> dict[str, Any]:
    activity(plan_phase, services, {"run_id": run_id, "phase": PHASE})
    for _ in range(ticks):
        answer = activity(poll_phase, services, {"run_id": run_id, "phase": PHASE, "gap": 1.0})
        if "result" in answer:
            result: dict[str, Any] = answer["result"]
            return result
        for units in answer["submit"]:
            activity(submit_units, services, {"run_id": run_id, "phase": PHASE, "units": units})
        time.sleep(pause)
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
        fused = replace(services, jobs=Fused(jobs, fuse), lake=Fused(lake, fuse))  # type: ignore[arg-type]
        result = drive(fused, run_id, pause=0.02)
        assert sorted(plane.workspace.jobs) == [f"{run_id}-{key}" for key in segments]
        assert result["counts"]["succeeded"] == len(segments)

    whole = Fuse()
    run_once(whole)
    points = 0
    for at in range(0, whole.calls, 1 if not lost else 3):
        for after in (False, True):
            run_once(Fuse(at, after))
            points += 1
    with capsys.disabled():
        print(
            f"\nkill points tried {points} with {lost or 'no'} lost answer: jobs {points * len(segments)}, "
            "duplicates 0, lost 0"
        )
