"""Why a segment is trained: every reason stands in the ledger with its numbers, drift among them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from domain.sales_weeks import SalesWeek
from orchestrators.ledger import RunLedger
from tests.orchestrators.memory_lake import MemoryLake
from tests.orchestrators.world import WEEK, World, make_world

FAST, SLOW, BASELINE = "r001-large-fast", "r001-large-slow", "r001-large-baseline"
KEPT = ["same data, same code, not stale, no drift"]


@pytest.fixture
def world() -> World:
    return make_world(MemoryLake())


def reasons(world: World, run_id: str) -> dict[str, list[str]]:
    noted = RunLedger(world.services.lake).noted(run_id, "decisions")
    return {decision["segment"]: decision["reasons"] for decision in noted}


def test_a_model_whose_data_drifted_is_trained_again_and_only_that_one(world: World) -> None:
    world.jobs.drift = {FAST: 0.4}
    scored = world.run()
    ledger = RunLedger(world.services.lake)
    (row,) = [row for row in ledger.noted(scored, "drift") if row["breached"]]
    assert (row["segment"], row["psi"], row["threshold"]) == (FAST, 0.4, 0.25)
    counts = {step["name"]: step["counts"] for step in ledger.run(scored)["steps"]}
    assert counts["results"]["drifted"] == 1
    run_id = world.run("train", reason="the usual look")
    drift = f"drift: PSI 0.40 of units_lag_1, limit 0.25, seen by {scored}"
    assert reasons(world, run_id) == {FAST: [drift], SLOW: KEPT, BASELINE: KEPT}


def test_drift_of_another_version_or_before_a_scoring_that_saw_none_is_no_reason(world: World) -> None:
    world.jobs.drift = {FAST: 0.4, SLOW: 0.3}
    world.run()
    world.jobs.drift = {SLOW: 0.3}
    world.as_of_version = "abd"
    second = world.run(force=True, reason="new models")  # its scoring saw the new version of both
    look = reasons(world, world.run("train", reason="a look"))
    assert look[FAST] == KEPT and look[SLOW] == [f"drift: PSI 0.30 of units_lag_1, limit 0.25, seen by {second}"]
    world.jobs.drift = {}
    world.services.clock.forward(hours=1)
    world.run("score")
    assert reasons(world, world.run("train", force=True, reason="again"))[SLOW] == ["asked: again"]


def test_new_data_new_code_age_and_wish_are_named_with_their_numbers(world: World) -> None:
    world.run()
    world.as_of_version = "abd"
    world.services.settings = replace(world.services.settings, code_version="c2")
    for version in world.services.registry.models():
        if version.name == f"demand-{FAST}":
            tags = {"trained_on": "2017-08-06"}
            world.services.registry.set_stage(version.name, version.version, version.stage, tags)
    run_id = world.run(force=True, reason="the board asked")
    age = (SalesWeek.parse(WEEK).monday - date(2017, 8, 6)).days
    new = ["new data: abc -> abd", "new code: c1 -> c2"]
    found = reasons(world, run_id)
    assert found[FAST] == ["asked: the board asked", f"stale: {age} days old, limit 60", *new]
    assert found[SLOW] == ["asked: the board asked", *new]


def test_training_the_same_again_makes_nothing_and_other_data_make_versions_that_name_them(world: World) -> None:
    registry = world.services.registry

    def versions() -> set[tuple[str, str, str]]:
        return {(version.name, version.version, version.tags["data_version"]) for version in registry.models()}

    world.run()
    first = versions()
    assert {data for _, _, data in first} == {"abc"}
    world.run("train", reason="nothing is new")
    world.run(force=True, reason="all the same, again")
    assert versions() == first
    world.as_of_version = "abd"
    world.run(force=True, reason="one row was corrected")
    added = versions() - first
    assert {name for name, _, _ in added} == {name for name, _, _ in first}
    assert {data for _, _, data in added} == {"abd"}
