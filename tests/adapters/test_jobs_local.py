"""The local platform alone: processes, cache, queue, death of the host and of the agent."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from adapters.jobs_local import LocalJobs
from adapters.jobs_local_agent import MAX_PREEMPTED
from adapters.jobs_local_folders import JobFolder
from adapters.lake import BlobLake
from domain.errors import JobRejected
from domain.job_states import JobStatus
from tests.adapters.platforms import PROJECT, job, until
from tests.adapters.platforms import ended as all_ended

PRODUCT = Path(__file__).resolve().parents[2]


def status(jobs: LocalJobs, name: str) -> JobStatus:
    return jobs.statuses("weekly-2017-W45-a1", [name])[name]


def ended(jobs: LocalJobs, name: str) -> JobStatus:
    return all_ended(jobs, [name])[name]


def agent_pid(jobs: LocalJobs) -> int:
    """The process that reads the doorbell."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"adapters.jobs_local_agent" in command and str(jobs.root).encode() in command:
                return int(entry.name)
    raise AssertionError("no agent")


def alive(pid: int) -> bool:
    """Whether a process lives; one that has ended and that nobody asked for its exit code does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def jobs(tmp_path: Path, azurite: str, lake: BlobLake) -> Iterator[LocalJobs]:
    lake.write("curated", "2017-W45/v1/deliveries.csv", b"store_id,product_id,sales_week,units\n")
    lake.write("curated", "2017-W45/v1/extra/stores.csv", b"store_id\n")
    platform = LocalJobs(
        root=tmp_path / "jobs",
        lake_connection=azurite,
        project=PROJECT,
        python=sys.executable,
        max_parallel=2,
        idle_seconds=5,
    )
    yield platform
    for folder in (platform.root / "jobs").glob("*"):  # none where the test deleted it
        platform.cancel(folder.name)
    platform.close()


def test_a_job_reads_the_lake_and_its_outputs_are_there_when_it_is_completed(jobs: LocalJobs, lake: BlobLake) -> None:
    spec = job()
    assert jobs.submit(spec) == spec.name
    end = ended(jobs, spec.name)
    assert (end.status, end.error, end.preempted) == ("Completed", "", 0)
    assert end.started_at < end.ended_at
    metrics, _ = lake.read_json("models", f"{spec.name}/r01-large-fast/metrics.json")
    assert metrics["files"] == ["deliveries.csv", "extra/stores.csv"]
    assert (metrics["cutoff"], metrics["seed"], metrics["pooled"], metrics["secrets"]) == ("2017-W44", 7, None, [])
    assert lake.info("models", f"{spec.name}/results.csv")
    assert not JobFolder(jobs.root, spec.name).outputs.exists()


def test_a_failed_job_says_why_and_leaves_no_output(jobs: LocalJobs, lake: BlobLake) -> None:
    spec = job(behave="fail")
    jobs.submit(spec)
    end = ended(jobs, spec.name)
    assert end.status == "Failed"
    assert "exit code 3" in end.error
    assert "deliveries.csv row 7: units is text" in end.error
    assert not list(lake.list("models"))


def test_an_input_that_is_not_there_fails_the_job_by_name(jobs: LocalJobs) -> None:
    spec = job(data="azureml://datastores/curated/paths/2017-W45/none/")
    jobs.submit(spec)
    end = ended(jobs, spec.name)
    assert end.status == "Failed"
    assert "curated/2017-W45/none/" in end.error


def test_many_jobs_share_one_download_and_an_optional_folder_is_passed(jobs: LocalJobs, lake: BlobLake) -> None:
    specs = [job(f"weekly-2017-W45-a1-s{number}") for number in range(6)]
    specs.append(job("weekly-2017-W45-a1-s6", pooled="azureml://datastores/curated/paths/2017-W45/v1/extra/"))
    for spec in specs:
        jobs.submit(spec)
    for spec in specs:
        assert ended(jobs, spec.name).status == "Completed"
    seen = [lake.read_json("models", f"{spec.name}/r01-large-fast/metrics.json")[0] for spec in specs]
    assert len({metrics["data"] for metrics in seen}) == 1
    assert seen[0]["pooled"] is None
    assert Path(seen[6]["pooled"], "stores.csv").exists()
    lake.write("curated", "2017-W45/v1/deliveries.csv", b"changed\n")
    changed = job("weekly-2017-W45-a1-s7")
    jobs.submit(changed)
    ended(jobs, changed.name)
    metrics, _ = lake.read_json("models", f"{changed.name}/r01-large-fast/metrics.json")
    assert metrics["data"] != seen[0]["data"]
    assert Path(metrics["data"], "deliveries.csv").read_bytes() == b"changed\n"


def test_jobs_beyond_the_limit_wait_and_scoring_goes_first(jobs: LocalJobs, tmp_path: Path) -> None:
    specs = [job(f"weekly-2017-W45-a1-s{number}", behave=f"wait-{tmp_path}/go{number}") for number in range(4)]
    for spec in specs[:2]:
        jobs.submit(spec)
    until(lambda: {status(jobs, spec.name).status for spec in specs[:2]} == {"Running"})
    score = replace(job("weekly-2017-W45-a1-score", behave=f"wait-{tmp_path}/go4"), kind="score")
    for spec in [*specs[2:], score]:
        jobs.submit(spec)
    assert [status(jobs, spec.name).status for spec in [*specs, score]] == [
        "Running",
        "Running",
        "Queued",
        "Queued",
        "Queued",
    ]
    (tmp_path / "go0").touch()
    assert ended(jobs, specs[0].name).status == "Completed"
    until(lambda: status(jobs, score.name).status == "Running")
    assert status(jobs, specs[2].name).status == "Queued"
    for number in range(1, 5):
        (tmp_path / f"go{number}").touch()
    for spec in [*specs, score]:
        assert ended(jobs, spec.name).status == "Completed"


def test_cancel_ends_running_stubborn_and_queued_jobs(jobs: LocalJobs) -> None:
    specs = [
        job("a-running", behave="sleep-60"),
        job("a-stubborn", behave="stubborn-60"),
        job("a-queued", behave="sleep-60"),
    ]
    for spec in specs:
        jobs.submit(spec)
    until(lambda: all("start" in JobFolder(jobs.root, spec.name).log_tail() for spec in specs[:2]))
    for spec in specs:
        jobs.cancel(spec.name)
    assert {status(jobs, spec.name).status for spec in specs} <= {"CancelRequested", "Canceled"}
    assert [ended(jobs, spec.name).status for spec in specs] == ["Canceled"] * 3
    assert "start" not in JobFolder(jobs.root, "a-queued").log_tail()
    jobs.cancel("a-running")
    jobs.cancel("never-seen")
    assert status(jobs, "a-running").status == "Canceled"


def test_a_job_killed_from_outside_starts_again_and_is_counted(jobs: LocalJobs, tmp_path: Path) -> None:
    spec = job(behave=f"wait-{tmp_path}/go")
    jobs.submit(spec)
    folder = JobFolder(jobs.root, spec.name)
    for times in range(2):
        until(lambda times=times: folder.log_tail().count("start") == times + 1)
        os.killpg(folder.process_group() or 0, signal.SIGKILL)
    until(lambda: folder.log_tail().count("start") == 3)
    (tmp_path / "go").touch()
    end = ended(jobs, spec.name)
    assert (end.status, end.preempted) == ("Completed", 2)


def test_a_job_that_is_always_killed_ends_as_failed(jobs: LocalJobs) -> None:
    spec = job(behave="sleep-60")
    jobs.submit(spec)
    folder = JobFolder(jobs.root, spec.name)
    for times in range(MAX_PREEMPTED + 1):
        until(lambda times=times: folder.log_tail().count("start") == times + 1)
        os.killpg(folder.process_group() or 0, signal.SIGKILL)
    end = ended(jobs, spec.name)
    assert end.status == "Failed"
    assert "killed from outside" in end.error


def test_jobs_survive_the_agent_and_the_next_one_adopts_them(jobs: LocalJobs, tmp_path: Path) -> None:
    specs = [job(f"weekly-2017-W45-a1-s{number}", behave=f"wait-{tmp_path}/go{number}") for number in range(3)]
    for spec in specs:
        jobs.submit(spec)
    until(lambda: "start" in JobFolder(jobs.root, specs[1].name).log_tail())
    until(lambda: "start" in JobFolder(jobs.root, specs[0].name).log_tail())
    os.kill(agent_pid(jobs), signal.SIGKILL)
    (tmp_path / "go0").touch()
    until(lambda: JobFolder(jobs.root, specs[0].name).exit_code() == 0)
    (tmp_path / "go1").touch()
    (tmp_path / "go2").touch()
    for spec in specs:
        end = ended(jobs, spec.name)
        assert (end.status, end.preempted) == ("Completed", 0)
        assert JobFolder(jobs.root, spec.name).log_tail().count("start") == 1


@pytest.mark.parametrize("adopted", [False, True])
def test_an_agent_whose_folder_is_deleted_ends_with_its_jobs(jobs: LocalJobs, adopted: bool) -> None:
    name = jobs.submit(job(behave="sleep-300"))
    until(lambda: status(jobs, name).status == "Running")
    until(lambda: "start" in JobFolder(jobs.root, name).log_tail())  # now nobody writes into the folder any more
    if adopted:
        jobs.close()
        until(lambda: status(jobs, name).status == "Running")  # starts a successor
    agent, group = agent_pid(jobs), JobFolder(jobs.root, name).process_group()
    assert group is not None
    shutil.rmtree(jobs.root)
    until(lambda: not alive(agent) and not alive(group))


def test_another_lake_address_replaces_the_agent_without_touching_jobs(jobs: LocalJobs, tmp_path: Path) -> None:
    spec = job(behave=f"wait-{tmp_path}/go")
    jobs.submit(spec)
    until(lambda: "start" in JobFolder(jobs.root, spec.name).log_tail())
    first = agent_pid(jobs)
    successor = replace(jobs, lake_connection=jobs.lake_connection + ";")
    successor.statuses("weekly-2017-W45-a1", [spec.name])
    assert agent_pid(successor) != first
    (tmp_path / "go").touch()
    end = ended(successor, spec.name)
    assert (end.status, end.preempted) == ("Completed", 0)
    successor.close()


def test_jobs_survive_the_host(jobs: LocalJobs, lake: BlobLake, tmp_path: Path) -> None:
    """The host is killed right after submit; the job goes on and ends with nobody watching."""
    program = textwrap.dedent(f"""
        import os, signal, sys
        from pathlib import Path
        from adapters.jobs_local import LocalJobs
        from domain.job_states import JobSpec
        jobs = LocalJobs(root=Path({str(jobs.root)!r}), lake_connection={jobs.lake_connection!r},
                         project=Path({str(PROJECT)!r}), python=sys.executable, max_parallel=2, idle_seconds=5)
        for number in range(3):
            spec = JobSpec.from_dict({job().to_dict()!r} | {{"name": f"host-{{number}}"}})
            jobs.submit(spec)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    host = subprocess.run([sys.executable, "-c", program], cwd=PRODUCT, check=False)
    assert host.returncode == -signal.SIGKILL
    for number in range(3):
        folder = JobFolder(jobs.root, f"host-{number}")
        until(lambda folder=folder: folder.state().status == "Completed")
        assert folder.log_tail().count("start") == 1


