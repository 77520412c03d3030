"""Kill the host at every call of every port and after every activity, and lose answers: nothing lost or doubled."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pytest

from adapters.lake import BlobLake
from domain import lake_paths
from domain.errors import Unavailable
from orchestrators.audit import read_audit, verify_audit
from orchestrators.ledger import RunLedger
from tests.orchestrators.durable_driver import Fuse, replay_every_prefix
from tests.orchestrators.memory_lake import MemoryLake
from tests.orchestrators.world import WEEK, World, make_world


def fresh(lake: Any) -> World:
    """A world with an empty lake."""
    if isinstance(lake, MemoryLake):
        lake.blobs.clear()
    else:
        for container in lake_paths.CONTAINERS:
            for blob in list(lake.list(container)):
                lake.delete(container, blob.path)
    return make_world(lake, POLL_FIRST_SECONDS="120")


def published(lake: Any) -> bytes:
    pointer, _ = lake.read_json("published", f"{WEEK}/current.json")
    return lake.read("published", f"{WEEK}/{pointer['publish_version']}/forecasts.csv").data


def check(world: World, run_id: str, expected: bytes) -> tuple[int, int]:
    """Return (jobs on the platform, intents) of a run that must have ended well, with each effect exactly once."""
    ledger = RunLedger(world.services.lake)
    run = ledger.run(run_id)
    assert run["status"] == "succeeded", run["message"]
    phases = [ledger.jobs(run_id, phase) or {"items": {}} for phase in ("pretrain", "train", "score")]
    intents = [item["name"] for phase in phases for item in phase["items"].values()]
    assert sorted(intents) == sorted(world.jobs.jobs)
    assert published(world.services.lake) == expected
    assert not verify_audit(world.services.lake)
    told = Counter((entry["action"], entry["subject"]) for entry in read_audit(world.services.lake, 1000))
    assert set(told.values()) == {1}, told
    assert len(told) == 5  # run started, three models promoted, week published
    stages = Counter(version.stage for version in world.services.registry.models())
    assert stages == {"production": 3}
    return len(world.jobs.jobs), len(intents)


def undisturbed(lake: Any) -> tuple[bytes, list[tuple[int, bool]]]:
    world, fuse = fresh(lake), Fuse()
    driver = world.driver(fuse)
    run_id = world.run(driver=driver)
    assert driver.kills == 0
    data = published(lake)
    check(world, run_id, data)
    return data, fuse.points


def crash_points(lake: Any, points: list[tuple[int, bool]], lost: Any = None) -> str:
    expected, _ = undisturbed(lake)
    jobs = intents = kills = 0
    for at, after in points:
        world = fresh(lake)
        if lost:
            lost(world)
        driver = world.driver(Fuse(at, after))
        run_id = world.run(driver=driver)
        made, wanted = check(world, run_id, expected)
        jobs, intents, kills = jobs + made, intents + wanted, kills + driver.kills
    return (f"kill points tried {len(points)}, hosts killed {kills}, intents {intents}, jobs {jobs}, "
            f"duplicates {max(jobs - intents, 0)}, lost {max(intents - jobs, 0)}")


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("lost", [False, True], ids=["all answers come", "first answers lost"])
def test_killed_at_every_call_each_intent_is_one_job_and_every_run_ends(
    lost: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = MemoryLake()
    _, points = undisturbed(lake)
    told = crash_points(lake, points[::3 if lost else 1], lose_answers_of_submissions if lost else None)
    with capsys.disabled():
        print(f"\n{len(points)} points a run; {'first answers lost; ' if lost else ''}{told}")


def lose_answers_of_submissions(world: World, when: str = "after") -> None:
    """Each job's first submission breaks off, before the job comes to life or after it has."""
    seen: set[str] = set()

    def break_off(call: str, name: str) -> None:
        if call == "submit" and name not in seen:
            seen.add(name)
            raise Unavailable("the connection broke before the answer came")

    if when == "after":
        world.jobs.after = break_off
    else:
        world.jobs.trouble = break_off


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_same_on_real_storage_at_some_of_the_calls(
    lake: BlobLake, when: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, points = undisturbed(lake)
    chosen = points[3 if when == "before" else 16::27]
    told = crash_points(lake, chosen, partial(lose_answers_of_submissions, when=when))
    with capsys.disabled():
        print(f"\non Azurite, first submissions broken off {when} the effect: {told}")


def test_every_recorded_history_replays_at_each_of_its_episodes() -> None:
    world = fresh(MemoryLake())
    lose_answers_of_submissions(world)
    driver = world.driver()
    run_id = world.run(driver=driver)
    episodes = sum(
        replay_every_prefix(name, run_id, input_text, history) for name, input_text, history in driver.histories
    )
    assert episodes > 40 and {name for name, *_ in driver.histories} == {"run_week", "run_jobs"}
