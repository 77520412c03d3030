"""Dependency conditions, Skipped, the leaf rule, inactive activities."""

from __future__ import annotations

import pytest

from devhost.adf.errors import FactoryError
from tests.adf.small_factory import activity, broken, expression, factory, needs, ok, run, statuses


@pytest.mark.parametrize(
    ("before", "conditions", "runs"),
    [
        (ok, ("Succeeded",), True),
        (ok, ("Failed",), False),
        (ok, ("Completed",), True),
        (ok, ("Skipped",), False),
        (broken, ("Succeeded",), False),
        (broken, ("Failed",), True),
        (broken, ("Completed",), True),
        (broken, ("Failed", "Skipped"), True),
        (broken, ("Succeeded", "Failed"), True),
        (broken, ("Completed", "Skipped"), True),
    ],
)
def test_the_conditions_of_one_dependency_are_alternatives(before, conditions, runs) -> None:
    ended = run(before("A"), ok("B", needs("A", *conditions)))
    assert statuses(ended)["B"] == ("Succeeded" if runs else "Skipped")


@pytest.mark.parametrize(
    ("condition", "runs"), [("Skipped", True), ("Completed", False), ("Succeeded", False), ("Failed", False)]
)
def test_a_skipped_activity_is_only_skipped(condition: str, runs: bool) -> None:
    ended = run(broken("A"), ok("B", needs("A", "Succeeded")), ok("C", needs("B", condition)))
    assert statuses(ended)["C"] == ("Succeeded" if runs else "Skipped")


def test_several_dependencies_must_all_hold() -> None:
    ended = run(ok("A"), broken("B"), ok("C", needs("A", "Succeeded"), needs("B", "Succeeded")))
    assert statuses(ended)["C"] == "Skipped"


def test_a_missing_condition_means_succeeded() -> None:
    later = ok("B") | {"dependsOn": [{"activity": "A"}]}
    assert statuses(run(broken("A"), later))["B"] == "Skipped"


def test_try_catch_ends_succeeded() -> None:
    ended = run(broken("Work"), ok("Handle", needs("Work", "Failed")))
    assert ended.status == "Succeeded"


def test_do_if_else_ends_failed_although_the_handler_ran() -> None:
    ended = run(broken("Work", message="no disk"), ok("Next", "Work"), ok("Handle", needs("Work", "Failed")))
    assert ended.status == "Failed"
    assert ended.message == "Operation on target Work failed: no disk"


def test_do_if_skip_else_ends_succeeded() -> None:
    ended = run(
        broken("Work"), ok("Next", "Work"), ok("Handle", needs("Work", "Failed")), ok("Dummy", needs("Next", "Skipped"))
    )
    assert ended.status == "Succeeded"


def test_generic_error_handling_runs_for_any_failure_of_the_chain() -> None:
    chain = [ok("A"), broken("B", "A"), ok("C", "B"), ok("Handle", needs("C", "Failed", "Skipped"))]
    assert statuses(run(*chain))["Handle"] == "Succeeded"
    clean = [ok("A"), ok("C", "A"), ok("Handle", needs("C", "Failed", "Skipped"))]
    assert statuses(run(*clean))["Handle"] == "Skipped"


def test_try_catch_proceed() -> None:
    for first in (ok("Work"), broken("Work")):
        ended = run(first, ok("Handle", needs("Work", "Failed")), ok("Go on", needs("Handle", "Succeeded", "Skipped")))
        assert statuses(ended)["Go on"] == "Succeeded"
        assert ended.status == "Succeeded"


def test_a_skipped_leaf_is_judged_by_its_parents_far_up() -> None:
    ended = run(broken("A"), ok("B", "A"), ok("C", "B"), ok("D", "C"))
    assert ended.status == "Failed"
    assert ended.message == "Operation on target A failed: broken"


def test_independent_activities_run_at_the_same_time() -> None:
    waits = [activity(f"W{i}", "Wait", waitTimeInSeconds=600) for i in range(5)]
    ended = run(*waits)
    assert (ended.end - ended.start).total_seconds() < 4


@pytest.mark.parametrize(
    ("mark", "next_condition", "status"),
    [
        ("Succeeded", "Succeeded", "Succeeded"),
        ("Failed", "Failed", "Succeeded"),
        ("Skipped", "Skipped", "Succeeded"),
        ("Failed", "Succeeded", "Failed"),
    ],
)
def test_an_inactive_activity_does_not_run_and_branches_as_marked(mark, next_condition, status) -> None:
    off = {"name": "Off", "type": "HDInsightHive", "state": "Inactive", "onInactiveMarkAs": mark}
    ended = run(off, ok("Next", needs("Off", next_condition)))
    assert statuses(ended)["Off"] == "Inactive"
    assert ended.status == status


def test_an_inactive_activity_has_no_output() -> None:
    off = ok("Off") | {"state": "Inactive"}
    ended = run(
        off, activity("Read", "Filter", "Off", items=expression("@activity('Off').output.rows"), condition=True)
    )
    assert ended.status == "Failed"


def test_the_result_of_an_activity_that_did_not_surely_run_is_an_error_not_null() -> None:
    read = activity("Read", "Fail", needs("B", "Skipped"), message="@{activity('B').status}", errorCode="1")
    ended = run(broken("A"), ok("B", "A"), read)
    assert "couldn't be interpreted" in ended.activity("Read").error["message"]


def test_a_dependency_on_nothing_is_refused() -> None:
    with pytest.raises(FactoryError, match="'B' depends on 'Nobody'"):
        factory(ok("B", "Nobody"))


def test_a_circle_is_refused() -> None:
    with pytest.raises(FactoryError, match="circle: A, B"):
        factory(ok("A", "B"), ok("B", "A"))
