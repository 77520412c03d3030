"""Azure ML under faults: whatever answer is lost, one name is one job, and a look never decides anything."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from domain.errors import JobRejected, ShelfcastError, Throttled, Unavailable
from domain.job_states import Phase
from tests.adapters.platforms import RUN, AzurePlatform, ended, job, submit_until_taken
from tests.control_plane.faults import KINDS, Fault
from tests.control_plane.workspace import Job

ROOT = Path(__file__).resolve().parents[2]


def crowd(platform: AzurePlatform, count: int, run: str = RUN) -> list[str]:
    """Jobs that are there without having been submitted one by one."""
    platform.jobs.submit(replace(job(f"{run}-pattern"), run_id=run))
    space = platform.plane.workspace
    pattern = space.jobs.pop(f"{run}-pattern")
    names = [f"{run}-s{number:04d}" for number in range(count)]
    for name in names:
        space.jobs[name] = Job(name, pattern.properties, space.clock(), [(0.0, "Running")])
    platform.plane.requests.clear()
    return names


def test_a_submission_is_one_look_and_one_put_and_says_what_it_is(azure_platform: AzurePlatform) -> None:
    azure_platform.jobs.submit(job(f"{RUN}-first"))  # the SDK asks for the workspace once
    azure_platform.plane.requests.clear()
    spec = job(pooled="azureml://datastores/models/paths/pooled/", segments="r01-large-fast")
    azure_platform.jobs.submit(spec)
    calls = azure_platform.plane.calls()
    assert [call.method for call in calls] == ["GET", "PUT"]
    sent = json.loads(calls[-1].body)["properties"]
    assert sent["inputs"]["data"] == {"jobInputType": "uri_folder", "uri": spec.inputs["data"]}
    assert sent["inputs"]["pooled"]["uri"] == spec.inputs["pooled"]
    assert sent["inputs"]["seed"]["value"] == "7"
    assert sent["outputs"]["models"]["uri"] == spec.outputs["models"]
    (step,) = sent["jobs"].values()
    assert step["componentId"].endswith("/components/work_like_train/versions/2")
    assert step["inputs"]["pooled"]["value"] == "${{parent.inputs.pooled}}"
    assert sent["settings"]["default_compute"].endswith("/computes/cpu-cluster")
    assert sent["tags"]["segment"] == "r01-large-fast"
    assert (sent["tags"]["run_id"], len(sent["tags"]["payload_hash"])) == (RUN, 24)
    assert sent["properties"] == {
        "run_id": RUN, "payload_hash": sent["tags"]["payload_hash"], "mlflow.source.git.commit": "abc123",
    }
    assert sent["displayName"] == spec.name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_any_fault_once_makes_exactly_one_job(azure_platform: AzurePlatform, kind: str, method: str) -> None:
    azure_platform.plane.faults.add(Fault(kind, method=method, path="/jobs/"))
    submit_until_taken(azure_platform)
    assert list(azure_platform.plane.workspace.jobs) == [f"{RUN}-r01-large-fast"]
    assert azure_platform.plane.faults.counts == {kind: 1}


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_that_lasts_is_an_error_that_a_retry_cures(azure_platform: AzurePlatform, kind: str) -> None:
    azure_platform.jobs.submit(job(f"{RUN}-first"))
    azure_platform.plane.faults.add(Fault(kind, method="PUT", path="/jobs/", times=-1))
    began = time.monotonic()
    with pytest.raises(Unavailable):
        azure_platform.jobs.submit(job())
    assert time.monotonic() - began < 5, "an activity ends in seconds"
    azure_platform.plane.faults.clear()
    azure_platform.jobs.submit(job())
    assert len(azure_platform.plane.workspace.jobs) == 2


def test_throttling_is_handed_back_and_never_slept(azure_platform: AzurePlatform) -> None:
    azure_platform.jobs.submit(job(f"{RUN}-first"))
    azure_platform.plane.faults.add(Fault("throttle", method="PUT", path="/jobs/", retry_after="37"))
    began = time.monotonic()
    with pytest.raises(Throttled) as caught:
        azure_platform.jobs.submit(job())
    assert caught.value.fields["retry_after"] == 37
    assert time.monotonic() - began < 2
    assert len(azure_platform.plane.calls("PUT")) == 2, "one for each job and no repetition"


def test_a_service_that_asks_for_patience_with_503_is_not_waited_for(azure_platform: AzurePlatform) -> None:
    names = crowd(azure_platform, 5)
    azure_platform.plane.faults.add(Fault("throttle", path="/jobs", retry_after="21", times=-1))
    with pytest.raises(Throttled) as caught:
        azure_platform.jobs.statuses(RUN, names)
    assert caught.value.fields["retry_after"] == 21
    assert len(azure_platform.plane.calls()) == 1


def test_stale_reads_after_a_lost_answer_make_no_second_job(azure_platform: AzurePlatform) -> None:
    """The PUT took effect, its answer was lost, and the job cannot be read yet: the same PUT again is harmless."""
    azure_platform.plane.workspace.stale_seconds = 1.0
    azure_platform.plane.faults.add(Fault("lost_after", method="PUT", path="/jobs/", times=3))
    submit_until_taken(azure_platform)
    assert len(azure_platform.plane.workspace.jobs) == 1


def test_another_payload_under_a_name_that_is_still_stale_is_refused(azure_platform: AzurePlatform) -> None:
    azure_platform.jobs.submit(job())
    azure_platform.plane.workspace.stale_seconds = 0.8
    other = replace(job(), inputs={**job().inputs, "cutoff": "2017-W43"})
    with pytest.raises(Unavailable, match="cannot be read yet"):
        azure_platform.jobs.submit(other)
    time.sleep(1.0)
    with pytest.raises(JobRejected, match="another payload"):
        azure_platform.jobs.submit(other)


def test_a_young_job_is_not_yet_known_and_then_it_is(azure_platform: AzurePlatform) -> None:
    azure_platform.plane.workspace.stale_seconds = 0.6
    azure_platform.jobs.submit(job())
    assert azure_platform.jobs.statuses(RUN, [job().name]) == {}
    assert ended(azure_platform.jobs, [job().name])[job().name].status == "Completed"


@pytest.mark.parametrize("status", ["NotResponding", "Paused", "Provisioning", "SomethingNew", "", None])
def test_odd_statuses_never_end_a_job(azure_platform: AzurePlatform, status: str | None) -> None:
    name = job().name
    azure_platform.plane.workspace.lives[name] = [(0.0, status)]  # type: ignore[list-item]
    azure_platform.jobs.submit(job())
    found = azure_platform.jobs.statuses(RUN, [name])[name]
    assert not found.phase.ended
    assert found.status == (status or "Unknown")


def test_a_refusal_for_good_is_rejected_with_the_service_s_words(azure_platform: AzurePlatform) -> None:
    azure_platform.plane.faults.add(Fault("error", method="PUT", path="/jobs/", status=403, times=-1))
    with pytest.raises(JobRejected, match="try later"):
        azure_platform.jobs.submit(job())


def test_a_look_that_is_forbidden_is_only_a_look_that_failed(azure_platform: AzurePlatform) -> None:
    names = crowd(azure_platform, 5)
    azure_platform.plane.faults.add(Fault("error", path="/jobs", status=403, times=-1))
    with pytest.raises(Unavailable):
        azure_platform.jobs.statuses(RUN, names)


def test_one_job_that_cannot_be_read_does_not_hide_the_others(azure_platform: AzurePlatform) -> None:
    names = crowd(azure_platform, 6)
    azure_platform.plane.workspace.filters = ("properties",)
    poison = azure_platform.plane.workspace.jobs[names[2]]
    poison.properties = {**poison.properties, "properties": {}}  # the list's filter misses it
    azure_platform.plane.faults.add(Fault("error", path=f"/jobs/{names[2]}", times=-1))
    found = azure_platform.jobs.statuses(RUN, names)
    assert found[names[2]].status == ""
    assert [found[name].status for name in names].count("Running") == 5


@pytest.mark.parametrize("kind", ["lost_before", "lost_after", "reset", "error", "throttle"])
def test_cancel_under_faults(azure_platform: AzurePlatform, kind: str) -> None:
    name = job().name
    azure_platform.plane.workspace.lives[name] = [(0.0, "Running")]
    azure_platform.jobs.submit(job())
    azure_platform.plane.faults.add(Fault(kind, method="POST", path="/cancel"))
    for _ in range(3):
        try:
            azure_platform.jobs.cancel(name)
            break
        except Unavailable:
            continue
    assert ended(azure_platform.jobs, [name])[name].phase is Phase.CANCELLED
    assert not azure_platform.plane.calls("GET", "/operations/"), "the cancellation is polled by nobody"


def test_a_service_that_hangs_is_given_up_in_time(
    azure_platform: AzurePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.azureml_client.READ_SECONDS", 0.5)
    azure_platform.jobs.submit(job(f"{RUN}-first"))
    azure_platform.plane.faults.add(Fault("hang", method="PUT", path="/jobs/", times=-1, seconds=3))
    began = time.monotonic()
    with pytest.raises(Unavailable):
        azure_platform.jobs.submit(job())
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("filters", [("properties", "tag"), ()])
def test_1000_jobs_are_looked_at_in_a_few_calls(
    azure_platform: AzurePlatform, filters: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    azure_platform.plane.workspace.filters = filters
    crowd(azure_platform, 300, "weekly-2017-W44-a1")
    names = crowd(azure_platform, 1000)
    began = time.monotonic()
    found = azure_platform.jobs.statuses(RUN, names)
    took, calls = time.monotonic() - began, len(azure_platform.plane.calls())
    assert len(found) == 1000
    assert calls <= 10
    with capsys.disabled():
        print(
            f"\n1,000 jobs, filters honoured {filters or 'none'}: {calls} calls, {took:.2f} s with the server's share"
        )


def test_1000_jobs_with_faults_stay_within_ten_calls(
    azure_platform: AzurePlatform, capsys: pytest.CaptureFixture[str]
) -> None:
    names = crowd(azure_platform, 1000)
    azure_platform.plane.faults.random(0.1, seed=11, path="/jobs")
    calls, failed = [], 0
    for _ in range(12):
        azure_platform.plane.requests.clear()
        try:
            assert len(azure_platform.jobs.statuses(RUN, names)) == 1000
        except Unavailable:
            failed += 1
        calls.append(len(azure_platform.plane.calls()))
    with capsys.disabled():
        print(f"\n1,000 jobs, 10 % faults: calls a look {calls}, looks that failed {failed} of 12")
    assert max(calls) <= 10
    assert failed < 12


@pytest.mark.long
def test_a_crash_at_any_call_of_a_submission_makes_one_job(
    azure_platform: AzurePlatform, capsys: pytest.CaptureFixture[str]
) -> None:
    """40 jobs; three requests in ten on the way fail in some way; every job is submitted until it is taken."""
    azure_platform.jobs.submit(job(f"{RUN}-first"))
    azure_platform.plane.workspace.stale_seconds = 0.2
    azure_platform.plane.faults.random(0.3, seed=5, kinds=KINDS, path="/jobs/")
    names = [f"{RUN}-s{number:02d}" for number in range(40)]
    tries = [submit_until_taken(azure_platform, name) for name in names]
    azure_platform.plane.faults.clear()
    made = [name for name in azure_platform.plane.workspace.jobs if name != f"{RUN}-first"]
    with capsys.disabled():
        faults = azure_platform.plane.faults.counts
        print(f"\n40 intents, {sum(tries)} tries, faults {faults}: jobs {len(made)}, duplicates 0, lost 0")
    assert made == names
    assert all(status.status == "Completed" for status in ended(azure_platform.jobs, names).values())


def test_the_environment_s_git_state_never_reaches_a_job(azure_platform: AzurePlatform) -> None:
    """Another commit in the folder that the app happens to run in must not make the same job another one."""
    azure_platform.jobs.submit(replace(job(), code_version=""))
    (sent,) = [json.loads(call.body) for call in azure_platform.plane.calls("PUT")]
    assert sent["properties"]["properties"]["mlflow.source.git.commit"] == "unversioned"
    assert "mlflow.source.git.branch" not in sent["properties"]["properties"]


def test_errors_are_ours(azure_platform: AzurePlatform) -> None:
    azure_platform.plane.faults.add(Fault("error", path="/workspaces/", status=418, times=-1))
    with pytest.raises(ShelfcastError):
        azure_platform.jobs.submit(job())


def test_the_times_of_an_ended_job_are_the_services_own(azure_platform: AzurePlatform) -> None:
    names = [f"{RUN}-s{number}" for number in range(4)]
    for name in names:
        azure_platform.plane.workspace.lives[name] = [(0.0, "Queued"), (0.05, "Running"), (0.15, "Completed")]
        azure_platform.jobs.submit(job(name))
    found = ended(azure_platform.jobs, names)
    for status in found.values():
        took = datetime.fromisoformat(status.ended_at) - datetime.fromisoformat(status.started_at)
        assert took.total_seconds() == pytest.approx(0.1, abs=0.001)
    azure_platform.plane.requests.clear()
    azure_platform.jobs.statuses(RUN, names)
    assert len(azure_platform.plane.calls("POST", "batchrundata")) == 1, "one request for all of them"


@pytest.mark.parametrize(("path", "status"), [("/batchrundata", 403), ("/discovery", 404)])
def test_a_workspace_without_run_history_is_asked_once_and_not_waited_for(
    azure_platform: AzurePlatform, path: str, status: int
) -> None:
    azure_platform.jobs.submit(job())
    azure_platform.plane.faults.add(Fault("error", path=path, status=status, times=-1))
    assert not ended(azure_platform.jobs, [job().name])[job().name].ended_at
    azure_platform.jobs.statuses(RUN, [job().name])
    assert len([call for call in azure_platform.plane.requests if path in call.path]) == 1


def test_a_list_that_is_down_does_not_hide_the_jobs(
    azure_platform: AzurePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.azure_retries.BACKOFF_SECONDS", 0.01)
    names = crowd(azure_platform, 12)
    azure_platform.plane.faults.add(Fault("error", path="/jobs$", status=500, times=-1))
    seen: set[str] = set()
    for _ in range(40):
        found = azure_platform.jobs.statuses(RUN, names)
        assert set(found) == set(names), "a job that was not asked about is not one that is not there"
        seen |= {name for name, status in found.items() if status.status == "Running"}
    assert seen == set(names)


@pytest.mark.parametrize("status", [405, 409, 412])
def test_a_read_that_is_refused_decides_nothing(azure_platform: AzurePlatform, status: int) -> None:
    azure_platform.plane.faults.add(Fault("error", method="GET", path="/jobs/", status=status))
    assert submit_until_taken(azure_platform) == 2


def test_a_job_is_known_by_its_properties_where_no_tags_are_shown(azure_platform: AzurePlatform) -> None:
    azure_platform.jobs.submit(job())
    shown = azure_platform.plane.workspace.jobs[job().name].properties
    shown["tags"] = None
    azure_platform.jobs.submit(job())
    shown["properties"] = {}
    with pytest.raises(JobRejected, match="another payload"):
        azure_platform.jobs.submit(job())


def test_a_put_that_is_answered_with_somebody_else_s_job_is_refused(azure_platform: AzurePlatform) -> None:
    space = azure_platform.plane.workspace
    azure_platform.jobs.submit(job())
    space.jobs[job().name].properties |= {"tags": {"owner": "somebody"}, "properties": {}}
    space.stale_seconds = 60.0
    space._put_again = lambda _job, _properties: None  # type: ignore[method-assign]
    with pytest.raises(JobRejected, match="another payload"):
        azure_platform.jobs.submit(job())


@pytest.mark.parametrize("status", [403, 404, 409])
def test_a_list_that_is_refused_does_not_hide_the_jobs(azure_platform: AzurePlatform, status: int) -> None:
    names = crowd(azure_platform, 20)
    azure_platform.plane.faults.add(Fault("error", path="/jobs$", status=status, times=-1))
    found = azure_platform.jobs.statuses(RUN, names)
    assert [status.status for status in found.values()].count("Running") >= 5
    assert len(azure_platform.plane.calls()) <= 10


def test_a_service_in_trouble_is_not_asked_more_often_in_a_look(azure_platform: AzurePlatform) -> None:
    names = crowd(azure_platform, 20)
    azure_platform.plane.workspace.page_size = 3
    azure_platform.plane.faults.random(0.4, seed=3, kinds=("error", "reset", "lost_after"), path="/jobs")
    for _ in range(10):
        azure_platform.plane.requests.clear()
        with suppress(Unavailable):
            azure_platform.jobs.statuses(RUN, names)
        assert len(azure_platform.plane.calls()) <= 10
