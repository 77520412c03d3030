"""Whole runs through the real orchestrators: kinds, gates, failovers, cancellation, replays."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from adapters.lake import BlobLake
from domain import activity_names as names
from domain.errors import BadRequest, Conflict
from domain.runs import RunRequest
from domain.sales_weeks import SalesWeek
from orchestrators import runs
from orchestrators.audit import read_audit, verify_audit
from orchestrators.job_watch import plan_phase
from orchestrators.ledger import RunLedger
from orchestrators.publishing import current_version, published_bytes, roll_back_week
from orchestrators.replaying import replay_run
from tests.orchestrators.memory_lake import MemoryLake
from tests.orchestrators.world import WEEK, World, document, items, make_world, versions_in

KEYS = ("r001-large-fast", "r001-large-slow")


@pytest.fixture
def world() -> World:
    return make_world(MemoryLake())


@pytest.fixture
def real(lake: BlobLake) -> World:
    """The same on real storage."""
    return make_world(lake)


@pytest.fixture
def big(lake: BlobLake) -> World:
    """56 segments in 14 regions, as the product has, on real storage."""
    return make_world(lake, regions=14, formats=("large", "small"))


def forecasts(world: World) -> list[dict[str, str]]:
    data, _ = published_bytes(world.services.lake, SalesWeek.parse(WEEK))
    return list(csv.DictReader(io.StringIO(data.decode())))


def actions(world: World) -> list[str]:
    return [entry["action"] for entry in read_audit(world.services.lake, 1000)]


def lose(world: World, paths: Iterable[str]) -> None:
    """Delete the files of registered models behind the registry's back."""
    for path in paths:
        for blob in list(world.services.lake.list("models", path.split("/paths/")[1])):
            world.services.lake.delete("models", blob.path)


def test_a_weekly_run_goes_from_the_gate_to_the_published_week(real: World) -> None:
    world = real
    run_id = world.run()
    run = document(world, run_id)
    assert run["status"] == "succeeded", run["message"]
    assert run["completeness"]["closed"] and run["completeness"]["explained"] == {"thin_history": 2}
    assert [(row["product_id"], row["units"], row["order_units"], row["failover"]) for row in forecasts(world)] == [
        ("0001", "9.0000", "12", ""), ("0002", "9.0000", "9", ""),
    ]
    assert sorted(actions(world)) == ["model_promoted"] * 3 + ["run_started", "week_published"]
    assert not verify_audit(world.services.lake)
    assert world.services.results.current == {WEEK: run_id} and world.services.results.forecasts == 2
    reasons = RunLedger(world.services.lake).noted(run_id, "decisions")
    assert all(decision["reasons"] == ["no model in production"] for decision in reasons)


def test_the_parts_of_the_cost_are_the_total_and_the_estimate_came_before(world: World) -> None:
    run = document(world, world.run())
    phases = run["cost"]["phases"]
    parts = sum(sum(phase["units"].values()) for phase in phases.values())
    assert run["cost"]["node_minutes"] == pytest.approx(parts, abs=1e-3)
    assert run["cost"]["node_minutes"] == pytest.approx(5 * 1.5)  # five jobs of 90 s
    assert run["cost"]["cost"] == pytest.approx(5 * 1.5 / 60 * 0.3, abs=1e-5)
    assert {phase: entry["jobs"] for phase, entry in run["estimate"]["phases"].items()} == {
        "pretrain": 1, "train": 3, "score": 1,
    }


def test_the_budget_refuses_a_run_before_its_first_job(world: World) -> None:
    world.services.settings = replace(world.services.settings, run_budget=0.05)
    run = document(world, world.run())
    assert run["status"] == "failed" and "nothing was submitted" in run["message"]
    assert world.jobs.jobs == {}


