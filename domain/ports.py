"""Ports: what the rules need from the world. Adapters implement them; bootstrap joins the two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, Protocol

from domain.job_states import JobSpec, JobStatus
from domain.rollout import Probe


@dataclass(frozen=True)
class BlobInfo:
    """One blob as a listing shows it."""

    path: str
    etag: str
    size: int
    last_modified: datetime
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BlobContent:
    """A blob's bytes together with the ETag that they had."""

    data: bytes
    etag: str


class BlobWriter(Protocol):
    """Streams one blob by blocks; nothing is visible before `commit`, and an abandoned writer leaves nothing."""

    def write(self, data: bytes) -> int:
        """Take the next bytes; return how many."""

    def commit(self, *, metadata: Mapping[str, str] | None = None, if_none_match: bool = False) -> str:
        """Make the blob visible at once; return its ETag. Raise BlobConflict if it must be new and is not."""


class BlobReader(Protocol):
    """File-like reader pinned to one ETag: `read(n)` returns at most n bytes, b"" at the end."""

    info: BlobInfo

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes; raise BlobConflict if the blob was replaced meanwhile."""

    def close(self) -> None:
        """Let go of the connection."""


class Lake(Protocol):
    """The data lake. Paths are relative to a container (zone). All errors are domain errors."""

    def read(self, container: str, path: str) -> BlobContent:
        """Return the whole blob; raise BlobNotFound."""

    def read_json(self, container: str, path: str) -> tuple[Any, str]:
        """Return (document, etag); raise BlobNotFound, or IntegrityError if it is not JSON."""

    def write(
        self, container: str, path: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None,
        metadata: Mapping[str, str] | None = None, content_type: str | None = None,
    ) -> str:
        """Write the whole blob and return its ETag; raise BlobConflict when a condition fails."""

    def write_json(
        self, container: str, path: str, document: Any, *, if_none_match: bool = False, if_match: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Write canonical JSON (sorted keys, final newline); conditions as in write."""

    def list(self, container: str, prefix: str = "") -> Iterator[BlobInfo]:
        """Yield the blobs below the prefix in path order, with metadata."""

    def folders(self, container: str, prefix: str = "") -> Iterator[str]:
        """Yield the names of the folders directly below the prefix (a path with its slash), not what is in them."""

    def read_range(self, container: str, path: str, offset: int, length: int) -> bytes:
        """Return at most `length` bytes from `offset`, fewer at the end, none beyond it; raise BlobNotFound."""

    def info(self, container: str, path: str) -> BlobInfo | None:
        """Return the blob's properties, or None."""

    def open_reader(self, container: str, path: str, *, etag: str | None = None) -> BlobReader:
        """Open a streaming reader on one version of the blob; raise BlobNotFound or BlobConflict."""

    def open_writer(
        self, container: str, path: str, *, content_type: str | None = None
    ) -> AbstractContextManager[BlobWriter]:
        """Open a streaming writer; leaving the block without `commit` leaves nothing behind."""

    def copy(self, container: str, path: str, to_container: str, to_path: str, *, if_none_match: bool = False) -> str:
        """Copy one blob inside the lake and return the new ETag; raise BlobConflict when it must be new and is not."""

    def append(self, container: str, path: str, data: bytes, *, if_length: int) -> int:
        """Append to an append blob only if it is `if_length` bytes long (0 creates it); return the new length."""

    def delete(self, container: str, path: str) -> None:
        """Delete the blob; a missing one is fine."""

    def download(self, container: str, path: str, to: BinaryIO) -> None:
        """Write the blob's bytes to an open file."""

    def ensure_containers(self, names: Sequence[str]) -> None:
        """Create the containers that are missing."""


class Jobs(Protocol):
    """A machine-learning platform that runs jobs by name."""

    def submit(self, spec: JobSpec) -> str:
        """Make sure that the job of this name exists, and return its name; safe to repeat.

        An existing job with the same payload is adopted. Raise JobRejected if the name holds another payload or the
        platform refuses the job for good; Throttled or Unavailable if only time helps.
        """

    def statuses(self, run_id: str, names: Sequence[str]) -> dict[str, JobStatus]:
        """Return the status of each named job of the run that the platform knows, in as few calls as it offers.

        A job that it does not know is left out; one that could not be asked about this time has an empty status.
        """

    def cancel(self, name: str) -> None:
        """Ask for cancellation and return at once; an ended or unknown job is fine."""