def test_a_crash_between_intent_and_queue_is_healed_by_the_next_look(jobs: LocalJobs) -> None:
    spec = job()
    jobs.submit(spec)
    ended(jobs, spec.name)
    folder = JobFolder(jobs.root, "healed")
    document = json.loads(json.dumps(JobFolder(jobs.root, spec.name).spec()))
    assert folder.create(document)
    assert not folder.marker.exists()
    assert ended(jobs, "healed").status == "Completed"


def test_a_component_of_another_version_is_rejected(jobs: LocalJobs, tmp_path: Path) -> None:
    copy = tmp_path / "project"
    subprocess.run(["cp", "-r", str(PROJECT), str(copy)], check=True)
    component = copy / "ml_jobs/components/work_like_train/component.yml"
    component.write_text(component.read_text().replace('version: "2"', 'version: "3"'))
    with pytest.raises(JobRejected, match="wants component work_like_train:2"):
        replace(jobs, project=copy).submit(job())


@pytest.mark.long
def test_the_overhead_of_140_jobs_is_small(jobs: LocalJobs, capsys: pytest.CaptureFixture[str]) -> None:
    """140 jobs whose command is `python` with argparse; everything else is the platform's overhead."""
    specs = [job(f"weekly-2017-W45-a1-n{number}") for number in range(140)]
    began, cpu = time.monotonic(), time.process_time()
    for spec in specs:
        jobs.submit(spec)
    submitted, pid = time.monotonic() - began, agent_pid(jobs)
    names = [spec.name for spec in specs]
    until(lambda: all(found.phase.ended for found in jobs.statuses("weekly-2017-W45-a1", names).values()), 120)
    wall, host = time.monotonic() - began, time.process_time() - cpu
    ticks = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    agent = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
    children = (int(ticks[13]) + int(ticks[14])) / os.sysconf("SC_CLK_TCK")
    memory = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    with capsys.disabled():
        print(
            f"\n140 jobs: wall {wall:.1f} s, submit {submitted * 1000 / 140:.1f} ms each; CPU host {host:.2f} s, "
            f"agent {agent:.2f} s ({agent * 1000 / 140:.0f} ms a job), commands {children:.2f} s; "
            f"agent RSS {memory:.0f} MB"
        )
    assert all(found.status == "Completed" for found in jobs.statuses("weekly-2017-W45-a1", names).values())
    assert (agent + host) / 140 < 0.5