def test_three_failed_segments_of_56_are_named_planned_and_replayed_alone(big: World) -> None:
    bad = ["r005-large-fast", "r005-large-slow", "r005-small-fast"]
    big.jobs.fates = dict.fromkeys(bad, "failed")
    run_id = big.run()
    run = document(big, run_id)
    assert run["status"] == "failed"
    assert "3 of 84 jobs failed: r005-large-fast: the job's log: segment r01: units is text" in run["message"]
    assert not list(big.services.lake.list("published"))

    plan = replay_run(big.services, run_id, {"dry_run": True}, "olga")["plan"]
    assert sorted(job["unit"] for job in plan["jobs"] if job["action"] == "run") == bad
    assert plan["estimate"]["jobs"] == 3 and plan["not_yet_planned"] == ["score"]
    assert {step["name"] for step in plan["steps"] if step["action"] == "keep"} == {"data_gate", "curate"}

    big.jobs.fates = {}
    before = set(big.jobs.jobs)
    outcome = replay_run(big.services, run_id, {"reason": "the file was corrected"}, "olga")
    again = replay_run(big.services, run_id, {"reason": "the file was corrected"}, "olga")  # the answer was lost
    assert outcome["run_id"] == again["run_id"] == f"weekly-{WEEK}-a2"
    with pytest.raises(Conflict, match="still running"):
        replay_run(big.services, run_id, {"reason": "somebody else"}, "otto")
    big.drive(outcome["run_id"])
    new = {name.removeprefix(f"{outcome['run_id']}-") for name in set(big.jobs.jobs) - before}
    assert new == {*bad, *(f"score-{region}" for region in big.services.scenario.regions)}
    replayed = document(big, outcome["run_id"])
    assert replayed["status"] == "succeeded" and replayed["publish"]["rows"] == 56
    told = [entry for entry in read_audit(big.services.lake, 500) if entry["action"] == "run_started"]
    assert (told[0]["actor"], told[0]["details"]["reason"]) == ("olga", "the file was corrected")
    assert big.curated == [""]  # the data were pinned once


def test_a_replay_with_new_code_says_that_everything_runs(world: World) -> None:
    run_id = world.run()
    world.services.settings = replace(world.services.settings, code_version="c2")
    plan = replay_run(world.services, run_id, {"dry_run": True}, "olga")["plan"]
    assert {(job["action"], job["why"]) for job in plan["jobs"]} == {("run", "the code is now c2, it was c1")}


def test_a_replay_from_a_step_repeats_it_and_what_follows(world: World) -> None:
    run_id = world.run()
    before = set(world.jobs.jobs)
    outcome = replay_run(world.services, run_id, {"from_step": "score", "reason": "check"}, "olga")
    world.drive(outcome["run_id"])
    assert {name.removeprefix(f"{outcome['run_id']}-") for name in set(world.jobs.jobs) - before} == {"score-r001"}
    assert document(world, outcome["run_id"])["status"] == "succeeded"


def test_a_refused_model_fails_over_and_the_run_is_degraded(world: World) -> None:
    world.services.scenario = replace(world.services.scenario, mape_target=0.001)
    run_id = world.run()
    run = document(world, run_id)
    assert run["status"] == "degraded" and run["message"] == "2 segments in failover state"
    assert {row["failover"] for row in forecasts(world)} == {"baseline"}
    assert {row["model"] for row in forecasts(world)} == {"r001-large-baseline"}
    assert versions_in(world, "refused") == {"demand-r001-large-fast", "demand-r001-large-slow"}
    lineup = RunLedger(world.services.lake).noted(run_id, "lineup")["lineup"]
    assert "above the target" in lineup[KEYS[0]]["reason"]
    # The business lowers its demands: a replay takes the same models, trains nothing, and is well.
    world.services.scenario = replace(world.services.scenario, mape_target=0.5)
    before = set(world.jobs.jobs)
    outcome = replay_run(world.services, run_id, {"reason": "target agreed with sales"}, "olga")
    world.drive(outcome["run_id"])
    assert document(world, outcome["run_id"])["status"] == "succeeded"
    assert {name for name in set(world.jobs.jobs) - before if "score" not in name} == set()


