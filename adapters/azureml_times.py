"""When Azure ML's jobs really began and ended: its run history, asked once about all jobs that a look found ended.

The job documents of the management API do not promise times. Nobody's failure to answer here is anybody's problem:
then a job's times are those of the looks that saw it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from adapters.azureml_client import AzureMl, read_document
from domain.errors import NotFound, ShelfcastError, Throttled, Unavailable
from domain.job_states import JobStatus

TRIES = 2
QUIET_SECONDS = 600.0  # a workspace that has no history for us is not asked at every look


@dataclass
class RunTimes:
    """Adds start and end to statuses. Safe to share between threads."""

    workspace: AzureMl
    _quiet_until: float = field(default=0.0, init=False)

    def completed(self, statuses: Mapping[str, JobStatus]) -> dict[str, JobStatus]:
        """Return the statuses, those of ended jobs with their times as far as the service tells them."""
        lacking = [
            name for name, status in statuses.items()
            if status.status and status.phase.ended and not (status.started_at and status.ended_at)
        ]
        if not lacking or time.monotonic() < self._quiet_until:
            return dict(statuses)
        told = self._ask(lacking)
        return {name: _with_times(status, told.get(name)) for name, status in statuses.items()}

    def _ask(self, names: list[str]) -> Mapping[str, Any]:
        wish = {"requests": {name: {"runId": name, "selectRunMetadata": True} for name in names}}
        for _ in range(TRIES):
            try:
                with self.workspace.errors("reading the run history"):
                    place = self.workspace.subscription_id, *self.workspace.scope
                    answer = self._history().batch_get_run_data(*place, wish, retry_total=0)
                    return dict(answer.get("successfulResults") or {})
            except Throttled:
                break
            except Unavailable:  # the SDK does not repeat a POST
                continue
            except ShelfcastError:
                self._quiet_until = time.monotonic() + QUIET_SECONDS
                break
        return {}

    def _history(self) -> Any:
        """The SDK's REST layer of the run history, whose address the workspace's discovery document has.

        Left alone, the SDK sleeps for eight seconds and more over a document that it cannot have.
        """
        jobs: Any = self.workspace.client.jobs
        if not jobs._api_base_url:
            url = self.workspace.client.workspaces.get(self.workspace.workspace).discovery_url
            services = read_document(url) if url else None
            if not isinstance(services, Mapping) or not services.get("api"):
                raise NotFound(f"workspace {self.workspace.workspace} names no run history")
            jobs._api_base_url = str(services["api"])
        return jobs._runs_operations._operation


def _with_times(status: JobStatus, told: Any) -> JobStatus:
    facts = told.get("runMetadata") if isinstance(told, Mapping) else None
    if not isinstance(facts, Mapping) or not (facts.get("startTimeUtc") and facts.get("endTimeUtc")):
        return status
    return replace(status, started_at=str(facts["startTimeUtc"]), ended_at=str(facts["endTimeUtc"]))
