"""What a look does to a job's entry: odd words, stale answers, whose times count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.costs import node_minutes
from domain.job_items import observe, submitted
from domain.job_states import JobStatus
from orchestrators.job_plans import plan_pretrain

RUN = {
    "run_id": "weekly-2017-W45-a1", "folder": "azureml://datastores/curated/paths/2017-W45/abc/", "cutoff": "2017-W44",
    "sales_week": "2017-W45", "correlation_id": "c", "as_of_version": "abc", "code_version": "c1",
}
BEGAN = datetime(2017, 11, 6, 6, tzinfo=UTC)


def looked_at(*words: str, **last: str) -> dict[str, Any]:
    """Return the entry of a job that was seen with these words, a minute apart; `last` completes the last look."""
    (plan,) = plan_pretrain(RUN, "full")
    item = plan.to_item()
    submitted(item, BEGAN)
    for minute, word in enumerate(words, start=1):
        facts = last if minute == len(words) else {}
        observe(item, JobStatus(item["name"], word, **facts), BEGAN + timedelta(minutes=minute))
    return item


@pytest.mark.parametrize("word", ["NotResponding", "Paused", "Unknown", "Hibernating"])
def test_a_word_that_tells_nothing_leaves_the_job_where_it_was(word: str) -> None:
    waiting = looked_at("Queued", word, "Queued", word, "Queued", word, "Queued")
    assert (waiting["phase"], waiting["preempted"]) == ("waiting", 0)
    running = looked_at("Running", word)
    assert (running["phase"], running["status"]) == ("running", word)
    assert looked_at(word)["phase"] == "waiting"
    assert looked_at(word, "Completed")["phase"] == "succeeded"


def test_one_stale_answer_is_no_lost_node_and_two_in_a_row_are_one() -> None:
    assert looked_at("Running", "Queued", "Running", "Queued", "Running")["preempted"] == 0
    lost = looked_at("Running", "Queued", "Preparing", "Queued")
    assert (lost["preempted"], lost["phase"], lost["running_since"]) == (1, "waiting", "")
    assert looked_at("Running", "Queued", "Queued", "Running", "Queued", "Queued")["preempted"] == 2


def test_a_job_that_was_not_asked_about_is_as_it_was() -> None:
    item = looked_at("Running")
    before = dict(item)
    observe(item, JobStatus(item["name"], ""), BEGAN + timedelta(hours=1))
    assert item == before


def test_the_platforms_times_count_and_are_never_mixed_with_ours() -> None:
    own = {"started_at": "2017-11-06 03:00:00", "ended_at": "2017-11-06 03:07:30Z"}  # its clock is three hours slow
    item = looked_at("Queued", "Running", "Completed", **own)
    assert (item["started_at"], item["ended_at"]) == ("2017-11-06T03:00:00.000+00:00", "2017-11-06T03:07:30.000+00:00")
    assert node_minutes(item, RUN["run_id"]) == 7.5
    half = looked_at("Queued", "Running", "Running", "Completed", started_at="2017-11-06 03:00:00")
    assert node_minutes(half, RUN["run_id"]) == 2  # seen running at minute two, ended at four
    assert node_minutes(looked_at("Queued", "Completed"), RUN["run_id"]) == 2  # from submission: nobody saw it run


@pytest.mark.parametrize("started", ["0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z", "2017-11-06T06:04:00Z"])
def test_times_that_cannot_be_true_do_not_count(started: str) -> None:
    item = looked_at("Running", "Running", "Completed", started_at=started, ended_at="2017-11-06T06:03:00.1234567Z")
    assert node_minutes(item, RUN["run_id"]) == 2