def test_a_deleted_model_is_named_and_its_segment_scored_by_another(world: World) -> None:
    world.run()
    lose(world, [v.path for v in world.services.registry.models() if v.name == "demand-r001-large-fast"])
    run_id = world.run("score")
    run = document(world, run_id)
    assert run["status"] == "degraded" and run["failovers"] == 1
    entry = RunLedger(world.services.lake).noted(run_id, "lineup")["lineup"][KEYS[0]]
    assert entry["source"] == "baseline" and "the files of demand-r001-large-fast" in entry["reason"]
    assert {row["segment"]: row["failover"] for row in forecasts(world)} == {KEYS[0]: "baseline", KEYS[1]: ""}
    assert run["completeness"]["gap"] == 0
    # With a model from before, that one scores; trained anew by force, the segment has its own again.
    world.as_of_version = "abd"
    world.run(force=True, reason="new data")
    assert document(world, f"weekly-{WEEK}-a2")["status"] == "succeeded"
    newest = next(v for v in world.services.registry.models() if v.name == "demand-r001-large-slow")
    lose(world, [newest.path])
    score = world.run("score", force=True)
    entry = RunLedger(world.services.lake).noted(score, "lineup")["lineup"][KEYS[1]]
    assert entry["source"] == "previous" and document(world, score)["status"] == "degraded"


def test_a_model_made_anew_after_its_files_were_lost_gets_a_new_version(world: World) -> None:
    world.run()
    first = {v.name: v.version for v in world.services.registry.models()}
    lose(world, [v.path for v in world.services.registry.models()])
    run_id = world.run(force=True, reason="the models container was emptied")
    assert document(world, run_id)["status"] == "succeeded"
    second = {v.name: v.version for v in world.services.registry.models() if v.stage == "production"}
    assert second == {name: f"{version}r2" for name, version in first.items()}


def test_half_a_week_is_never_published_as_a_whole_one(world: World) -> None:
    run_id = world.run(segments=[KEYS[0]])
    run = document(world, run_id)
    assert run["status"] == "failed" and "half a week is never published" in run["message"]
    assert not list(world.services.lake.list("published"))


def test_a_run_over_one_segment_carries_the_others_over(real: World) -> None:
    world = real
    whole = world.run()
    before = forecasts(world)
    world.jobs.units_factor = 2.0
    world.as_of_version = "abd"
    part = world.run(segments=[KEYS[0]], reason="r001 corrected")
    run = document(world, part)
    assert run["status"] == "succeeded", run["message"]
    after = forecasts(world)
    assert [row["units"] for row in after] == ["18.0000", "9.0000"] and after[1] == before[1]
    manifest = published_bytes(world.services.lake, SalesWeek.parse(WEEK))[1]
    assert manifest["segment_runs"] == {KEYS[0]: part, KEYS[1]: whole}
    assert "1 forecasts of the other segments carried over" in next(
        step["message"] for step in run["steps"] if step["name"] == "scoring_gate")


def test_a_part_does_not_take_back_what_others_published_meanwhile(world: World) -> None:
    world.run()
    world.as_of_version = "abd"
    part = world.start(segments=[KEYS[0]])
    driver = world.driver()
    publish = driver.bodies
    from orchestrators.publishing import publish_week, switch_pointer

    def raced(services: Any, request: dict[str, Any]) -> dict[str, Any]:
        switch_pointer(services.lake, SalesWeek.parse(WEEK), "somebodyelse0000", "weekly-2017-W45-a9", "now")
        return publish_week(services, request)

    publish[names.PUBLISH_WEEK] = raced
    world.drive(part, driver)
    run = document(world, part)
    assert run["status"] == "failed" and "while this run built on" in run["message"]


