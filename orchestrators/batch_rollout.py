"""The rollout of a batch deployment: an orchestrator that goes through the plan's stages, and its activity.

1. pack: a job makes one folder of the run's models, with a sample of feature rows;
2. deploy: the endpoint gets a deployment of that folder, beside the others;
3. score: the sample is scored by the candidate and by the default, each asked by name, and the answers are judged;
4. switch: the candidate becomes the default.

The first stage with a reason to stop ends the rollout, and the default stays. Every stage may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

from azure.durable_functions import DurableOrchestrationContext

from domain import activity_names as names
from domain import lake_paths
from domain.batch_rollout import SCORES, BatchPlan, read_scores, refusals
from domain.errors import BlobConflict, BlobNotFound, Conflict
from domain.job_states import JobSpec, JobStatus, Phase
from domain.runs import RunId
from orchestrators.ledger import RunLedger
from orchestrators.patience import BeginAnew, Patience
from orchestrators.rollout import DONE, open_rollout, rollout_document
from orchestrators.services import RunServices

Steps = Generator[Any, Any, Any]
REFUSED = "refused"
PACK = "pack"
LOOK_SECONDS = 15.0


def roll_out_batch(context: DurableOrchestrationContext) -> Steps:
    """Orchestrate one rollout; input {rollout_id, plan, next?, stages?, stopped?}, output {rollout_id, status}."""
    given: Any = context.get_input()
    state: dict[str, Any] = {"next": 0, "stages": [], "stopped": "", **given}
    stages = BatchPlan.from_dict(state["plan"]).stages
    patience = Patience(context)
    try:
        while state["next"] < len(stages) and not state["stopped"]:
            stage = stages[state["next"]]
            request = {"rollout_id": state["rollout_id"], "plan": state["plan"], "stage": stage}
            try:
                answer = yield from patience.call(names.ADVANCE_BATCH, request)
            except BeginAnew:
                raise
            except Exception as failure:  # whatever it was, the rollout must end and say so
                answer = {"failed": str(failure)[:500]}
            reasons = [answer["failed"]] if "failed" in answer else answer["reasons"]
            state["stages"].append({"stage": stage, "reasons": reasons, **answer.get("facts", {})})
            state["stopped"] = f"{stage}: {'; '.join(reasons)}" if reasons else ""
            state["next"] += 1
        state["status"] = REFUSED if state["stopped"] else DONE
        outcome = yield from patience.call(names.CLOSE_ROLLOUT, state)
    except BeginAnew:
        context.continue_as_new(state)
        return None
    return outcome


def start_batch_rollout(services: RunServices, wish: Mapping[str, Any]) -> tuple[str, bool]:
    """Write the rollout into the ledger; return its id and whether it is still to run.

    `{"run_id", "reason", "max_shift"?}` deploys the models that a run scored with; `{"switch_to", "reason"}` makes a
    deployment that is there the default as it is, to go back. Raises BadRequest, NotFound for an unknown run, Conflict
    for a run without models or while another rollout is running.
    """
    _ = services.batch_endpoint
    plan = BatchPlan.switch(wish) if "switch_to" in wish else _plan_of_run(services, wish)
    return open_rollout(services, plan.rollout_id, plan.to_dict())


def _plan_of_run(services: RunServices, wish: Mapping[str, Any]) -> BatchPlan:
    run_id = str(RunId.parse(wish.get("run_id", "")))
    ledger = RunLedger(services.lake)
    run = ledger.run(run_id)
    lineup = ledger.noted(run_id, "lineup")
    if lineup is None:
        raise Conflict(f"{run_id} has not scored, so it has no set of models", run_id=run_id,
                       remedy="name a run that published")
    return BatchPlan.of_run(wish, lineup["definition"], run["folder"], run["sales_week"])


def advance_batch(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Do what is left of a stage; {"again"} until it is done, then {"reasons", "facts"}."""
    rollout_id = request["rollout_id"]
    cancelled = rollout_document(services, rollout_id)[0].get("cancelled", "")
    if cancelled:
        return {"reasons": [cancelled]}
    return _BODIES[request["stage"]](services, rollout_id, BatchPlan.from_dict(request["plan"]))


