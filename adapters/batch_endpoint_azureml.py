"""A batch endpoint of Azure ML: deployments from ml_jobs/endpoints/batch/deployment.yml, one for each set of models.

Nothing is uploaded: the models are registered from the lake, and the script is in the code that a registered component
brought. An invocation is posted here and not by the SDK, whose invoke keeps the deployment's header for later calls and
gives every call a new repeatability id; ours is made of the call, so a lost answer does not make a second job.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.azure_errors import from_status
from adapters.azureml_client import AzureMl, is_settled, state_word
from adapters.endpoint_probe import DEPLOYMENT_HEADER, post
from domain import lake_paths
from domain.batch_rollout import SCORES
from domain.errors import BadRequest, Conflict, NotFound, Unavailable

if TYPE_CHECKING:
    from azure.ai.ml.entities import BatchDeployment, BatchEndpoint

MODELS = "shelfcast-models"  # one registered model is a folder of model folders
SCRIPT = "ml_jobs/endpoints/batch/score.py"
CODE_OF = "score"  # the component whose code the scoring script is in
REPEAT_HEADER = "repeatability_request-id"  # as the SDK spells it


@dataclass(frozen=True)
class AzureMlBatchEndpoint:
    """Implements domain.ports.BatchEndpoint. `project` holds ml_jobs/, `compute` names the workspace's cluster."""

    workspace: AzureMl
    name: str
    project: Path
    compute: str

    def default(self) -> str:
        """Return the name of the default deployment, empty if there is none."""
        return _default(self._endpoint())

    def deploy(self, deployment: str, models: str) -> bool:
        """Create the deployment unless it is there or on its way; return whether it is ready."""
        found = self._deployment(deployment)
        if found is None:
            try:
                self._create(deployment, models)
            except Conflict as error:  # it is being created after all: an answer was lost, or somebody was quicker
                raise Unavailable(error.message, **error.fields) from error
            return False
        with self.workspace.errors(f"reading the model of {deployment}", deployment=deployment):
            known = str(self.workspace.client.models.get(MODELS, version=deployment).path)
        if _place(known) != _place(models):
            raise Conflict(f"deployment {deployment} has the models of {known}", deployment=deployment, value=models,
                           remedy="use another name")
        state = state_word(found.provisioning_state)
        if state in ("failed", "canceled"):
            raise Conflict(f"deployment {deployment} could not be made ready ({state})", deployment=deployment,
                           remedy="see its logs in the studio, delete it, and ask again")
        return state == "succeeded"

    def invoke(self, deployment: str, data: str, out: str) -> str:
        """Start the job and return the name that the service gave it."""
        if self._deployment(deployment) is None:
            raise BadRequest(f"endpoint {self.name} has no deployment {deployment}", field="deployment",
                             value=deployment, remedy="deploy it first")
        body = {"properties": {
            "inputData": {"data": {"jobInputType": "UriFolder", "uri": self._full(data)}},
            "outputData": {"score": {"jobOutputType": "UriFile", "uri": self._full(out) + SCORES}},
        }}
        repeat_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.name}/{deployment}/{data}/{out}"))
        token = self.workspace.token()
        headers = {"Authorization": f"Bearer {token}", DEPLOYMENT_HEADER: deployment, REPEAT_HEADER: repeat_id}
        doing = f"invoking {self.name}/{deployment}"
        try:
            status, answered, text = post(str(self._endpoint().scoring_uri), body, headers)
            if status >= 300:
                raise from_status(status, answered, f"{doing}: {text[:300].decode(errors='replace')}")
            return str(json.loads(text)["name"])
        except (OSError, ValueError, KeyError) as error:
            raise Unavailable(f"{doing}: {type(error).__name__}: {error}") from error

    def set_default(self, deployment: str) -> bool:
        """Start the change unless it is under way or done; return whether it is in force."""
        endpoint = self._endpoint()
        if not is_settled(endpoint.provisioning_state):
            return False
        if _default(endpoint) == deployment:
            return True
        if self._deployment(deployment) is None:
            raise BadRequest(f"endpoint {self.name} has no deployment {deployment}", field="deployment",
                             value=deployment, remedy="deploy it first")
        endpoint.defaults = {"deployment_name": deployment}
        try:
            with self.workspace.errors(f"setting the default of {self.name}", endpoint=self.name):
                self.workspace.client.batch_endpoints.begin_create_or_update(endpoint)
        except Conflict:  # another change of the endpoint is under way; it ends
            return False
        return False

    def _create(self, deployment: str, models: str) -> None:
        with self.workspace.errors(f"deploying {deployment} to {self.name}", deployment=deployment):
            from azure.ai.ml import load_batch_deployment
            from azure.ai.ml.entities import CodeConfiguration, Model

            client = self.workspace.client
            client.models.create_or_update(Model(name=MODELS, version=deployment, path=models, type="custom_model"))
            wanted = load_batch_deployment(
                self.project / "ml_jobs/endpoints/batch/deployment.yml",
                params_override=[{"name": deployment}, {"endpoint_name": self.name},
                                 {"model": f"azureml:{MODELS}:{deployment}"}, {"compute": f"azureml:{self.compute}"}],
            )
            code = client.components.get(CODE_OF, self._component_version()).code
            wanted.code_configuration = CodeConfiguration(code, SCRIPT)
            client.batch_deployments.begin_create_or_update(wanted)

    def _component_version(self) -> str:
        import yaml

        pipeline = yaml.safe_load((self.project / f"ml_jobs/pipelines/{CODE_OF}.yml").read_text("utf-8"))
        (step,) = pipeline["jobs"].values()
        return str(step["component"].rsplit(":", 1)[1])

    def _deployment(self, deployment: str) -> BatchDeployment | None:
        try:
            with self.workspace.errors(f"reading deployment {deployment}", deployment=deployment):
                found: BatchDeployment = self.workspace.client.batch_deployments.get(deployment, self.name)
                return found
        except NotFound:
            return None

    def _endpoint(self) -> BatchEndpoint:
        with self.workspace.errors(f"reading batch endpoint {self.name}", endpoint=self.name):
            found: BatchEndpoint = self.workspace.client.batch_endpoints.get(self.name)
        return found

    def _full(self, uri: str) -> str:
        """The batch service takes datastore paths in full only."""
        container, prefix = lake_paths.parse_datastore_uri(uri)
        space = self.workspace
        return (f"azureml://subscriptions/{space.subscription_id}/resourcegroups/{space.resource_group}"
                f"/workspaces/{space.workspace}/datastores/{container}/paths/{prefix}")


def _default(endpoint: BatchEndpoint) -> str:
    defaults: Any = endpoint.defaults
    return str(getattr(defaults, "deployment_name", None) or "")


def _place(uri: str) -> str:
    """The part of a datastore path that is the same in full and in short."""
    return uri.rsplit("/datastores/", 1)[-1].rstrip("/")
