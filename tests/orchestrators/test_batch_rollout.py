"""A batch rollout on real jobs: a run's models are packed, deployed, compared by name, and take over, or do not."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.azureml_client import AzureMl
from adapters.batch_endpoint_azureml import MODELS, AzureMlBatchEndpoint
from adapters.batch_endpoint_local import LocalBatchEndpoint
from adapters.jobs_azureml import AzureMlJobs
from adapters.jobs_local import LocalJobs
from domain import activity_names as names
from domain.batch_rollout import BatchPlan, read_scores, refusals
from domain.errors import BadRequest, Conflict, IntegrityError, NotFound
from orchestrators.audit import read_audit
from orchestrators.batch_rollout import start_batch_rollout
from orchestrators.ledger import RunLedger
from orchestrators.rollout import cancel_rollout, show_rollout
from tests.adapters.batch_models import pack_as_service, run_as_service, save_set, upload
from tests.adapters.conftest import plane
from tests.control_plane.server import ControlPlane
from tests.control_plane.workspace import Job
from tests.ml_jobs.small_folder import CUTOFF, small_folder
from tests.orchestrators.conftest import ROOT, ScriptedServices
from tests.orchestrators.durable_driver import Driver

__all__ = ["plane"]  # a fixture of the adapters' tests
WEEK = str(CUTOFF.plus(1))
SEGMENTS = [f"{place}-{speed}" for place in ("r01-large", "r01-small", "r02-large", "r02-small")
            for speed in ("fast", "slow")]


@pytest.fixture
def azure_world(services: ScriptedServices, plane: ControlPlane, tmp_path: Path) -> ScriptedServices:
    """The same on Azure ML's SDK, before a workspace whose jobs do the same work."""
    def work(job: Job) -> None:
        if "inputs" in job.properties:  # a batch job has done its work when it is invoked
            given = job.properties["inputs"]
            pack_as_service(services.lake, given["models"]["uri"], given["data"]["uri"], given["week"]["value"],
                            job.properties["outputs"]["deployment"]["uri"])

    def score(deployment: str, data: str, out: str) -> str:
        return run_as_service(services.lake, plane.workspace.models[MODELS][deployment]["modelUri"], data, out)

    found = plane.environment
    workspace = AzureMl(found["AML_SUBSCRIPTION_ID"], found["AML_RESOURCE_GROUP"], found["AML_WORKSPACE"])
    plane.workspace.on_completed, plane.endpoints.on_invoke = work, score
    plane.endpoints.batch("shelfcast-batch")
    services.jobs = AzureMlJobs(workspace, ROOT, "cpu-cluster")  # type: ignore[assignment]
    services.batch_endpoint = AzureMlBatchEndpoint(workspace, "shelfcast-batch", ROOT, "cpu-cluster")
    upload(services.lake, small_folder().write(tmp_path / "data"), "curated", f"{WEEK}/v1/")
    return services


@pytest.fixture
def world(services: ScriptedServices, azurite: str, tmp_path: Path) -> Iterator[ScriptedServices]:
    """Services with the product's own jobs and batch endpoint, and a curated folder."""
    jobs = LocalJobs(tmp_path / "jobs", azurite, ROOT, sys.executable, max_parallel=2, idle_seconds=20)
    services.jobs = jobs  # type: ignore[assignment]
    services.batch_endpoint = LocalBatchEndpoint(jobs, services.lake, "shelfcast-batch")
    upload(services.lake, small_folder().write(tmp_path / "data"), "curated", f"{WEEK}/v1/")
    yield services
    jobs.close()


def a_run(services: ScriptedServices, folder: Path, attempt: int, shift: float = 0.0) -> str:
    """Leave in the ledger what a run leaves that scored with a set of models."""
    run_id, version = f"weekly-{WEEK}-a{attempt}", f"{attempt:016x}"
    uri = upload(services.lake, save_set(folder / version, SEGMENTS, shift), "models", f"scoring/{version}/")
    services.lake.write_json("runs", f"{run_id}/run.json", {
        "run_id": run_id, "sales_week": WEEK, "folder": f"azureml://datastores/curated/paths/{WEEK}/v1/",
    })
    RunLedger(services.lake).note(run_id, "lineup", {"lineup": {}, "definition": uri})
    return run_id


def roll_out(services: ScriptedServices, on_tick: Callable[[], None] = lambda: None, **wish: Any) -> dict[str, Any]:
    rollout_id, is_running = start_batch_rollout(services, {"reason": "new models", **wish})
    assert is_running

    def tick() -> None:
        time.sleep(0.1)  # jobs are real, the clock is not
        on_tick()

    driver = Driver(services, services.clock, on_tick=tick)
    plan = show_rollout(services, rollout_id)["plan"]
    driver.start(names.ROLL_OUT_BATCH, rollout_id, {"rollout_id": rollout_id, "plan": plan})
    ended = driver.run(rollout_id)
    assert driver.longest_history < 500
    document = show_rollout(services, rollout_id)
    assert ended.result["status"] == document["status"]
    return document


