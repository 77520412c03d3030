"""What a job's status means for us: one table for Azure ML and for the local platform.

Status words: azure.ai.ml JobStatus. Only Completed, Failed and Canceled end a job; every other word, also one
never seen before, means that it is still going, until its deadline.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Phase(StrEnum):
    """Our view of a job."""

    PLANNED = "planned"  # intent is in the ledger, nothing was submitted yet
    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self in (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED)


_PHASES = {
    "notstarted": Phase.WAITING,
    "queued": Phase.WAITING,
    "starting": Phase.WAITING,
    "provisioning": Phase.WAITING,
    "preparing": Phase.WAITING,
    "running": Phase.RUNNING,
    "finalizing": Phase.RUNNING,
    "cancelrequested": Phase.RUNNING,
    "notresponding": Phase.RUNNING,
    "paused": Phase.RUNNING,
    "unknown": Phase.RUNNING,
    "completed": Phase.SUCCEEDED,
    "failed": Phase.FAILED,
    "canceled": Phase.CANCELLED,
    "cancelled": Phase.CANCELLED,
}


def phase_of(status: str) -> Phase:
    """Map a status word to its phase; a word that nobody knows counts as running."""
    return _PHASES.get(status.lower(), Phase.RUNNING)


_TELL_NOTHING = frozenset({"notresponding", "paused", "unknown"})


def tells_nothing(status: str) -> bool:
    """Whether the word leaves open what the job does: it may still queue, run on, or have ended unseen."""
    return status.lower() in _TELL_NOTHING or not is_known(status)


def is_known(status: str) -> bool:
    """Whether the status word is in the table; an unknown one is reported, never fatal."""
    return status.lower() in _PHASES


@dataclass(frozen=True)
class JobSpec:
    """What to run, under which name. The same name is the same job, for ever.

    `inputs` and `outputs` that are folders are datastore URIs (`azureml://datastores/CONTAINER/paths/PREFIX/`).
    """

    name: str
    pipeline: str  # pretrain | train | score: a file in ml_jobs/pipelines
    run_id: str
    kind: str  # train | score
    segment: str
    inputs: dict[str, str | int | float]
    outputs: dict[str, str]
    tags: dict[str, str]
    code_version: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name, "pipeline": self.pipeline, "run_id": self.run_id, "kind": self.kind,
            "segment": self.segment, "inputs": self.inputs, "outputs": self.outputs, "tags": self.tags,
            "code_version": self.code_version,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> JobSpec:
        """Read the JSON form."""
        return cls(**data)


@dataclass(frozen=True)
class JobStatus:
    """One look at a job. Times are ISO 8601 UTC text, empty while unknown."""

    name: str
    status: str  # the platform's own word; empty if it was not asked about this job
    started_at: str = ""
    ended_at: str = ""
    error: str = ""
    preempted: int = 0  # how often a low-priority node was taken away

    @property
    def phase(self) -> Phase:
        """Our view of the status word."""
        return phase_of(self.status)
