"""What every batch endpoint behind the port promises; the same tests on this machine and on Azure ML's own SDK."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from adapters.azureml_client import AzureMl
from adapters.batch_endpoint_azureml import MODELS, AzureMlBatchEndpoint
from adapters.batch_endpoint_local import LocalBatchEndpoint
from adapters.jobs_azureml import AzureMlJobs
from adapters.jobs_local import LocalJobs
from adapters.lake import BlobLake
from domain.errors import BadRequest, Conflict, NotFound, Throttled, Unavailable
from domain.ports import BatchEndpoint, Jobs
from tests.adapters.batch_models import SAMPLE, SEGMENT, rows_of, run_as_service, upload_models, upload_sample
from tests.adapters.platforms import until
from tests.control_plane.endpoints import BATCH
from tests.control_plane.faults import Fault
from tests.control_plane.server import ControlPlane

PRODUCT = Path(__file__).resolve().parents[2]
NAME = "shelfcast-batch"
OUT = "azureml://datastores/staging/paths/rollouts/x/"


class World(Protocol):
    port: BatchEndpoint
    jobs: Jobs
    lake: BlobLake


class LocalWorld:
    def __init__(self, root: Path, connection: str, lake: BlobLake) -> None:
        self.lake = lake
        self.jobs = LocalJobs(root, connection, PRODUCT, sys.executable, max_parallel=2, idle_seconds=5)
        self.port = LocalBatchEndpoint(self.jobs, lake, NAME)


class AzureWorld:
    def __init__(self, plane: ControlPlane, lake: BlobLake) -> None:
        self.lake, self.plane = lake, plane
        found = plane.environment
        workspace = AzureMl(found["AML_SUBSCRIPTION_ID"], found["AML_RESOURCE_GROUP"], found["AML_WORKSPACE"])
        self.endpoint = plane.endpoints.batch(NAME)
        self.jobs = AzureMlJobs(workspace, PRODUCT, found["AML_COMPUTE"])
        self.port = AzureMlBatchEndpoint(workspace, NAME, PRODUCT, found["AML_COMPUTE"])
        plane.endpoints.on_invoke = self._run

    def _run(self, deployment: str, data: str, out: str) -> str:
        models = self.plane.workspace.models[MODELS][deployment]["modelUri"]
        return run_as_service(self.lake, models, data, out)


@pytest.fixture(params=["local", "azureml"])
def world(request: pytest.FixtureRequest, tmp_path: Path, lake: BlobLake) -> Iterator[World]:
    if request.param == "azureml":
        yield AzureWorld(request.getfixturevalue("plane"), lake)
        return
    made = LocalWorld(tmp_path / "jobs", request.getfixturevalue("azurite"), lake)
    yield made
    made.jobs.close()


@pytest.fixture
def azure(plane: ControlPlane, lake: BlobLake) -> AzureWorld:
    return AzureWorld(plane, lake)


def deploy(world: World, name: str) -> str:
    models = upload_models(world.lake, name)
    until(lambda: world.port.deploy(name, models), 120)  # the first call imports the SDK
    return models


def ended(world: World, job: str) -> str:
    until(lambda: (found := world.jobs.statuses("", [job]).get(job)) and found.phase.ended)
    return world.jobs.statuses("", [job])[job].status


def test_a_named_deployment_scores_a_folder_once(world: World) -> None:
    deploy(world, "m-one")
    upload_sample(world.lake, {"001": 2.0, "002": 3.5})
    job = world.port.invoke("m-one", SAMPLE, OUT)
    assert ended(world, job) == "Completed"
    assert rows_of(world.lake, OUT) == [[SEGMENT, "001", "p1", "2.0000"], [SEGMENT, "002", "p1", "3.5000"]]
    assert world.port.invoke("m-one", SAMPLE, OUT) == job
    assert world.port.invoke("m-one", SAMPLE, OUT.replace("/x/", "/y/")) != job


def test_a_file_that_cannot_be_scored_fails_the_job(world: World) -> None:
    deploy(world, "m-one")
    upload_sample(world.lake, {"001": 2.0})
    upload_sample(world.lake, {"001": 2.0}, "r99-large-baseline")
    assert ended(world, world.port.invoke("m-one", SAMPLE, OUT)) == "Failed"


def test_deployments_are_made_once_and_never_change(world: World) -> None:
    models = deploy(world, "m-one")
    assert world.port.deploy("m-one", models)
    with pytest.raises(Conflict):
        world.port.deploy("m-one", upload_models(world.lake, "m-other"))


def test_the_default_moves_to_a_deployment_that_is_there(world: World) -> None:
    assert world.port.default() == ""
    for name in ("m-one", "m-two"):
        deploy(world, name)
    for name in ("m-one", "m-two", "m-one"):
        until(lambda name=name: world.port.set_default(name))
        assert world.port.default() == name
    for call in (lambda: world.port.set_default("m-three"), lambda: world.port.invoke("m-three", SAMPLE, OUT)):
        with pytest.raises(BadRequest, match="has no deployment m-three"):
            call()
    assert world.port.default() == "m-one"


# -- Azure ML only ---------------------------------------------------------------------------------------------------


def test_a_deployment_is_made_of_registered_things_as_the_definition_says(
    azure: AzureWorld, plane: ControlPlane
) -> None:
    plane.endpoints.takes = 0.3
    models = upload_models(azure.lake, "m-one")
    assert not azure.port.deploy("m-one", models)
    assert not azure.port.deploy("m-one", models)
    until(lambda: azure.port.deploy("m-one", models))
    made = azure.endpoint.deployments["m-one"]
    space = plane.workspace.path
    assert made["puts"] == 1
    assert made["codeConfiguration"] == {
        "codeId": f"{space}/codes/{plane.workspace.code}/versions/1",
        "scoringScript": "ml_jobs/endpoints/batch/score.py",
    }
    assert made["environmentId"] == f"{space}/environments/scoring/versions/1"
    assert made["compute"] == f"{space}/computes/cpu-cluster"
    assert (made["errorThreshold"], made["outputFileName"], made["miniBatchSize"]) == (0, "forecasts.csv", 10)
    assert not plane.calls("POST", "startPendingUpload")


def test_a_deployment_that_could_not_be_made_ready_says_so(azure: AzureWorld, plane: ControlPlane) -> None:
    plane.endpoints.ends = "Failed"
    models = upload_models(azure.lake, "m-one")
    assert not azure.port.deploy("m-one", models)
    with pytest.raises(Conflict, match="could not be made ready"):
        azure.port.deploy("m-one", models)


@pytest.mark.parametrize("kind", ["lost_after", "lost_before", "garbled", "error"])
def test_a_lost_answer_makes_no_second_job(azure: AzureWorld, plane: ControlPlane, kind: str) -> None:
    deploy(azure, "m-one")
    upload_sample(azure.lake, {"001": 2.0})
    plane.faults.add(Fault(kind, method="POST", path="/scoring/"))
    with pytest.raises(Unavailable):
        azure.port.invoke("m-one", SAMPLE, OUT)
    job = azure.port.invoke("m-one", SAMPLE, OUT)
    assert ended(azure, job) == "Completed"
    assert list(plane.workspace.jobs) == [job]


def test_nobody_sleeps_on_429(azure: AzureWorld, plane: ControlPlane) -> None:
    deploy(azure, "m-one")
    plane.faults.add(Fault("throttle", method="POST", path="/scoring/"))
    with pytest.raises(Throttled) as caught:
        azure.port.invoke("m-one", SAMPLE, OUT)
    assert caught.value.fields["retry_after"] == 17
    plane.faults.add(Fault("error", method="PUT", path=f"/{BATCH}/", status=409))
    assert not azure.port.set_default("m-one")
    until(lambda: azure.port.set_default("m-one"))


def test_an_endpoint_that_is_not_there(azure: AzureWorld, plane: ControlPlane) -> None:
    plane.endpoints.known.clear()
    with pytest.raises(NotFound):
        azure.port.default()