@pytest.mark.long
@pytest.mark.parametrize("platform", ["local", "azureml"])
def test_models_take_over_after_a_comparison_and_bad_ones_do_not(
    platform: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    world: ScriptedServices = request.getfixturevalue("world" if platform == "local" else "azure_world")
    first = roll_out(world, run_id=a_run(world, tmp_path, 1))
    assert first["status"] == "completed", first["message"]
    assert [stage["stage"] for stage in first["stages"]] == ["pack", "deploy", "score", "switch"]
    assert first["stages"][0]["models"] == len(SEGMENTS)
    one = first["plan"]["candidate"]
    assert world.batch_endpoint.default() == one

    # Compared with the default, both asked by name, on the same rows.
    second = roll_out(world, run_id=a_run(world, tmp_path, 2, shift=0.1))
    assert second["status"] == "completed", second["message"]
    two = second["plan"]["candidate"]
    scores = second["stages"][2]["scores"]
    assert set(scores) == {one, two} and second["stages"][2]["production"] == one
    assert scores[one]["rows"] == scores[two]["rows"] == second["stages"][0]["sample_rows"]
    assert 1.05 < scores[two]["units"] / scores[one]["units"] < 1.25
    assert world.batch_endpoint.default() == two

    third = roll_out(world, run_id=a_run(world, tmp_path, 3, shift=1.0))
    assert third["status"] == "refused"
    assert "units, more than 25% away from" in third["message"] and two in third["message"]
    assert [stage["stage"] for stage in third["stages"]] == ["pack", "deploy", "score"]
    assert world.batch_endpoint.default() == two

    # Back to the first one, and whoever names no deployment gets it.
    back = roll_out(world, switch_to=one, reason="complaints")
    assert (back["status"], world.batch_endpoint.default()) == ("completed", one)
    assert [entry["action"] for entry in read_audit(world.lake)][:2] == ["rollout_completed", "rollout_started"]
    assert [entry["action"] for entry in read_audit(world.lake)].count("rollout_refused") == 1


@pytest.mark.long
def test_models_that_do_not_go_together_are_never_deployed(world: ScriptedServices, tmp_path: Path) -> None:
    run_id = a_run(world, tmp_path, 1)
    world.lake.write("models", f"scoring/{1:016x}/{SEGMENTS[0]}/requirements.txt", b"numpy<2\n")
    document = roll_out(world, run_id=run_id)
    assert document["status"] == "refused"
    assert "the models cannot share a deployment: models need different numpy: <2" in document["message"]
    assert SEGMENTS[0] in document["message"]
    assert world.batch_endpoint.default() == ""


def test_an_operator_can_stop_it(world: ScriptedServices, tmp_path: Path) -> None:
    def cancel() -> None:
        (rollout,) = world.lake.list("runs", "rollouts/")
        if "cancelled" not in world.lake.read_json("runs", rollout.path)[0]:
            cancel_rollout(world, rollout.path.split("/")[1].removesuffix(".json"), "ada", "wrong week")

    run_id = a_run(world, tmp_path, 1)
    document = roll_out(world, cancel, run_id=run_id)
    assert document["status"] == "refused"
    assert [str(run) for run in RunLedger(world.lake).run_ids()] == [run_id]  # a rollout is no run
    assert document["message"] == "pack: cancelled by ada: wrong week"


def test_wishes_that_make_no_sense_are_refused(world: ScriptedServices, tmp_path: Path) -> None:
    run_id = a_run(world, tmp_path, 1)
    for wish in ({}, {"run_id": "x", "reason": "r"}, {"run_id": run_id}, {"switch_to": "M 1", "reason": "r"},
                 {"run_id": run_id, "switch_to": "m-1", "reason": "r"},
                 {"run_id": run_id, "reason": "r", "max_shift": "much"}):
        with pytest.raises(BadRequest):
            start_batch_rollout(world, wish)
    with pytest.raises(NotFound):
        start_batch_rollout(world, {"run_id": f"weekly-{WEEK}-a9", "reason": "r"})
    world.lake.delete("runs", f"{run_id}/lineup.json")
    with pytest.raises(Conflict, match="has not scored"):
        start_batch_rollout(world, {"run_id": run_id, "reason": "r"})
    assert not list(world.lake.list("runs", "rollouts/"))
    document = roll_out(world, switch_to="m-unknown")
    assert (document["status"], world.batch_endpoint.default()) == ("refused", "")
    assert "has no deployment m-unknown" in document["message"]


PLAN = BatchPlan("m-2", "r", "ada", "azureml://datastores/models/paths/scoring/2/")
OLD = {("m", "1", "p"): 4.0, ("m", "2", "p"): 6.0}


@pytest.mark.parametrize(("new", "reason"), [
    (OLD, ""),
    ({("m", "1", "p"): 4.0, ("m", "2", "p"): 8.0}, ""),
    ({("m", "1", "p"): 4.0, ("m", "2", "p"): 9.0}, "+30% units"),
    ({("m", "1", "p"): 10.0}, "scored 1 of 2 sample rows"),
    ({("m", "1", "p"): 4.0, ("m", "3", "p"): 6.0}, "lacks 1 forecasts of m-1 and has 1 others"),
    ({("m", "1", "p"): -1.0, ("m", "2", "p"): 11.0}, "negative or infinite"),
    ({("m", "1", "p"): float("nan"), ("m", "2", "p"): 1.0}, "negative or infinite"),
])
def test_what_keeps_a_candidate_from_taking_over(new: dict[tuple[str, str, str], float], reason: str) -> None:
    reasons = refusals(PLAN, 2, new, "m-1", OLD)
    assert (reason in "; ".join(reasons)) if reason else not reasons


def test_an_answer_that_is_no_table_is_refused() -> None:
    assert read_scores("m,1,p,2.5\n", "m-1") == {("m", "1", "p"): 2.5}
    for text in ("m,1,p\n", "m,1,p,much\n", "m,1,p,1\nm,1,p,2\n"):
        with pytest.raises(IntegrityError, match="m-1 answered in row"):
            read_scores(text, "m-1")
