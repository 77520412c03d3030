"""The state of one Azure ML workspace: jobs that live by a script, registered models; rules as the service has them."""

from __future__ import annotations

import copy
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
TERMINAL = ("Completed", "Failed", "Canceled")
JOB_NAME = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9\-_]{0,254}$")
FREE_TO_EDIT = ("tags", "properties", "displayName", "description", "isArchived")
Life = list[tuple[float, str]]  # (seconds since creation, status from then on)
DEFAULT_LIFE: Life = [(0.0, "Queued"), (0.2, "Running"), (0.6, "Completed")]


class Refused(Exception):
    """An answer that is not 2xx."""

    def __init__(self, status: int, code: str, message: str, inner: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"code": code, "message": message, "details": [], "innererror": {"code": inner}}}


@dataclass
class Job:
    """One job; `puts` counts every request that created or re-created it."""

    name: str
    properties: dict[str, Any]
    created_at: float
    life: Life
    puts: int = 1
    reads: int = 0
    cancelled_at: float | None = None
    was_completed: bool = False


@dataclass
class Workspace:
    """Jobs and models. All methods may be called from any thread."""

    base_url: str = ""
    page_size: int = 250
    stale_seconds: float = 0.0  # a new job is not readable and not listed before
    cancel_seconds: float = 0.1
    filters: tuple[str, ...] = ("properties", "tag")  # query filters that the list honours
    lives: dict[str, Life] = field(default_factory=dict)  # by job name; "" = every other job
    on_completed: Callable[[Job], None] | None = None
    clock: Callable[[], float] = time.monotonic
    wall_offset: float = field(default_factory=lambda: time.time() - time.monotonic())  # wall clock - `clock`
    jobs: dict[str, Job] = field(default_factory=dict)
    models: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lock = threading.RLock()

    # -- jobs ------------------------------------------------------------------------------------------------------

    def status(self, job: Job) -> str:
        """Return the status that the job has now."""
        age = self.clock() - job.created_at
        current = [status for since, status in job.life if since <= age][-1]
        if job.cancelled_at is not None and current not in TERMINAL:
            current = "Canceled" if self.clock() - job.cancelled_at >= self.cancel_seconds else "CancelRequested"
        if current == "Completed" and not job.was_completed:
            job.was_completed = True
            if self.on_completed:
                self.on_completed(job)
        return current

    def put_job(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create a job; the same again is fine, anything else under the name is refused."""
        if not JOB_NAME.match(name):
            raise Refused(400, "UserError", f"Job name {name} is not valid")
        properties = body["properties"]
        if len(properties.get("tags") or {}) > 50:
            raise Refused(400, "UserError", "more than 50 tags")
        with self.lock:
            existing = self.jobs.get(name)
            if existing is None:
                life = self.lives.get(name, self.lives.get("", DEFAULT_LIFE))
                self.jobs[name] = Job(name, copy.deepcopy(properties), self.clock(), life)
            else:
                self._put_again(existing, properties)
            return self.job_document(self.jobs[name])

    def _put_again(self, job: Job, properties: dict[str, Any]) -> None:
        fixed = {key: value for key, value in properties.items() if key not in FREE_TO_EDIT}
        before = {key: value for key, value in job.properties.items() if key not in FREE_TO_EDIT}
        changed = sorted(key for key in fixed.keys() | before.keys() if fixed.get(key) != before.get(key))
        old, new = job.properties.get("properties") or {}, properties.get("properties") or {}
        changed += [f"properties.{key}" for key in old if key in new and new[key] != old[key]]
        if changed:
            raise Refused(
                400,
                "UserError",
                f"A job with this name already exists. If you are trying to create a new job, use a different name. If "
                f"you are trying to update an existing job, the existing job's {changed[0]} cannot be changed. Only "
                "description, tags, displayName, properties, and isArchived can be updated.",
                inner="JobPropertyImmutable",
            )
        job.puts += 1
        job.properties["tags"] = {**(job.properties.get("tags") or {}), **(properties.get("tags") or {})}

    def get_job(self, name: str) -> dict[str, Any]:
        """Return a job, or 404 while it is too young to be readable."""
        with self.lock:
            job = self.jobs.get(name)
            if job is None or self._is_stale(job):
                raise Refused(404, "UserError", f"The specified resource was not found: job {name}", inner="NotFound")
            job.reads += 1
            return self.job_document(job)

    def list_jobs(self, query: dict[str, str]) -> dict[str, Any]:
        """Return a page of jobs, newest first."""
        with self.lock:
            found = [
                job for job in reversed(self.jobs.values()) if not self._is_stale(job) and self._matches(job, query)
            ]
            start = int(query.get("$skip", "0"))
            page: dict[str, Any] = {"value": [self.job_document(job) for job in found[start : start + self.page_size]]}
            if start + self.page_size < len(found):
                rest = "&".join(f"{key}={value}" for key, value in query.items() if key != "$skip")
                page["nextLink"] = f"{self.base_url}{self.path}/jobs?{rest}&$skip={start + self.page_size}"
            return page

    def _matches(self, job: Job, query: dict[str, str]) -> bool:
        tags, properties = job.properties.get("tags") or {}, job.properties.get("properties") or {}
        if "tag" in self.filters and "tag" in query and query["tag"].partition("=")[0] not in tags:
            return False
        for wanted in query["properties"].split(",") if "properties" in self.filters and "properties" in query else []:
            key, _, value = wanted.partition("=")
            if key not in properties or (value and properties[key] != value):
                return False
        return True

    def cancel_job(self, name: str) -> None:
        """Begin to cancel; refuse a job that ended."""
        with self.lock:
            job = self.jobs.get(name)
            if job is None:
                raise Refused(404, "UserError", f"job {name} was not found", inner="NotFound")
            if self.status(job) in TERMINAL:
                raise Refused(400, "UserError", f"job {name} is in a terminal state and cannot be cancelled")
            if job.cancelled_at is None:
                job.cancelled_at = self.clock()

    def run_history(self, names: list[str]) -> dict[str, Any]:
        """Return start and end of jobs, as the run history has them."""
        with self.lock:
            known = {name: {"runMetadata": self._run(self.jobs[name])} for name in names if name in self.jobs}
            return {"successfulResults": known, "failedResults": {}}

    def _run(self, job: Job) -> dict[str, Any]:
        moments = [job.created_at + since for since, status in job.life if status == "Running"][:1]
        if self.status(job) in TERMINAL:
            ends = [job.created_at + since for since, status in job.life if status in TERMINAL]
            moments += [job.cancelled_at + self.cancel_seconds] if job.cancelled_at is not None else ends
        texts = [datetime.fromtimestamp(moment + self.wall_offset, UTC).isoformat() for moment in moments]
        return {"runId": job.name, **dict(zip(("startTimeUtc", "endTimeUtc"), texts, strict=False))}

    def _is_stale(self, job: Job) -> bool:
        return self.clock() - job.created_at < self.stale_seconds

    def job_document(self, job: Job) -> dict[str, Any]:
        """Return the job as the service's JSON."""
        properties = copy.deepcopy(job.properties) | {"status": self.status(job)}
        properties.setdefault(
            "services", {"Studio": {"endpoint": f"https://ml.azure.com/runs/{job.name}", "jobServiceType": "Studio"}}
        )
        return {
            "id": f"{self.path}/jobs/{job.name}",
            "name": job.name,
            "type": "Microsoft.MachineLearningServices/workspaces/jobs",
            "properties": properties,
            "systemData": {"createdAt": "2026-01-05T06:00:00Z", "createdBy": "tests", "createdByType": "Application"},
        }

    # -- models ----------------------------------------------------------------------------------------------------

    def put_model(self, name: str, version: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create a model version or change its tags; its path never changes."""
        properties = body["properties"]
        with self.lock:
            versions = self.models.setdefault(name, {})
            existing = versions.get(version)
            if existing and existing["modelUri"] != properties.get("modelUri"):
                raise Refused(400, "UserError", "Asset paths cannot be updated.")
            versions[version] = {**(existing or {"order": len(versions)}), **copy.deepcopy(properties)}
            return self.model_document(name, version)

    def get_model(self, name: str, version: str) -> dict[str, Any]:
        """Return one version of a model."""
        with self.lock:
            if version not in self.models.get(name, {}):
                raise Refused(404, "UserError", f"model {name}:{version} was not found", inner="NotFound")
            return self.model_document(name, version)

    def model_container(self, name: str) -> dict[str, Any]:
        """Return a model without its versions."""
        with self.lock:
            if name not in self.models:
                raise Refused(404, "UserError", f"model {name} was not found", inner="NotFound")
            latest = list(self.models[name])[-1]
            return {
                "id": f"{self.path}/models/{name}",
                "name": name,
                "properties": {"latestVersion": latest, "nextVersion": "1", "tags": {}, "properties": {}},
            }

    def list_models(self, query: dict[str, str]) -> dict[str, Any]:
        """Return the model containers."""
        with self.lock:
            return self._page([self.model_container(name) for name in self.models], "models", query)

    def list_versions(self, name: str, query: dict[str, str]) -> dict[str, Any]:
        """Return the versions of one model, newest first."""
        with self.lock:
            if name not in self.models:
                raise Refused(404, "UserError", f"model {name} was not found", inner="NotFound")
            versions = [self.model_document(name, version) for version in reversed(self.models[name])]
            return self._page(versions, f"models/{name}/versions", query)

    def model_document(self, name: str, version: str) -> dict[str, Any]:
        """Return a model version as the service's JSON."""
        properties = copy.deepcopy(self.models[name][version])
        order = properties.pop("order")
        properties["flavors"] = properties.get("flavors") or {}
        return {
            "id": f"{self.path}/models/{name}/versions/{version}",
            "name": version,
            "type": "Microsoft.MachineLearningServices/workspaces/models/versions",
            "properties": properties,
            "systemData": {
                "createdAt": f"2026-01-05T06:{order // 60 % 60:02d}:{order % 60:02d}Z",
                "createdByType": "Application",
            },
        }

    def component(self, name: str, version: str) -> dict[str, Any]:
        """Return a registered component; every one has its code in the workspace."""
        spec = {
            "name": name, "version": version, "type": "command", "command": "python -m x", "inputs": {}, "outputs": {},
            "code": f"azureml:{self.path}/codes/{self.code}/versions/1",
            "environment": f"azureml:{self.path}/environments/scoring/versions/1",
        }
        return {
            "id": f"{self.path}/components/{name}/versions/{version}", "name": version,
            "properties": {"componentSpec": spec, "tags": {}, "properties": {}, "isAnonymous": False},
        }

    def _page(self, items: list[dict[str, Any]], path: str, query: dict[str, str]) -> dict[str, Any]:
        start = int(query.get("$skip", "0"))
        page: dict[str, Any] = {"value": items[start : start + self.page_size]}
        if start + self.page_size < len(items):
            version = query.get("api-version", "")
            page["nextLink"] = f"{self.base_url}{self.path}/{path}?$skip={start + self.page_size}&api-version={version}"
        return page

    code = "11111111-2222-3333-4444-555555555555"

    @property
    def path(self) -> str:
        """Resource id of the workspace."""
        return (
            f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"
        )
