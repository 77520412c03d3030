"""Runs in trouble: stuck jobs, lost nodes, a platform or a lake that is away, a run that died."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from domain import activity_names as names
from domain import lake_paths
from domain.errors import NotFound, Throttled, Unavailable
from domain.job_states import JobSpec
from domain.ports import ModelVersion
from orchestrators import runs
from orchestrators.replaying import replay_run
from tests.orchestrators.memory_lake import MemoryLake
from tests.orchestrators.world import World, document, items, make_world, raise_error

KEYS = ("r001-large-fast", "r001-large-slow")


@pytest.fixture
def world() -> World:
    return make_world(MemoryLake())


def test_a_stuck_job_is_cancelled_at_its_deadline_and_fails(world: World) -> None:
    world.jobs.fates = {KEYS[0]: "stuck"}
    run_id = world.run()
    entry = items(world, run_id)[KEYS[0]]
    assert entry["phase"] == "failed" and entry["error"] == "deadline of 120 minutes passed"
    assert world.jobs.jobs[entry["name"]].cancelled is not None
    assert document(world, run_id)["status"] == "failed"


def test_a_job_that_waits_long_for_its_turn_is_not_late(world: World) -> None:
    world.jobs.fates = {KEYS[0]: lambda age: "Queued" if age < 6000 else "Running" if age < 12000 else "Completed"}
    assert document(world, world.run())["status"] == "succeeded"


def test_a_job_that_loses_its_node_is_counted_as_retried_and_not_as_failed(world: World) -> None:
    def preempted(age: float) -> str:
        return "Queued" if age < 20 or 400 < age < 900 else "Running" if age < 2000 else "Completed"

    world.jobs.fates = {KEYS[0]: preempted}
    run_id = world.run()
    assert document(world, run_id)["status"] == "succeeded"
    assert items(world, run_id)[KEYS[0]]["preempted"] == 1


def test_a_job_that_always_loses_its_node_ends(world: World) -> None:
    world.jobs.fates = {KEYS[0]: lambda age: "Running" if int(age / 700) % 2 else "Queued"}
    run_id = world.run()
    assert "lost its node 6 times" in items(world, run_id)[KEYS[0]]["error"]


@pytest.mark.parametrize("error", [Unavailable("down"), Throttled("slow down", retry_after=40), ValueError("a bug")])
def test_a_run_whose_platform_is_away_for_an_hour_goes_on_afterwards(world: World, error: Exception) -> None:
    began = world.services.clock.now()

    def away(_call: str, _name: str) -> None:
        if 100 < (world.services.clock.now() - began).total_seconds() < 3700:
            raise error

    world.jobs.trouble = away
    driver = world.driver()
    run_id = world.run(driver=driver)
    assert document(world, run_id)["status"] == "succeeded"
    assert (world.services.clock.now() - began).total_seconds() > 3700
    assert driver.longest_history <= 500


def test_a_run_whose_lake_is_away_for_hours_goes_on_afterwards(world: World) -> None:
    run_id = world.start()
    driver = world.driver()
    began = world.services.clock.now()
    for name in (names.POLL_JOBS, names.CLOSE_RUN):
        driver.bodies[name] = _away_at_first(world, name)
    world.drive(run_id, driver)
    assert document(world, run_id)["status"] == "succeeded"
    hours = (world.services.clock.now() - began).total_seconds() / 3600
    print(f"\n{hours:.0f} hours, longest history {driver.longest_history} events")
    assert hours > 10 and driver.longest_history <= 500


def _away_at_first(world: World, name: str) -> Any:
    from tests.orchestrators.durable_driver import BODIES

    since: list[Any] = []

    def body(services: Any, request: dict[str, Any]) -> dict[str, Any]:
        since.append(world.services.clock.now())
        if (since[-1] - since[0]).total_seconds() < 20_000:
            raise_error(Unavailable("the storage account is away"))
        return BODIES[name](services, request)

    return body


def test_an_activity_that_always_breaks_ends_the_run_with_its_words(world: World) -> None:
    driver = world.driver()
    driver.bodies[names.DECIDE_TRAINING] = lambda _services, _request: {}["nothing"]
    run_id = world.run(driver=driver)
    run = document(world, run_id)
    assert run["status"] == "failed" and "KeyError" in run["message"]
    assert [step["status"] for step in run["steps"]][:4] == ["succeeded", "succeeded", "failed", "skipped"]


def test_a_run_that_died_leaves_jobs_that_the_next_one_adopts_or_replaces(world: World) -> None:
    first = world.start()
    driver = world.driver()
    driver.start(names.RUN_WEEK, first, {"run_id": first})
    training = f"{first}-r001-large"
    with pytest.raises(AssertionError, match="has not ended"):
        driver.run(first, hours=0.06)
    assert f"{training}-fast" in world.jobs.jobs
    runs.close_run(world.services, {"run_id": first, "error": "the host is gone"})
    world.jobs.fates = {f"{training}-slow": "failed"}  # it will fail after the next attempt has adopted it
    second = world.run()
    taken = items(world, second)
    assert document(world, second)["status"] == "succeeded"
    assert taken[KEYS[0]]["adopted_from"] == first and taken[KEYS[0]]["name"] == f"{training}-fast"
    assert taken[KEYS[1]]["name"] == f"{second}-r001-large-slow" and taken[KEYS[1]]["adopted_from"] == ""
    assert document(world, second)["cost"]["phases"]["train"]["units"].keys() == {KEYS[1]}


@pytest.mark.parametrize("call", ["statuses", "submit"])
def test_a_run_says_why_it_waits_until_it_goes_on(world: World, call: str) -> None:
    began, said = world.services.clock.now(), []

    def away(name: str, _job: str) -> None:
        if name == call and 100 < (world.services.clock.now() - began).total_seconds() < 900:
            raise Unavailable("opening Azure ML: no token")

    world.jobs.trouble = away
    run_id = world.start()
    driver = world.driver()
    driver.on_tick = lambda: said.append((world.services.clock.now(), document(world, run_id).get("waiting")))
    world.drive(run_id, driver)
    waits = [(at, note) for at, note in said if note]
    assert waits and all("no token" in note["why"] for _, note in waits)
    assert (waits[0][0] - began).total_seconds() < 100 + 2 * 60 + 20, "within a look or two"
    assert "waiting" not in document(world, run_id) and document(world, run_id)["status"] == "succeeded"


def test_jobs_that_completed_without_leaving_enough_are_what_a_replay_does_again(world: World) -> None:
    work, spoilt = world.jobs._work, {KEYS[0]: "metrics.json", "r001": "forecasts.csv"}

    def careless(spec: JobSpec) -> None:
        work(spec)
        unit = str(spec.name).removeprefix(f"{spec.run_id}-").removeprefix("score-")
        container, prefix = lake_paths.parse_datastore_uri(*spec.outputs.values())
        for blob in list(world.services.lake.list(container, prefix)):
            if blob.path.endswith(spoilt.get(unit, "no file")):
                world.services.lake.write(container, blob.path, b'{"status": "trained"}')

    world.jobs._work = careless  # type: ignore[method-assign]
    world.services.settings = replace(world.services.settings, max_failed_share=1.0)
    first = world.run()
    assert items(world, first)[KEYS[0]]["phase"] == "failed" and "evaluation" in items(world, first)[KEYS[0]]["error"]
    assert "left no forecast" in items(world, first, "score")["r001"]["error"]
    spoilt.clear()
    before = set(world.jobs.jobs)
    second = replay_run(world.services, first, {"reason": "the disk was full"}, "olga")["run_id"]
    world.drive(second)
    assert set(world.jobs.jobs) - before == {f"{second}-{KEYS[0]}", f"{second}-score-r001"}
    assert document(world, second)["status"] == "succeeded"


def test_a_registry_that_shows_new_versions_late_is_waited_for(world: World) -> None:
    registry, clock = world.services.registry, world.services.clock
    listed, registered, set_stage = registry.models, registry.register, registry.set_stage
    born: dict[str, datetime] = {}

    def is_young(name: str, seconds: float) -> bool:
        return name in born and (clock.now() - born[name]).total_seconds() < seconds

    def register(name: str, *rest: Any) -> ModelVersion:
        born.setdefault(name, clock.now())
        return registered(name, *rest)

    def staged(name: str, *rest: Any) -> ModelVersion:
        if is_young(name, 60):
            raise NotFound(f"no {name}")
        return set_stage(name, *rest)

    registry.register, registry.set_stage = register, staged  # type: ignore[method-assign]
    registry.models = lambda: [one for one in listed() if not is_young(one.name, 200)]  # type: ignore[method-assign]
    run_id = world.run()
    assert document(world, run_id)["status"] == "succeeded", document(world, run_id)["message"]
    assert max(born.values()) < clock.now() - timedelta(seconds=200)