def test_a_week_is_rolled_back_once_however_often_it_is_asked(real: World) -> None:
    world = real
    world.run()
    good = current_version(world.services.lake, SalesWeek.parse(WEEK))["publish_version"]
    world.jobs.units_factor = 2.0
    world.run(force=True)
    bad = current_version(world.services.lake, SalesWeek.parse(WEEK))["publish_version"]
    assert bad != good
    for _ in range(2):
        pointer = roll_back_week(world.services, WEEK, "olga", "twice too much", from_version=bad)
        assert pointer["publish_version"] == good
    assert actions(world).count("week_rolled_back") == 1
    assert world.services.results.current[WEEK] == f"weekly-{WEEK}-a1"
    assert roll_back_week(world.services, WEEK, "olga", "it was right")["publish_version"] == bad


def test_a_closed_data_gate_costs_nothing_and_an_override_is_on_record(world: World) -> None:
    world.gate = {"open": False, "reasons": ["returns: 9 % of rows quarantined"]}
    run_id = world.run()
    assert document(world, run_id)["message"].startswith("data_gate: the data gate is closed: returns")
    assert world.jobs.jobs == {} and world.curated == []
    outcome = replay_run(world.services, run_id, {"reason": "go", "override_gate": "returns do not matter"}, "olga")
    world.drive(outcome["run_id"])
    assert document(world, outcome["run_id"])["status"] == "succeeded"
    (line,) = [entry for entry in read_audit(world.services.lake) if entry["action"] == "gate_overridden"]
    assert line["actor"] == "olga" and line["details"] == {
        "gate": "data_gate", "closed_because": "returns: 9 % of rows quarantined", "reason": "returns do not matter",
    }


def test_implausible_forecasts_are_held_until_a_person_says_otherwise(world: World) -> None:
    world.jobs.units_factor = 50.0
    run_id = world.run()
    assert "450 units forecast, 10 a week lately" in document(world, run_id)["message"]
    wish = {"reason": "go", "override_gate": "a holiday", "override_gates": ["scoring_gate"]}
    outcome = replay_run(world.services, run_id, wish, "olga")
    world.drive(outcome["run_id"])
    assert document(world, outcome["run_id"])["status"] == "succeeded"
    assert "gate_overridden" in actions(world)


def test_the_training_gate_may_be_overridden_and_the_week_is_degraded(world: World) -> None:
    world.jobs.fates = {KEYS[0]: "failed"}
    wish = {"override_gate": "the region is closed anyway", "override_gates": ["train"]}
    run = document(world, world.run(**wish))
    assert run["status"] == "degraded" and run["failovers"] == 1
    with pytest.raises(BadRequest, match="override_gates"):
        wrong = {"kind": "weekly", "sales_week": WEEK, "override_gate": "x", "override_gates": ["publish"]}
        RunRequest.from_dict(wrong)
    with pytest.raises(BadRequest, match="needs a reason"):
        RunRequest.from_dict({"kind": "weekly", "sales_week": WEEK, "override_gates": ["train"]})


def test_a_cancelled_run_takes_its_jobs_down_and_a_replay_takes_the_rest_up(world: World) -> None:
    run_id = world.start()
    driver = world.driver()

    def cancel_in_training() -> None:
        if any(name.endswith("large-fast") for name in world.jobs.jobs):
            runs.request_cancel(world.services, run_id, "olga", "wrong week")

    driver.on_tick = lambda: cancel_in_training() if document(world, run_id)["status"] == "running" else None
    world.drive(run_id, driver)
    run = document(world, run_id)
    assert (run["status"], run["message"]) == ("cancelled", "cancelled: olga: wrong week")
    assert {item["phase"] for item in items(world, run_id).values()} == {"cancelled"}
    assert actions(world).count("run_cancelled") == 1
    outcome = replay_run(world.services, run_id, {"reason": "right week after all"}, "olga")
    world.drive(outcome["run_id"])
    assert document(world, outcome["run_id"])["status"] == "succeeded"
    assert items(world, outcome["run_id"], "pretrain")["pooled"]["adopted_from"] == run_id


