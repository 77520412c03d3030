"""Two machine-learning platforms that tests can tell what their jobs shall do."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from adapters.azureml_client import AzureMl
from adapters.jobs_azureml import AzureMlJobs
from adapters.jobs_local import LocalJobs
from adapters.jobs_local_folders import JobFolder
from domain.errors import Unavailable
from domain.job_states import JobSpec, JobStatus
from domain.ports import Jobs
from tests.control_plane.server import ControlPlane

PROJECT = Path(__file__).parent / "job_project"
RUN = "weekly-2017-W45-a1"


def job(name: str = f"{RUN}-r01-large-fast", behave: str = "work", **inputs: str | int) -> JobSpec:
    return JobSpec(
        name=name,
        pipeline="train",
        run_id=RUN,
        kind="train",
        segment="r01-large-fast",
        inputs={
            "data": "azureml://datastores/curated/paths/2017-W45/v1/",
            "cutoff": "2017-W44",
            "behave": behave,
            **inputs,
        },
        outputs={"models": f"azureml://datastores/models/paths/{name}/"},
        tags={"segment": "r01-large-fast", "correlation_id": "c-1"},
        code_version="abc123",
    )


class Platform(Protocol):
    jobs: Jobs

    def expect(self, spec: JobSpec) -> JobSpec:
        """Make the platform ready for a job that will do what its input `behave` says."""

    def times_made(self, name: str) -> int:
        """How many jobs ever came to life under the name."""


class LocalPlatform:
    def __init__(self, root: Path, connection: str) -> None:
        self.jobs = LocalJobs(
            root=root,
            lake_connection=connection,
            project=PROJECT,
            python=sys.executable,
            max_parallel=4,
            idle_seconds=5,
        )

    def expect(self, spec: JobSpec) -> JobSpec:
        return spec

    def times_made(self, name: str) -> int:
        return JobFolder(self.jobs.root, name[:255]).log_tail().count("start ")


class AzurePlatform:
    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        settings = plane.environment
        workspace = AzureMl(settings["AML_SUBSCRIPTION_ID"], settings["AML_RESOURCE_GROUP"], settings["AML_WORKSPACE"])
        self.jobs = AzureMlJobs(workspace, PROJECT, settings["AML_COMPUTE"])

    def expect(self, spec: JobSpec) -> JobSpec:
        kind, _, seconds = str(spec.inputs["behave"]).partition("-")
        lives = {
            "work": [(0.0, "Queued"), (0.1, "Running"), (0.2, "Completed")],
            "fail": [(0.0, "Queued"), (0.1, "Running"), (0.2, "Failed")],
            "sleep": [(0.0, "Running"), (float(seconds or 0), "Completed")],
        }
        self.plane.workspace.lives[spec.name] = lives[kind]
        return spec

    def times_made(self, name: str) -> int:
        return int(name in self.plane.workspace.jobs)


def until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.03)


def ended(jobs: Jobs, names: Iterable[str], seconds: float = 120.0) -> dict[str, JobStatus]:
    wanted = list(names)
    found: dict[str, JobStatus] = {}

    def all_ended() -> bool:
        found.update(jobs.statuses(RUN, wanted))
        return len(found) == len(wanted) and all(status.phase.ended for status in found.values())

    until(all_ended, seconds)
    return found


def submit_until_taken(platform: AzurePlatform, name: str = f"{RUN}-r01-large-fast", tries: int = 40) -> int:
    """What a durable retry does; return how many tries it took."""
    for number in range(1, tries + 1):
        try:
            platform.jobs.submit(job(name))
        except Unavailable:
            continue
        return number
    raise AssertionError(f"{name} was not taken in {tries} tries")
