"""The jobs port on Azure ML, through its own SDK.

Submit (safe to repeat at any point, whatever answer was lost):
1. GET the name: a job of the same payload is adopted, one of another payload is refused;
2. 404: PUT the pipeline YAML filled with the job's values; the components are registered, so this is one request;
3. "a job with this name already exists": somebody was quicker, or step 1 was answered stale: back to 1.

Look: a few names by GET, more by pages of a list that the service filters by the property `run_id` (and that is
filtered here again), then GET for some that the list did not show. Whatever the number of jobs, a look is a few calls;
a job that it could not ask about has an empty status, and the next look asks about others first.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.azureml_client import AzureMl, tag_values
from adapters.azureml_times import RunTimes
from adapters.jobs_component import load_launch, pipeline_file, step_bindings
from adapters.jobs_payload import PAYLOAD_HASH, check_name, other_payload, payload_hash
from domain.errors import BadRequest, Conflict, Forbidden, JobRejected, NotFound, ShelfcastError, Throttled, Unavailable
from domain.job_states import JobSpec, JobStatus, Phase, phase_of

if TYPE_CHECKING:
    from azure.ai.ml.entities import Job

    from settings import Settings

RUN_ID = "run_id"  # tag for people, property for the list's filter
COMMIT_PROPERTY = "mlflow.source.git.commit"
FEW = 2  # up to here a GET each is cheaper and fresher than a list
CALLS_A_LOOK = 7  # pages and GETs together
ONCE: dict[str, Any] = {"retry_total": 0}  # a look is repeated anyway; quick retries would triple its calls
FAILED_GETS = 2  # in a row: the service is not there


@dataclass(frozen=True)
class AzureMlJobs:
    """Implements domain.ports.Jobs. `project` holds ml_jobs/, `compute` names the workspace's cluster."""

    workspace: AzureMl
    project: Path
    compute: str

    @cached_property
    def _times(self) -> RunTimes:
        return RunTimes(self.workspace)

    def submit(self, spec: JobSpec) -> str:
        """Make sure that the job exists; adopt one of the same payload, raise JobRejected for another."""
        check_name(spec)
        launch = load_launch(self.project, spec)
        wanted = payload_hash(spec, launch.component)
        try:
            if self._adopt(spec, wanted):
                return spec.name
            with self.workspace.errors(f"submitting job {spec.name}", job=spec.name):
                # load_job has just validated the file; doing it again costs a third of the submission's CPU.
                made = self.workspace.client.jobs.create_or_update(
                    self._pipeline_job(spec, wanted), skip_validation=True
                )
            # Step 1 may have been answered stale, and a service may answer a PUT with the job that it has.
            if (shown := _recorded(made.tags, made.properties)) != wanted and made.tags:
                raise other_payload(spec, shown, wanted)
        except (BadRequest, Conflict) as error:
            if self._adopt(spec, wanted):
                return spec.name
            if isinstance(error, Conflict) or "already exists" in error.message:
                raise Unavailable(f"job {spec.name} exists but cannot be read yet", job=spec.name) from error
            raise JobRejected(error.message, **error.fields) from error
        except (Forbidden, NotFound) as error:  # no role; or no such workspace, compute, component or datastore
            raise JobRejected(error.message, **error.fields) from error
        return spec.name

    def _adopt(self, spec: JobSpec, wanted: str) -> bool:
        found = self._get(spec.name)
        if found is None:
            return False
        properties = found.get("properties")
        if not isinstance(properties, Mapping):
            raise Unavailable(f"job {spec.name} is there, but not what it is", job=spec.name)
        recorded = _recorded(properties.get("tags"), properties.get("properties"))
        if recorded != wanted:
            raise other_payload(spec, recorded, wanted)
        return True

    def _pipeline_job(self, spec: JobSpec, payload: str) -> Job:
        from azure.ai.ml import load_job

        overrides: dict[str, Any] = {
            "name": spec.name, "display_name": spec.name, "experiment_name": spec.pipeline,
            "settings.default_compute": f"azureml:{self.compute}",
            "tags": tag_values({PAYLOAD_HASH: payload, RUN_ID: spec.run_id, **spec.tags}),
            **{f"inputs.{name}": _input(value) for name, value in spec.inputs.items()},
            **{f"outputs.{name}": {"type": "uri_folder", "path": uri} for name, uri in spec.outputs.items()},
            **step_bindings(self.project, spec),
        }
        path = pipeline_file(self.project, spec)
        job = load_job(path, params_override=[{key: value} for key, value in overrides.items()])
        # With one git property present the SDK adds none of its own; those of whatever folder the app happens to run
        # in would make the same job another one after the next commit.
        ours = {RUN_ID: spec.run_id, PAYLOAD_HASH: payload, COMMIT_PROPERTY: spec.code_version or "unversioned"}
        job.properties = {**(job.properties or {}), **ours}
        return job

    def statuses(self, run_id: str, names: Sequence[str]) -> dict[str, JobStatus]:
        """Return the status of each named job that the workspace shows; a young job may be missing for a while.

        Raise Throttled or Unavailable if the list cannot be had: whatever the reason, not being able to look says
        nothing about the jobs. A job that was not asked about this time has an empty status.
        """
        try:
            return self._times.completed(self._look(run_id, names))
        except Unavailable:
            raise
        except ShelfcastError as error:
            raise Unavailable(error.message, **error.fields) from error

    def _look(self, run_id: str, names: Sequence[str]) -> dict[str, JobStatus]:
        wanted = set(names)
        found: dict[str, JobStatus] = {}
        calls = CALLS_A_LOOK
        trouble: ShelfcastError | None = None
        if len(wanted) > FEW:
            try:
                calls -= self._list_into(found, wanted, {"properties": f"{RUN_ID}={run_id}"}, calls - FEW)
                if not found:  # a service that reads the filter in another way
                    calls -= self._list_into(found, wanted, {}, calls - FEW)
            except Throttled:
                raise
            except ShelfcastError as error:  # a list that is down or forbidden does not hide the jobs
                calls, trouble = calls - 1, error
        missing = sorted(wanted - found.keys())
        absent: set[str] = set()
        failed = 0
        for name in random.sample(missing, min(len(missing), calls)):
            try:
                document = self._get(name, **ONCE)
            except Throttled:
                if not found:
                    raise
                break
            except ShelfcastError as error:
                failed, trouble = failed + 1, error
                if failed == FAILED_GETS:
                    break
                continue
            failed = 0
            if document is None:
                absent.add(name)
            else:
                found[name] = _status(name, document)
        if trouble and not found and not absent:
            raise trouble
        return found | {name: JobStatus(name, "") for name in missing if name not in found and name not in absent}

    def _list_into(
        self, found: dict[str, JobStatus], wanted: set[str], query: Mapping[str, str], most: int
    ) -> int:
        """Read pages, `most` at most, until nearly all wanted jobs are found; return how many were read."""
        read = 0
        with suppress(BadRequest), self.workspace.errors("listing jobs"):
            pages = self._rest.list(*self.workspace.scope, list_view_type="All", **query, **ONCE).by_page()
            for _, page in zip(range(most), pages, strict=False):
                read += 1
                for document in _mappings(page):
                    name = str(document.get("name"))
                    if name in wanted:
                        found[name] = _status(name, document)
                if len(found) >= len(wanted) - FEW:
                    break
        return max(read, 1)

    def _get(self, name: str, **options: Any) -> Mapping[str, Any] | None:
        """Return a job, or None if it is not known (yet); a refusal to show it decides nothing about it."""
        try:
            with self.workspace.errors(f"reading job {name}", job=name):
                document = self._rest.get(*self.workspace.scope, name, **options)
        except NotFound:
            return None
        except (BadRequest, Conflict) as error:
            raise Unavailable(error.message, **error.fields) from error
        if not isinstance(document, Mapping):
            raise Unavailable(f"reading job {name}: the answer is no job", job=name)
        return document

    @property
    def _rest(self) -> Any:
        """The SDK's REST layer: its own objects cost 10 ms of CPU a job to build, and a poll needs one word of each."""
        return self.workspace.client.jobs.service_client_01_2024_preview_arm.jobs

    def cancel(self, name: str) -> None:
        """Ask for cancellation and return at once; an ended or unknown job is fine."""
        for last in (False, True):
            try:
                with self.workspace.errors(f"cancelling job {name}", job=name):
                    self.workspace.client.jobs.begin_cancel(name, polling=False)
                return
            except NotFound:
                return
            except Throttled:
                raise
            except Unavailable as error:
                if error.fields.get("status", 500) < 300:  # taken, in a way that the SDK does not know
                    return
                if last:  # the SDK does not repeat a POST whose connection broke; asking twice is harmless
                    raise
            except (BadRequest, Conflict):
                document = self._get(name)
                if document is None or phase_of(_status(name, document).status).ended:
                    return
                raise