def test_a_cancellation_after_publishing_comes_too_late(world: World) -> None:
    run_id = world.start()
    driver = world.driver()
    from orchestrators.publishing import publish_week

    def cancelled_meanwhile(services: Any, request: dict[str, Any]) -> dict[str, Any]:
        runs.request_cancel(services, run_id, "olga", "stop")
        return publish_week(services, request)

    driver.bodies[names.PUBLISH_WEEK] = cancelled_meanwhile
    world.drive(run_id, driver)
    assert document(world, run_id)["status"] == "succeeded"
    assert world.services.results.current == {WEEK: run_id}


def test_validate_proves_everything_and_changes_nothing(world: World) -> None:
    run = document(world, world.run("validate"))
    assert run["status"] == "succeeded" and run["completeness"]["closed"]
    assert versions_in(world, "production") == set() and len(versions_in(world, "candidate")) == 3
    assert not list(world.services.lake.list("published"))


def test_a_backfill_twice_gives_the_same_bytes_and_leaves_production_alone(world: World) -> None:
    world.run()
    production = versions_in(world, "production"), {v.version for v in world.services.registry.models()}
    world.as_of_version = "past"
    first = world.run("backfill", as_of="2017-11-06T07:00:00+01:00")
    data = published_bytes(world.services.lake, SalesWeek.parse(WEEK))[0]
    second = world.run("backfill", as_of="2017-11-06T06:00:00Z", force=True, reason="once more")
    assert first != second and published_bytes(world.services.lake, SalesWeek.parse(WEEK))[0] == data
    assert world.curated[1:] == ["2017-11-06T06:00:00.000+00:00"] * 2
    assert versions_in(world, "production") == production[0]
    assert {v.version for v in world.services.registry.models() if v.stage == "production"} == production[1]
    assert len([name for name in world.jobs.jobs if name.startswith(second)]) == 5  # forced: nothing was adopted
    with pytest.raises(BadRequest, match="as_of"):
        RunRequest.from_dict({"kind": "backfill", "sales_week": WEEK, "as_of": "yesterday"})


def test_the_same_wish_is_the_same_run_and_another_wish_waits(world: World) -> None:
    run_id = world.start()
    assert world.start() == run_id
    with pytest.raises(Conflict, match="another wish"):
        world.start(segments=[KEYS[0]])
    world.drive(run_id)
    assert world.start() == run_id
    forced = world.start(force=True, correlation_id="adf-7")
    world.drive(forced)
    assert world.start(force=True, correlation_id="adf-7") == forced  # ADF repeats a call whose answer it lost
    assert world.start(force=True, correlation_id="adf-8") != forced


def test_scoring_goes_before_training_and_all_runs_together_keep_the_cap() -> None:
    lake = MemoryLake()
    world = make_world(lake, regions=8, MAX_JOBS_IN_FLIGHT="6")
    world.run()
    world.jobs.most_in_flight = 0
    world.as_of_version = "abd"
    train, score = world.start("train", reason="busy"), world.start("score")
    driver = world.driver()
    driver.start(names.RUN_WEEK, train, {"run_id": train})
    with pytest.raises(AssertionError, match="has not ended"):
        driver.run(train, hours=0.1)
    before = len([name for name in world.jobs.jobs if name.startswith(train)])
    driver.start(names.RUN_WEEK, score, {"run_id": score})
    driver.run(score)
    after = len([name for name in world.jobs.jobs if name.startswith(train)])
    driver.run(train)
    for run_id in (train, score):
        assert document(world, run_id)["status"] == "succeeded"
    assert world.jobs.most_in_flight <= 6
    assert before >= 6 and after - before <= 6  # training hardly went on while eight scoring jobs wanted slots
    assert lake.read_json("runs", "slots.json")[0] == {"phases": {}}


def test_a_phase_without_jobs_ends_at_once(world: World) -> None:
    world.run()
    again = world.run("train", reason="same data, same code")
    assert document(world, again)["status"] == "succeeded"
    assert plan_phase(world.services, {"run_id": again, "phase": "train"}) == {"jobs": 0, "adopted": 0}
