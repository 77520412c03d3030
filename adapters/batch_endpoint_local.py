"""The batch endpoint of one machine: deployments are notes in the lake, an invocation is a job of the local platform.

`models/endpoints/NAME/DEPLOYMENT.json` says which folder of models a deployment has, `models/endpoints/NAME.json` which
one is the default. The job runs the deployment's own scoring script (ml_jobs/endpoints/batch/driver.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from adapters.jobs_component import Launch
from adapters.jobs_local import LocalJobs
from domain import lake_paths
from domain.errors import BadRequest, BlobConflict, BlobNotFound, Conflict
from domain.job_states import JobSpec
from domain.ports import Lake

COMMAND = (
    "python -m ml_jobs.endpoints.batch.driver --models ${{inputs.models}} --data ${{inputs.data}} "
    "--out ${{outputs.scores}}"
)


@dataclass(frozen=True)
class LocalBatchEndpoint:
    """Implements domain.ports.BatchEndpoint."""

    jobs: LocalJobs
    lake: Lake
    name: str

    def default(self) -> str:
        """Return the name of the default deployment, empty if there is none."""
        return str((self._read(f"endpoints/{self.name}.json") or {}).get("deployment", ""))

    def deploy(self, deployment: str, models: str) -> bool:
        """Note the deployment; it is ready at once."""
        path = self._path(deployment)
        try:
            self.lake.write_json(lake_paths.MODELS, path, {"models": models}, if_none_match=True)
        except BlobConflict:
            known = self._read(path) or {}
            if known.get("models") != models:
                raise Conflict(f"deployment {deployment} has the models of {known.get('models')}",
                               deployment=deployment, value=models, remedy="use another name") from None
        return True

    def invoke(self, deployment: str, data: str, out: str) -> str:
        """Start the job; the same call again returns the same job."""
        models = self._models(deployment)
        digest = hashlib.sha256(f"{self.name}|{deployment}|{data}|{out}".encode()).hexdigest()[:16]
        folders, outputs = {"models": models, "data": data}, {"scores": out}
        spec = JobSpec(f"batch-{deployment}-{digest}", "batch", "", "score", deployment, {**folders}, outputs,
                       {"endpoint": self.name})
        launch = Launch(f"deployment:{deployment}", COMMAND, str(self.jobs.project), {}, folders, outputs)
        return self.jobs.start(spec, launch)

    def set_default(self, deployment: str) -> bool:
        """Make a deployment the default; it is in force at once."""
        self._models(deployment)
        self.lake.write_json(lake_paths.MODELS, f"endpoints/{self.name}.json", {"deployment": deployment})
        return True

    def _models(self, deployment: str) -> str:
        known = self._read(self._path(deployment))
        if known is None:
            raise BadRequest(f"endpoint {self.name} has no deployment {deployment}", field="deployment",
                             value=deployment, remedy="deploy it first")
        return str(known["models"])

    def _path(self, deployment: str) -> str:
        return f"endpoints/{self.name}/{deployment}.json"

    def _read(self, path: str) -> dict[str, Any] | None:
        try:
            document: dict[str, Any] = self.lake.read_json(lake_paths.MODELS, path)[0]
        except BlobNotFound:
            return None
        return document
