"""What every platform behind the jobs port promises; the same tests run on both."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from domain.errors import JobRejected
from domain.job_states import Phase
from tests.adapters.platforms import RUN, Platform, ended, job, until


def test_a_submitted_job_is_known_and_ends(platform: Platform) -> None:
    spec = platform.expect(job())
    assert platform.jobs.submit(spec) == spec.name
    assert platform.jobs.statuses(RUN, [spec.name])[spec.name].phase in (Phase.WAITING, Phase.RUNNING)
    end = ended(platform.jobs, [spec.name])[spec.name]
    assert (end.status, end.phase, end.error) == ("Completed", Phase.SUCCEEDED, "")


def test_submitting_again_adopts_running_and_ended_jobs(platform: Platform) -> None:
    spec = platform.expect(job())
    for _ in range(3):
        platform.jobs.submit(spec)
    ended(platform.jobs, [spec.name])
    platform.jobs.submit(spec)
    assert platform.jobs.statuses(RUN, [spec.name])[spec.name].status == "Completed"
    assert platform.times_made(spec.name) == 1


def test_many_callers_at_once_make_one_job(platform: Platform) -> None:
    spec = platform.expect(job())
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(platform.jobs.submit, [spec] * 16)) == {spec.name}
    ended(platform.jobs, [spec.name])
    assert platform.times_made(spec.name) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": {**job().inputs, "cutoff": "2017-W43"}},
        {"outputs": {"models": "azureml://datastores/models/paths/elsewhere/"}},
        {"segment": "r02-large-fast"},
    ],
)
def test_the_same_name_with_another_payload_is_refused(platform: Platform, change: dict[str, object]) -> None:
    spec = platform.expect(job())
    platform.jobs.submit(spec)
    with pytest.raises(JobRejected, match="another payload"):
        platform.jobs.submit(replace(spec, **change))  # type: ignore[arg-type]
    assert ended(platform.jobs, [spec.name])[spec.name].status == "Completed"


def test_tags_and_code_version_do_not_make_another_job(platform: Platform) -> None:
    spec = platform.expect(job())
    platform.jobs.submit(spec)
    platform.jobs.submit(replace(spec, tags={"segment": "r01-large-fast", "correlation_id": "c-2"}, code_version="def"))
    ended(platform.jobs, [spec.name])
    assert platform.times_made(spec.name) == 1


def test_a_failed_job_says_that_and_where_to_look(platform: Platform) -> None:
    spec = platform.expect(job(behave="fail"))
    platform.jobs.submit(spec)
    end = ended(platform.jobs, [spec.name])[spec.name]
    assert (end.status, end.phase) == ("Failed", Phase.FAILED)
    assert end.error


def test_an_optional_input_comes_with_the_job_alone(platform: Platform) -> None:
    spec = platform.expect(
        job(pooled="azureml://datastores/curated/paths/2017-W45/v1/extra/", segments="r01-large-fast")
    )
    platform.jobs.submit(spec)
    assert ended(platform.jobs, [spec.name])[spec.name].status == "Completed"


def test_cancel_is_a_wish_that_comes_true(platform: Platform) -> None:
    spec = platform.expect(job(behave="sleep-60"))
    platform.jobs.submit(spec)
    until(lambda: platform.jobs.statuses(RUN, [spec.name])[spec.name].status == "Running")
    platform.jobs.cancel(spec.name)
    assert platform.jobs.statuses(RUN, [spec.name])[spec.name].status in ("Running", "CancelRequested", "Canceled")
    platform.jobs.cancel(spec.name)
    assert ended(platform.jobs, [spec.name])[spec.name].phase is Phase.CANCELLED
    platform.jobs.submit(spec)
    assert platform.jobs.statuses(RUN, [spec.name])[spec.name].phase is Phase.CANCELLED


def test_cancelling_what_ended_or_never_was_is_fine(platform: Platform) -> None:
    spec = platform.expect(job())
    platform.jobs.submit(spec)
    ended(platform.jobs, [spec.name])
    platform.jobs.cancel(spec.name)
    platform.jobs.cancel(f"{RUN}-never")
    assert platform.jobs.statuses(RUN, [spec.name])[spec.name].status == "Completed"


def test_many_jobs_are_looked_at_together_and_unknown_ones_left_out(platform: Platform) -> None:
    specs = [
        platform.expect(job(f"{RUN}-s{number:02d}", behave="fail" if number == 3 else "work")) for number in range(12)
    ]
    for spec in specs:
        platform.jobs.submit(spec)
    found = ended(platform.jobs, [spec.name for spec in specs])
    assert [found[spec.name].status for spec in specs].count("Failed") == 1
    assert found[f"{RUN}-s03"].status == "Failed"
    assert set(platform.jobs.statuses(RUN, [*found, f"{RUN}-never"])) == set(found)
    assert platform.jobs.statuses(RUN, []) == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "with.dot"}, "cannot be a job name"),
        ({"name": "n" * 256}, "cannot be a job name"),
        ({"pipeline": "nothing"}, "nothing.yml does not exist"),
        ({"inputs": {**job().inputs, "sede": 7}}, "no input sede"),
        ({"inputs": {**job().inputs, "seed": "seven"}}, "seed must be integer"),
        ({"inputs": {**job().inputs, "data": "/tmp/folder"}}, "azureml://datastores"),
        ({"outputs": {}}, "output models"),
    ],
)
def test_a_job_that_cannot_run_is_refused_for_good(platform: Platform, change: dict[str, object], words: str) -> None:
    spec = replace(job(), **change)  # type: ignore[arg-type]
    with pytest.raises(JobRejected, match=words):
        platform.jobs.submit(spec)
    assert platform.times_made(spec.name) == 0
