"""Whole runs on a workspace that is unlike the other one and in rough weather: no job is lost, none is doubled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from adapters.azureml_client import AzureMl
from adapters.jobs_azureml import AzureMlJobs
from domain.job_states import JobSpec
from orchestrators.ledger import RunLedger
from tests.control_plane.rough import RoughJob, RoughPlane, Weather
from tests.orchestrators.conftest import ROOT
from tests.orchestrators.memory_lake import MemoryLake
from tests.orchestrators.world import WEEK, World, make_world


@dataclass
class Sea:
    """A business on the rough plane, by the real SDK; the plane lives on the driver's clock."""

    world: World
    plane: RoughPlane

    def jobs_of_ledger(self, run_id: str) -> dict[str, dict[str, Any]]:
        ledger = RunLedger(self.world.services.lake)
        phases = [ledger.jobs(run_id, phase) or {"items": {}} for phase in ("pretrain", "train", "score")]
        return {item["name"]: item for document in phases for item in document["items"].values()}


@contextmanager
def at_sea(weather: Weather, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sea]:
    world = make_world(MemoryLake(), regions=3, MAX_JOBS_IN_FLIGHT="60")
    clock = world.services.clock
    with RoughPlane(weather, lambda: clock.now().timestamp()) as plane:
        for key, value in plane.environment.items():
            monkeypatch.setenv(key, value)
        monkeypatch.setattr("adapters.azure_retries.BACKOFF_SECONDS", 0.01)
        plane.on_completed = lambda job: world.jobs._work(_spec(job))
        world.services.jobs = AzureMlJobs(AzureMl("s1", "rg", "ws"), ROOT, "cpu")  # type: ignore[assignment]
        yield Sea(world, plane)


def _spec(job: RoughJob) -> JobSpec:
    inputs = {name: entry.get("uri") or entry.get("value") for name, entry in job.body["inputs"].items()}
    outputs = {name: entry["uri"] for name, entry in job.body["outputs"].items()}
    return JobSpec(job.name, job.body["experimentName"], "", "", "", inputs, outputs, {})


@pytest.mark.parametrize("listing", ["oldest first", "filter refused", "down"])
def test_a_run_in_rough_weather_ends_well_with_one_job_an_intent(
    listing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with at_sea(Weather(listing=listing, seed=len(listing)), monkeypatch) as sea:
        driver = sea.world.driver()
        run_id = sea.world.run(driver=driver)
        run = RunLedger(sea.world.services.lake).run(run_id)
        intents = sea.jobs_of_ledger(run_id)
        with capsys.disabled():
            print(f"\nlist {listing}: {len(intents)} intents, {len(sea.plane.jobs)} jobs, {sea.plane.calls} calls, met "
                  f"{sum(sea.plane.met.values())} troubles of {len(sea.plane.met)} kinds and {len(sea.plane.tokens)} "
                  f"tokens; longest history {driver.longest_history} events")
        assert run["status"] == "succeeded", run["message"]
        assert len(intents) == 1 + 9 + 3 and set(sea.plane.jobs) == set(intents)
        assert {job.made for job in sea.plane.jobs.values()} == {1}
        # Two stale words in a row are what a lost node looks like; one alone never counts.
        assert max(item["preempted"] for item in intents.values()) <= 1
        assert driver.longest_history <= 500


def test_a_stuck_and_a_failing_job_end_as_failed_and_a_replay_does_these_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrators.replaying import replay_run

    stem = f"weekly-{WEEK}-a1"
    stuck, bad = f"{stem}-r001-large-fast", f"{stem}-r003-large-slow"
    with at_sea(Weather(seed=4), monkeypatch) as sea:
        sea.plane.lives = {stuck: [(0, "Queued"), (60, "Running"), (600, "NotResponding")],
                           bad: [(0, "Running"), (100, "Failed")]}
        first = sea.world.run()
        ledger = RunLedger(sea.world.services.lake)
        assert ledger.run(first)["status"] == "failed"
        items = sea.jobs_of_ledger(first)
        assert items[stuck]["phase"] == "failed" and "deadline of 120 minutes passed" in items[stuck]["error"]
        assert sea.plane.word(sea.plane.jobs[stuck]) == "Canceled"
        assert {name for name, item in items.items() if item["phase"] == "failed"} == {stuck, bad}
        before = set(sea.plane.jobs)
        second = replay_run(sea.world.services, first, {"reason": "the node was bad"}, "olga")["run_id"]
        sea.world.drive(second)
        assert ledger.run(second)["status"] == "succeeded"
        new = {name.removeprefix(f"{second}-") for name in set(sea.plane.jobs) - before}
        assert new == {"r001-large-fast", "r003-large-slow", "score-r001", "score-r002", "score-r003"}