def connect_jobs(settings: Settings, project: Path) -> AzureMlJobs:
    """Return the platform that the settings name; nothing is sent yet."""
    workspace = AzureMl(settings.aml_subscription_id, settings.aml_resource_group, settings.aml_workspace)
    return AzureMlJobs(workspace, project, settings.aml_compute)


def _input(value: str | int | float) -> Any:
    if isinstance(value, str) and value.startswith("azureml:"):
        return {"type": "uri_folder", "path": value}
    return value


def _status(name: str, document: Mapping[str, Any]) -> JobStatus:
    """Read what a look needs and nothing else; anything may be missing or odd."""
    properties = _mapping(document.get("properties"))
    facts = _mapping(properties.get("properties"))
    status = str(getattr(properties.get("status"), "value", properties.get("status")) or "Unknown")
    error = ""
    if phase_of(status) is Phase.FAILED:
        studio = _mapping(_mapping(properties.get("services")).get("Studio")).get("endpoint", "")
        error = "Azure ML reports that the job failed" + (f"; its logs are at {studio}" if studio else "")
    started, ended = (str(facts.get(key) or "") for key in ("StartTimeUtc", "EndTimeUtc"))
    return JobStatus(name, status, started, ended, error)


def _recorded(tags: Any, properties: Any) -> str:
    """Return the payload hash that a job carries, in its tags or, where a service shows none, in its properties."""
    return str(_mapping(tags).get(PAYLOAD_HASH) or _mapping(properties).get(PAYLOAD_HASH) or "")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(page: Iterable[Any]) -> Iterable[Mapping[str, Any]]:
    return (item for item in page if isinstance(item, Mapping))
