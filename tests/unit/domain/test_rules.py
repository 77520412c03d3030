"""The pure rules: weeks, segments, scenario, runs, polling, staleness, assortment, decisions, acceptance, gates."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.acceptance import judge
from domain.assortment import ACTIVE, DISCONTINUED, STORE_CLOSED, THIN_HISTORY, ActivityRule
from domain.completeness import Completeness
from domain.errors import BadRequest, BadSetting, ShelfcastError, Throttled
from domain.job_states import Phase, is_known, phase_of
from domain.lake_paths import LandingFile, datastore_uri, parse_datastore_uri
from domain.metrics import tally
from domain.polling import PollPolicy
from domain.runs import PLANS, RunId, RunRequest, Step, is_repeated
from domain.sales_weeks import SalesWeek, weeks_between
from domain.scenario import Scenario
from domain.scoring_gate import scoring_gate
from domain.segments import Segment, velocity_of_products
from domain.staleness import age_days, is_stale
from domain.training_decision import Champion, Drift, decide_training

CONFIG = Path(__file__).resolve().parents[3] / "config" / "scenario.json"


def scenario_document() -> dict:
    return json.loads(CONFIG.read_text("utf-8"))


@given(st.dates(date(1990, 1, 1), date(2100, 12, 31)))
def test_a_week_reads_back_what_it_writes_and_holds_its_days(day: date) -> None:
    week = SalesWeek.of(day)
    assert SalesWeek.parse(str(week)) == week
    assert week.holds(day) and not week.holds(day + timedelta(days=7))
    assert week.monday.weekday() == 0 and (week.sunday - week.monday).days == 6


@given(st.dates(date(2000, 1, 1), date(2050, 1, 1)), st.integers(-200, 200))
def test_weeks_add_up_across_years_of_53_weeks(day: date, weeks: int) -> None:
    week = SalesWeek.of(day)
    assert week.plus(weeks).weeks_since(week) == weeks


@pytest.mark.parametrize("text", ["2017-W00", "2017-W53", "2017-45", "W45", "", "2017-W1", "2017-w45", None, 201745])
def test_what_is_no_week_is_refused_with_the_remedy(text: object) -> None:
    with pytest.raises(BadRequest, match="2017-W45") as caught:
        SalesWeek.parse(text)  # type: ignore[arg-type]
    assert caught.value.fields["field"] == "sales_week"


def test_weeks_between_has_both_ends() -> None:
    found = [str(week) for week in weeks_between(SalesWeek(2020, 52), SalesWeek(2021, 1))]
    assert found == ["2020-W52", "2020-W53", "2021-W01"]


def test_the_scenario_has_56_ensembles_and_28_baselines_and_a_15th_region_is_one_row() -> None:
    scenario = Scenario.from_dict(scenario_document())
    assert len(list(scenario.segments())) == 56 and len(list(scenario.baselines())) == 28
    one_region = [s for s in (*scenario.segments(), *scenario.baselines()) if s.region == "r01"]
    assert sum(not s.is_baseline for s in one_region) == 4 and sum(s.is_baseline for s in one_region) == 2
    more = scenario_document()
    more["regions"].append("r15")
    assert len(list(Scenario.from_dict(more).segments())) == 60


def test_a_bad_scenario_names_every_fault() -> None:
    document = scenario_document()
    document["regions"] = ["R 1", "r02"]
    document["velocities"] = ["baseline"]
    document["sources"]["returns"]["cadence"] = "daily"
    document["quality"]["mape_target"] = -1
    with pytest.raises(BadSetting) as caught:
        Scenario.from_dict(document)
    for named in ("regions", "baseline", "returns.cadence", "mape_target"):
        assert named in str(caught.value)
    with pytest.raises(BadSetting, match="missing"):
        Scenario.from_dict({})


def test_segment_keys() -> None:
    segment = Segment.parse("r01-large-fast")
    assert (segment.key, segment.kind, segment.baseline.key) == ("r01-large-fast", "ensemble", "r01-large-baseline")
    for bad in ("r01-large", "", "a-b-c-d", "r01--fast"):
        with pytest.raises(BadRequest):
            Segment.parse(bad)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=4), st.floats(0, 100), min_size=1))
def test_half_of_the_products_are_fast_and_none_slower_than_a_slow_one(means: dict[str, float]) -> None:
    velocity = velocity_of_products(means)
    fast = [product for product, speed in velocity.items() if speed == "fast"]
    slow = [product for product, speed in velocity.items() if speed == "slow"]
    assert len(fast) - len(slow) in (0, 1)
    assert all(means[f] >= means[s] for f in fast for s in slow)


def test_run_ids_and_requests() -> None:
    run = RunId.parse("weekly-2017-W45-a3")
    assert (run.kind, str(run.sales_week), run.attempt) == ("weekly", "2017-W45", 3)
    assert str(run.next_attempt) == "weekly-2017-W45-a4"
    for bad in ("weekly-2017-W45-a0", "yearly-2017-W45-a1", "weekly-2017-W45", "../x", "weekly-2017-W54-a1"):
        with pytest.raises(BadRequest):
            RunId.parse(bad)
    request = RunRequest.from_dict({"kind": "weekly", "sales_week": "2017-W45", "segments": ["r01-large-fast"]})
    assert RunRequest.from_dict(request.to_dict()) == request


@pytest.mark.parametrize("change", [
    {"kind": "daily"}, {"sales_week": "45"}, {"segments": "r01-large-fast"}, {"segments": ["x"]}, {"force": "yes"},
    {"reason": "x" * 501}, {"reason": 7}, {"unknown": 1},
])
def test_a_wrong_request_names_its_field(change: dict) -> None:
    with pytest.raises(BadRequest):
        RunRequest.from_dict({"kind": "weekly", "sales_week": "2017-W45"} | change)


def test_every_plan_gates_first_and_validate_publishes_nothing() -> None:
    for kind, steps in PLANS.items():
        assert steps[0] is Step.DATA_GATE
        assert list(steps) == sorted(steps, key=list(Step).index)
        assert (Step.PUBLISH in steps) == (kind in ("weekly", "score", "backfill"))
        assert Step.PUBLISH not in steps or steps.index(Step.SCORING_GATE) < steps.index(Step.PUBLISH)
    assert is_repeated("score", Step.PUBLISH)
    assert not is_repeated("score", Step.TRAIN) and not is_repeated("", Step.SCORE)


@given(st.floats(0.1, 60), st.floats(60, 600), st.floats(0, 1000), st.booleans(), st.floats(0, 100))
def test_gaps_stay_in_bounds_and_respect_a_throttled_service(
    first: float, longest: float, previous: float, changed: bool, retry_after: float
) -> None:
    gap = PollPolicy(first, longest).next_gap(previous, changed=changed, retry_after=retry_after)
    assert first <= gap <= max(longest, retry_after) and gap >= retry_after


def test_gaps_grow_while_nothing_happens() -> None:
    policy = PollPolicy(10, 60)
    gaps = [10.0]
    for _ in range(10):
        gaps.append(policy.next_gap(gaps[-1], changed=False))
    assert gaps == sorted(gaps) and gaps[-1] == 60 and policy.next_gap(60, changed=True) == 10


def test_exactly_60_days_is_fresh_61_is_stale() -> None:
    trained = date(2017, 9, 1)
    assert not is_stale(trained, trained + timedelta(days=60), 60)
    assert is_stale(trained, trained + timedelta(days=61), 60)
    assert age_days(trained, trained + timedelta(days=61)) == 61


@pytest.mark.parametrize(("selling", "since", "history", "is_open", "state"), [
    (20, 1, 44, True, ACTIVE), (19, 1, 44, True, THIN_HISTORY), (44, 8, 44, True, ACTIVE),
    (44, 9, 44, True, DISCONTINUED), (44, 1, 44, False, STORE_CLOSED), (5, 1, 10, True, ACTIVE),
    (4, 1, 10, True, THIN_HISTORY), (1, 1, 1, True, ACTIVE),
])
def test_pair_states(selling: int, since: int, history: int, is_open: bool, state: str) -> None:
    rule = ActivityRule(min_selling_weeks=20, active_within_weeks=8)
    assert rule.state(
        selling_weeks=selling, weeks_since_last_sale=since, weeks_of_history=history, store_open=is_open
    ) == state


def test_job_states_know_azure_mls_words_and_wait_on_unknown_ones() -> None:
    assert phase_of("Completed") is Phase.SUCCEEDED and phase_of("Canceled") is Phase.CANCELLED
    assert phase_of("NotResponding") is Phase.RUNNING and not phase_of("Hibernating").ended
    assert not is_known("Hibernating") and is_known("Finalizing")


def decide(champion: Champion | None, **changes: object) -> tuple[str, str]:
    facts: dict = {
        "data_version": "d2", "code_version": "c1", "scored_on": date(2017, 11, 6), "stale_after_days": 60
    } | changes
    decision = decide_training("r01-large-fast", champion, **facts)
    return decision.action, "; ".join(decision.reasons)


def test_every_reason_to_train_is_recorded() -> None:
    current = Champion("v", "d2", "c1", date(2017, 11, 5))
    assert decide(current)[0] == "keep"
    assert decide(None) == ("train", "no model in production")
    assert "new data: d1 -> d2" in decide(Champion("v", "d1", "c1", date(2017, 11, 5)))[1]
    assert "new code: c0 -> c1" in decide(Champion("v", "d2", "c0", date(2017, 11, 5)))[1]
    assert "stale: 61 days old" in decide(Champion("v", "d2", "c1", date(2017, 9, 6)))[1]
    assert decide(current, asked="operator")[1].startswith("asked: operator")
    drift = Drift("units_lag_1", 0.4, 0.25, 3, "weekly-2017-W44-a1")
    told = "drift: PSI 0.40 of units_lag_1 and 2 more, limit 0.25, seen by weekly-2017-W44-a1"
    assert decide(current, drift=drift) == ("train", told)


def test_the_gate_needs_the_target_and_to_beat_the_history_average() -> None:
    actual = [10.0, 10.0, 0.0]
    good, worse, bad = [9.0, 11.0, 0.0], [8.0, 12.0, 1.0], [2.0, 30.0, 5.0]

    def verdict(ensemble: list[float], baseline: list[float], target: float = 0.45) -> object:
        members = {"ensemble": tally(actual, ensemble), "baseline": tally(actual, baseline)}
        return judge("r01-large-fast", "ensemble", members, mape_target=target, mission_mape=0.45)

    accepted = verdict(good, worse)
    assert accepted.accepted and accepted.measured.mape == pytest.approx(0.1)
    assert accepted.mape_reduction == pytest.approx(0.5)
    assert accepted.measured.n_excluded_from_mape == 1
    beaten = verdict(worse, good)
    assert not beaten.accepted and "not better than the history average" in beaten.reasons[0]
    far = verdict(bad, [0.0, 60.0, 9.0])
    assert not far.accepted and "above the target" in far.reasons[0] and not far.meets_mission
    lenient = verdict(bad, [0.0, 60.0, 9.0], target=2.0)
    assert lenient.accepted and not lenient.meets_mission
    nothing = judge("r01-large-fast", "ensemble", {"ensemble": tally([0.0], [0.0]), "baseline": tally([0.0], [0.0])},
                    mape_target=0.45, mission_mape=0.45)
    assert not nothing.accepted
    alone = {"baseline": tally(actual, bad)}
    assert judge("r01-large-baseline", "baseline", alone, mape_target=0.45, mission_mape=0.45).accepted


def test_the_scoring_gate_closes_on_gaps_inventions_and_implausible_totals() -> None:
    whole = Completeness(expected=10, scored=8, explained={"thin_history": 2})
    assert scoring_gate(whole, {"a": 100.0}, {"a": 90.0})["open"]
    assert "neither scored nor explained: s/p" in str(
        scoring_gate(Completeness(10, 7, {"thin_history": 2}, gap_pairs=("s/p",)), {}, {})["reasons"])
    assert not scoring_gate(Completeness(10, 8, {"x": 2}, unexpected=1), {}, {})["open"]
    assert not scoring_gate(Completeness(2, 0, {"x": 2}), {}, {})["open"]
    assert not scoring_gate(whole, {"a": 1000.0}, {"a": 90.0})["open"]
    assert not scoring_gate(whole, {"a": 0.0}, {"a": 90.0})["open"]
    assert not scoring_gate(whole, {"a": float("nan")}, {"a": 90.0})["open"]
    assert not scoring_gate(whole, {}, {}, ["s/p: -1"])["open"]


def test_landing_paths_and_datastore_uris() -> None:
    file = LandingFile.parse("landing/deliveries/2017-W45/dsd 1.txt")
    assert (file.source, str(file.sales_week), file.name, file.path) == (
        "deliveries", "2017-W45", "dsd 1.txt", "deliveries/2017-W45/dsd 1.txt")
    for bad in ("deliveries/2017-W45", "deliveries/../x/y", "deliveries/2017-W45/../../x", "a/2017-W45/.hidden"):
        with pytest.raises(BadRequest):
            LandingFile.parse(bad)
    assert parse_datastore_uri(datastore_uri("models", "a/b/")) == ("models", "a/b/")
    with pytest.raises(BadRequest):
        parse_datastore_uri("https://elsewhere/x")


def test_problems_carry_code_fields_and_retryability() -> None:
    problem = Throttled("later", retry_after=7).to_problem("/api/runs")
    assert problem["status"] == 503 and problem["retryable"] is True and problem["retry_after"] == 7
    assert problem["type"].endswith("throttled") and problem["instance"] == "/api/runs"


def test_the_error_tree_in_the_docstring_is_the_real_one() -> None:
    import domain.errors as errors

    def names(kind: type) -> set[str]:
        children = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
        return {kind.__name__}.union(*(names(child) for child in children))

    drawn = errors.__doc__ or ""
    assert all(name in drawn for name in names(ShelfcastError))