@pytest.mark.long
def test_an_agent_killed_again_and_again_loses_and_doubles_nothing(
    jobs: LocalJobs, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL at moments drawn by a seeded generator while 24 jobs go through every stage."""
    draw = random.Random(3)
    specs = [job(f"weekly-2017-W45-a1-k{number:02d}", behave="sleep-0.2") for number in range(24)]
    for spec in specs:
        jobs.submit(spec)
    names = [spec.name for spec in specs]
    kills = 0
    deadline = time.monotonic() + 100
    while not all(found.phase.ended for found in jobs.statuses("weekly-2017-W45-a1", names).values()):
        assert time.monotonic() < deadline
        time.sleep(draw.uniform(0.05, 0.9))
        if kills == 25:
            continue  # enough; a loaded machine hardly starts an agent between two kills
        try:
            os.kill(agent_pid(jobs), signal.SIGKILL)
        except (AssertionError, ProcessLookupError):
            continue
        kills += 1
    ends = jobs.statuses("weekly-2017-W45-a1", names)
    starts = [JobFolder(jobs.root, name).log_tail().count("start ") for name in names]
    with capsys.disabled():
        print(f"\n24 jobs, agent killed {kills} times: started {sum(starts)}, completed {len(ends)}")
    assert kills > 3
    assert {found.status for found in ends.values()} == {"Completed"}
    assert starts == [1] * len(names)
    assert {found.preempted for found in ends.values()} == {0}


def test_a_lake_that_cannot_be_reached_costs_no_job(jobs: LocalJobs) -> None:
    """The first address answers nobody; the job waits in Preparing until an agent with the right one takes over."""
    nowhere = jobs.lake_connection.split("BlobEndpoint=")[0] + "BlobEndpoint=http://127.0.0.1:9/devstoreaccount1;"
    lost = replace(jobs, lake_connection=nowhere)
    spec = job()
    lost.submit(spec)
    until(lambda: status(lost, spec.name).status == "Preparing")
    time.sleep(1.0)
    assert status(lost, spec.name).status == "Preparing"
    end = ended(jobs, spec.name)
    assert (end.status, end.preempted) == ("Completed", 0)