@dataclass(frozen=True)
class ModelVersion:
    """One registered model. `stage` is one of candidate, production, retired, refused."""

    name: str
    version: str
    path: str  # datastore URI of the model's folder
    stage: str
    tags: dict[str, str]


class Registry(Protocol):
    """Model registry: versions are immutable, stage and tags are not."""

    def register(self, name: str, version: str, path: str, tags: Mapping[str, str]) -> ModelVersion:
        """Register as candidate; the same name, version and path again returns what is there."""

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """Return all versions of a model, newest registration first; empty if unknown."""

    def models(self) -> Sequence[ModelVersion]:
        """Return every version of every model, in as few calls as the registry offers."""

    def set_stage(self, name: str, version: str, stage: str, tags: Mapping[str, str] | None = None) -> ModelVersion:
        """Move a version to a stage and merge tags; raise NotFound for an unknown version."""


class OnlineEndpoint(Protocol):
    """One online endpoint with several deployments behind it."""

    def set_traffic(self, live: Mapping[str, int], mirror: Mapping[str, int]) -> bool:
        """Bring the shares (per cent by deployment) to this; return whether they are in force. Safe to repeat.

        Raise BadRequest for a deployment that the endpoint does not have, Unavailable if only time helps.
        """

    def ask(self, body: Mapping[str, Any], deployment: str = "") -> Probe:
        """Send one request to the named deployment, or to whichever is due; a failure is in the answer's status."""


class BatchEndpoint(Protocol):
    """One batch endpoint: a stable name, a deployment a set of models, one of them the default."""

    def default(self) -> str:
        """Return the name of the default deployment, empty if there is none."""

    def deploy(self, deployment: str, models: str) -> bool:
        """Make sure that there is a deployment of this name with the models of a folder; return whether it is ready.

        Safe to repeat. Raise Conflict if the name has other models or could not be made ready.
        """

    def invoke(self, deployment: str, data: str, out: str) -> str:
        """Start scoring a folder of feature rows by the named deployment and return the name of the job.

        `data` and `out` are datastore URIs; the rows are in `out`/forecasts.csv when the job has completed. Raise
        BadRequest or NotFound for a deployment that is not there.
        """

    def set_default(self, deployment: str) -> bool:
        """Make a deployment the default; return whether it is in force. Safe to repeat.

        Raise BadRequest for a deployment that the endpoint does not have.
        """


class Results(Protocol):
    """Tables for Power BI, the order system and the dashboard. Every write is idempotent by run."""

    def write_run(self, document: Mapping[str, Any]) -> None:
        """Insert or replace a run's row from its ledger document."""

    def write_metrics(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace the run's model metrics (one row per segment and member)."""

    def write_forecasts(self, run_id: str, sales_week: str, rows: Iterator[Mapping[str, Any]]) -> int:
        """Replace the run's forecasts in one transaction and return how many there are."""

    def write_quality(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert or replace quality rows, one per source, week and data version."""

    def write_drift(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace the run's drift measurements."""

    def write_realised(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert or replace realised accuracy, one row per forecast run, week and segment."""

    def set_current(self, sales_week: str, run_id: str) -> None:
        """Make a run the one that the `current` views show for a week."""


class Telemetry(Protocol):
    """Events for Application Insights. Telemetry never decides anything and never raises."""

    def event(self, name: str, dimensions: Mapping[str, Any], measures: Mapping[str, float] | None = None) -> None:
        """Emit one business event of the table in adapters/telemetry_events.py."""

    def exception(self, error: BaseException, dimensions: Mapping[str, Any]) -> None:
        """Report an error with its stack."""

    def flush(self, seconds: float = 5.0) -> bool:
        """Wait until everything was handed over; False if the time ran out."""


class Clock(Protocol):
    """The time, as a port: rules and tests decide what now is."""

    def now(self) -> datetime:
        """Return the current time, aware, UTC."""
