"""The watchdog finds what is wrong, under names that the alert rules know, and is silent otherwise."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from adapters.telemetry_events import EVENTS
from domain.errors import Unavailable
from orchestrators import watchdog
from orchestrators.ledger import RunLedger
from tests.orchestrators.memory_lake import EPOCH, MemoryLake
from tests.orchestrators.world import World, make_world


@pytest.fixture
def world() -> World:
    return make_world(MemoryLake())


def look(world: World) -> list[dict[str, Any]]:
    findings = watchdog.look_around(world.services)["findings"]
    assert world.services.telemetry.events[-1] == "watchdog"
    for finding in findings:
        assert set(finding) - {"event"} <= EVENTS[finding["event"]].all_dimensions
    return findings


def test_a_healthy_business_is_silent(world: World) -> None:
    world.run()
    assert look(world) == []


def test_a_week_whose_deliveries_came_and_that_nobody_ran_is_overdue(world: World) -> None:
    world.services.lake.write_json("conditioned", "deliveries/2017-W44/current.json", {})
    assert look(world) == []
    world.services.clock.time = EPOCH + timedelta(hours=30)
    assert [(f["event"], f["overdue_kind"], f["due_week"]) for f in look(world)] == [
        ("run_overdue", "not_published", "2017-W45")
    ]
    world.run()
    assert look(world) == []


def test_a_run_that_hangs_and_jobs_that_nobody_takes_are_named(world: World) -> None:
    run_id = world.start()
    driver = world.driver()
    began = world.services.clock.now()

    def refuse(call: str, _name: str) -> None:
        if call == "submit":
            raise Unavailable("no quota")

    world.jobs.trouble = refuse
    driver.start("run_week", run_id, {"run_id": run_id})
    with pytest.raises(AssertionError, match="has not ended"):
        driver.run(run_id, hours=12)
    assert world.services.clock.now() - began > timedelta(hours=11)
    assert {(f["event"], f.get("cause", f.get("overdue_kind"))) for f in look(world)} == {
        ("run_overdue", "running"), ("queue_backlog", "the platform does not take jobs"),
    }
    assert watchdog.look_around(world.services)["running"] == [run_id]
    driver.run(run_id)  # after a day the platform's refusal ends the run
    assert "could not be submitted for 24 hours" in RunLedger(world.services.lake).run(run_id)["message"]


def test_models_that_age_or_got_bad_and_forecasts_that_jump_are_named(world: World) -> None:
    world.jobs.units_factor = 4.0
    world.run()
    assert {f["event"] for f in look(world)} == {"drift"}
    world.services.scenario = replace(world.services.scenario, mape_target=0.01, stale_after_days=0)
    found = look(world)
    assert {f["event"] for f in found} == {"drift", "mape_high", "model_stale"}
    assert {f["segment"] for f in found} == {"r001-large-fast", "r001-large-slow"}
