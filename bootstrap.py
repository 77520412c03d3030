"""The only place where adapters meet the code that needs them."""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domain.errors import BadRequest, BadSetting
from domain.lake_paths import CONTAINERS
from domain.ports import BatchEndpoint, Clock, Jobs, Lake, OnlineEndpoint, Registry, Results, Telemetry
from domain.scenario import Scenario
from settings import Settings

if TYPE_CHECKING:
    from adapters.jobs_local import LocalJobs

APP_FOLDER = Path(__file__).resolve().parent


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the current time, aware, UTC."""
        return datetime.now(UTC)


@dataclass(frozen=True)
class Services:
    """What a function body is handed. Each adapter is built on first use and kept for the process."""

    settings: Settings
    clock: Clock

    @cached_property
    def scenario(self) -> Scenario:
        """The business scenario of SCENARIO_FILE."""
        path = APP_FOLDER / self.settings.scenario_file
        try:
            return Scenario.from_dict(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError) as error:
            raise BadSetting(f"SCENARIO_FILE={self.settings.scenario_file!r} cannot be read: {error}") from error

    @cached_property
    def lake(self) -> Lake:
        """The data lake, with its zones in place."""
        from adapters.lake import connect

        lake = connect(self.settings.lake)
        lake.ensure_containers(CONTAINERS)
        return lake

    @cached_property
    def jobs(self) -> Jobs:
        """The machine-learning platform that ML_PLATFORM names."""
        if self.settings.ml_platform == "azureml":
            from adapters.jobs_azureml import connect_jobs

            return connect_jobs(self.settings, APP_FOLDER)
        return self._local_jobs

    @cached_property
    def _local_jobs(self) -> LocalJobs:
        from adapters.jobs_local import LocalJobs

        return LocalJobs(
            root=self.data_dir / "jobs", lake_connection=self.settings.lake, project=APP_FOLDER, python=sys.executable,
            max_parallel=max(1, os.cpu_count() or 1),
        )

    @cached_property
    def registry(self) -> Registry:
        """The model registry of the same platform."""
        if self.settings.ml_platform == "azureml":
            from adapters.registry_azureml import connect_registry

            return connect_registry(self.settings)
        from adapters.registry_mlflow import MlflowRegistry

        return MlflowRegistry(f"sqlite:///{self.data_dir / 'registry.sqlite'}")

    @cached_property
    def online_endpoint(self) -> OnlineEndpoint:
        """The online endpoint of the same platform: a router's address, or the name of a managed endpoint."""
        if not self.settings.online_endpoint:
            raise BadRequest("this app has no online endpoint: ONLINE_ENDPOINT is empty", field="ONLINE_ENDPOINT",
                             remedy="set a router's URL, or with ML_PLATFORM=azureml the endpoint's name")
        if self.settings.ml_platform == "azureml":
            from adapters.azureml_client import AzureMl
            from adapters.endpoint_azureml import AzureMlEndpoint

            found = self.settings
            workspace = AzureMl(found.aml_subscription_id, found.aml_resource_group, found.aml_workspace)
            return AzureMlEndpoint(workspace, found.online_endpoint)
        from adapters.endpoint_router import RouterEndpoint

        return RouterEndpoint(self.settings.online_endpoint)

    @cached_property
    def batch_endpoint(self) -> BatchEndpoint:
        """The batch endpoint of the same platform."""
        found = self.settings
        if found.ml_platform == "azureml":
            from adapters.azureml_client import AzureMl
            from adapters.batch_endpoint_azureml import AzureMlBatchEndpoint

            workspace = AzureMl(found.aml_subscription_id, found.aml_resource_group, found.aml_workspace)
            return AzureMlBatchEndpoint(workspace, found.batch_endpoint, APP_FOLDER, found.aml_compute)
        from adapters.batch_endpoint_local import LocalBatchEndpoint

        return LocalBatchEndpoint(self._local_jobs, self.lake, found.batch_endpoint)

    @cached_property
    def results(self) -> Results:
        """The result tables for Power BI and the order system."""
        from adapters.results import open_results

        return open_results(self.settings.results_url or f"sqlite:///{self.data_dir / 'results.sqlite'}")

    @cached_property
    def telemetry(self) -> Telemetry:
        """Business events for Application Insights."""
        from adapters.telemetry import open_telemetry

        return open_telemetry(self.settings)

    def audit(self, actor: str, action: str, subject: str, details: dict[str, Any]) -> None:
        """Write what a person did into the audit trail."""
        from orchestrators.audit import audit_operator

        audit_operator(self, actor, action, subject, details)

    def waits(self, run_id: str, doing: str, why: str) -> None:
        """Say in a run's document what it waits for."""
        from orchestrators.waiting import note_waiting

        note_waiting(self, run_id, doing, why)

    @property
    def data_dir(self) -> Path:
        """Folder of the local platform; made when first asked for."""
        folder = (APP_FOLDER / self.settings.data_dir).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        return folder


_lock = threading.RLock()
_services: Services | None = None


def services() -> Services:
    """Return the process's services; raise BadSetting naming every unusable setting."""
    global _services  # noqa: PLW0603 (one composition root a process)
    with _lock:
        if _services is None:
            _services = Services(Settings.from_env(os.environ), SystemClock())
        return _services