def _pack(services: RunServices, rollout_id: str, plan: BatchPlan) -> dict[str, Any]:
    found = _packed(services, plan)
    if found is None:
        name = f"{rollout_id}-{PACK}"
        inputs: dict[str, str | int | float] = {"data": plan.data, "models": plan.models, "week": plan.week}
        services.jobs.submit(JobSpec(name, PACK, rollout_id, "score", PACK, inputs, {"deployment": _folder(plan)},
                                     {"run_id": rollout_id, "deployment": plan.candidate},
                                     services.settings.code_version))
        status = _ended(services, rollout_id, [name]).get(name)
        if status is None:
            return {"again": LOOK_SECONDS}
        if status.phase is not Phase.SUCCEEDED:
            return {"reasons": [f"{name} {status.status}: {status.error}"]}
        container, prefix = lake_paths.parse_datastore_uri(_folder(plan))
        found, _ = services.lake.read_json(container, f"{prefix}deployment.json")
        services.lake.write_json(lake_paths.MODELS, lake_paths.deployment_document(plan.candidate), found)
    return {"reasons": [], "facts": {"models": len(found["models"]), "sample_rows": found["sample_rows"]}}


def _deploy(services: RunServices, _rollout_id: str, plan: BatchPlan) -> dict[str, Any]:
    if not services.batch_endpoint.deploy(plan.candidate, _folder(plan)):
        return {"again": LOOK_SECONDS}
    return {"reasons": [], "facts": {"deployment": plan.candidate}}


def _score(services: RunServices, rollout_id: str, plan: BatchPlan) -> dict[str, Any]:
    document, etag = rollout_document(services, rollout_id)
    if "jobs" not in document:
        production = services.batch_endpoint.default()
        asked = [name for name in (plan.candidate, production) if name]
        jobs = {name: services.batch_endpoint.invoke(name, f"{_folder(plan)}sample/", _answers(rollout_id, name))
                for name in dict.fromkeys(asked)}
        document |= {"production": production, "jobs": jobs}
        try:
            services.lake.write_json(lake_paths.RUNS, lake_paths.rollout_document(rollout_id), document, if_match=etag)
        except BlobConflict:  # somebody cancelled meanwhile; asking for the same job again is harmless
            return {"again": 1.0}
    jobs, production = document["jobs"], document["production"]
    ended = _ended(services, rollout_id, list(jobs.values()))
    if len(ended) < len(jobs):
        return {"again": LOOK_SECONDS}
    reasons = [f"{name} did not score the sample: {ended[job].status} {ended[job].error}".rstrip()
               for name, job in jobs.items() if ended[job].phase is not Phase.SUCCEEDED]
    if reasons:
        return {"reasons": reasons}
    units = {name: _scores(services, rollout_id, name) for name in jobs}
    packed = _packed(services, plan) or {}
    old = units.get(production) if production != plan.candidate else None
    reasons = refusals(plan, packed.get("sample_rows", 0), units[plan.candidate], production, old)
    facts = {name: {"rows": len(own), "units": round(sum(own.values()), 2)} for name, own in units.items()}
    return {"reasons": reasons, "facts": {"production": production, "scores": facts}}


def _switch(services: RunServices, _rollout_id: str, plan: BatchPlan) -> dict[str, Any]:
    if not services.batch_endpoint.set_default(plan.candidate):
        return {"again": LOOK_SECONDS}
    return {"reasons": [], "facts": {"default": plan.candidate}}


_BODIES: dict[str, Callable[[RunServices, str, BatchPlan], dict[str, Any]]] = {
    "pack": _pack, "deploy": _deploy, "score": _score, "switch": _switch,
}


def _folder(plan: BatchPlan) -> str:
    return lake_paths.datastore_uri(lake_paths.MODELS, lake_paths.deployment_folder(plan.candidate))


def _answers(rollout_id: str, deployment: str) -> str:
    return lake_paths.datastore_uri(lake_paths.STAGING, f"rollouts/{rollout_id}/{deployment}")


def _packed(services: RunServices, plan: BatchPlan) -> dict[str, Any] | None:
    """Return what is noted of the packed folder once its job has completed, or None; the folder fills file by file."""
    try:
        found: dict[str, Any] = services.lake.read_json(
            lake_paths.MODELS, lake_paths.deployment_document(plan.candidate)
        )[0]
    except BlobNotFound:
        return None
    return found


def _scores(services: RunServices, rollout_id: str, deployment: str) -> dict[tuple[str, str, str], float]:
    container, prefix = lake_paths.parse_datastore_uri(_answers(rollout_id, deployment))
    return read_scores(services.lake.read(container, prefix + SCORES).data.decode(), deployment)


def _ended(services: RunServices, rollout_id: str, names: list[str]) -> dict[str, JobStatus]:
    return {name: status for name, status in services.jobs.statuses(rollout_id, names).items() if status.phase.ended}
