"""The rollout of an online deployment: an orchestrator that goes through the plan's stages, and its activities.

1. Each stage sets the endpoint's traffic, waits, asks the sample of both deployments and judges the answers.
2. The first stage with a reason to stop ends the rollout: all traffic goes back to production.
3. close_rollout keeps stages, outcome and reasons in the ledger and the audit trail.

Setting traffic is idempotent, so a replayed or repeated activity lands on the same state.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import asdict
from typing import Any

from azure.durable_functions import DurableOrchestrationContext

from domain import activity_names as names
from domain import lake_paths
from domain.errors import BadRequest, BlobNotFound, Conflict, NotFound
from domain.rollout import Probe, RolloutPlan, percentile_95, stop_reasons
from orchestrators.audit import append_audit, audit_operator
from orchestrators.patience import BeginAnew, Patience
from orchestrators.services import RunServices

Steps = Generator[Any, Any, Any]
SETTLE_SECONDS = 15.0
RUNNING, DONE, ROLLED_BACK, STUCK = "running", "completed", "rolled_back", "rollback_failed"


def roll_out(context: DurableOrchestrationContext) -> Steps:
    """Orchestrate one rollout; input {rollout_id, plan, next?, stages?, stopped?}, output {rollout_id, status}."""
    given: Any = context.get_input()
    state: dict[str, Any] = {"next": 0, "stages": [], "stopped": "", **given}
    patience = Patience(context)
    try:
        yield from _forward(patience, state)
        state["status"] = DONE
        if state["stopped"]:
            state["status"] = yield from _back(patience, state)
        outcome = yield from patience.call(names.CLOSE_ROLLOUT, state)
    except BeginAnew:
        context.continue_as_new(state)
        return None
    return outcome


def _forward(patience: Patience, state: dict[str, Any]) -> Steps:
    plan = RolloutPlan.from_dict(state["plan"])
    while state["next"] < len(plan.stages) and not state["stopped"]:
        stage = plan.stages[state["next"]]
        request = {"rollout_id": state["rollout_id"], "plan": state["plan"], "stage": asdict(stage)}
        try:
            answer = yield from patience.call(names.SET_TRAFFIC, request)
            if "failed" not in answer:
                if stage.name != "test":
                    yield from patience.wait(plan.soak_seconds)
                answer = yield from patience.call(names.PROBE_ROLLOUT, request)
        except BeginAnew:
            raise
        except Exception as failure:  # whatever it was, the candidate must not stay half in traffic
            answer = {"failed": str(failure)[:500]}
        reasons = [answer["failed"]] if "failed" in answer else answer["reasons"]
        state["stages"].append({"stage": stage.name, "reasons": reasons, **answer.get("facts", {})})
        state["stopped"] = f"{stage.name}: {'; '.join(reasons)}" if reasons else ""
        state["next"] += 1


def _back(patience: Patience, state: dict[str, Any]) -> Steps:
    before = RolloutPlan.from_dict(state["plan"]).before
    answer = yield from patience.call(
        names.SET_TRAFFIC, {"rollout_id": state["rollout_id"], "plan": state["plan"], "stage": asdict(before)}
    )
    if "failed" in answer:
        state["stopped"] += f"; the traffic could not be set back: {answer['failed']}"
        return STUCK
    return ROLLED_BACK


def set_traffic(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Bring the endpoint to the stage's shares; {"again"} until they are in force, or the rollout is cancelled."""
    stage = request["stage"]
    plan = RolloutPlan.from_dict(request["plan"])
    cancelled = rollout_document(services, request["rollout_id"])[0].get("cancelled", "")
    if cancelled and stage["live"] != plan.before.live:
        return {"failed": cancelled}
    if not services.online_endpoint.set_traffic(stage["live"], stage["mirror"]):
        return {"again": SETTLE_SECONDS}
    return {}


def probe_rollout(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Ask the sample of both deployments by name, and of the endpoint once the candidate has traffic; judge."""
    plan = RolloutPlan.from_dict(request["plan"])
    cancelled = rollout_document(services, request["rollout_id"])[0].get("cancelled", "")
    old, new = (
        [services.online_endpoint.ask(body, deployment=name) for body in plan.sample]
        for name in (plan.production, plan.candidate)
    )
    has_traffic = plan.candidate in request["stage"]["live"]
    live = [services.online_endpoint.ask(body) for body in plan.sample] if has_traffic else []
    reasons = [cancelled] if cancelled else stop_reasons(plan, old, new, live)
    return {"reasons": reasons, "facts": {
        "production": _facts(old), "candidate": _facts(new), **({"endpoint": _facts(live)} if live else {}),
    }}


def _facts(probes: list[Probe]) -> dict[str, Any]:
    return {
        "requests": len(probes), "failed": sum(probe.status != 200 for probe in probes),
        "units": round(sum(sum(probe.units.values()) for probe in probes), 2),
        "p95_ms": round(percentile_95(probes), 1),
    }


def start_rollout(services: RunServices, wish: Mapping[str, Any]) -> tuple[str, bool]:
    """Write the rollout into the ledger; return its id and whether it is still to run.

    The same wish again is the same rollout. Raises BadRequest for a plan that cannot be read, Conflict while another
    rollout is running.
    """
    plan = RolloutPlan.from_dict(wish)
    _ = services.online_endpoint  # refuses an app without one before anything is written
    return open_rollout(services, plan.rollout_id, plan.to_dict())


def open_rollout(services: RunServices, rollout_id: str, plan: Mapping[str, Any]) -> tuple[str, bool]:
    """Write a rollout of either kind into the ledger, as start_rollout says."""
    path = lake_paths.rollout_document(rollout_id)
    for blob in services.lake.list(lake_paths.RUNS, f"{lake_paths.ROLLOUTS}/"):
        document, _ = services.lake.read_json(lake_paths.RUNS, blob.path)
        if blob.path == path:
            return rollout_id, document["status"] == RUNNING
        if document["status"] == RUNNING:
            raise Conflict(f"{document['rollout_id']} is running", rollout_id=document["rollout_id"],
                           remedy="wait for it, or cancel it")
    services.lake.write_json(lake_paths.RUNS, path, {
        "schema": "shelfcast.rollout/1", "rollout_id": rollout_id, "status": RUNNING, "plan": plan,
        "stages": [], "started_at": services.clock.now().isoformat(), "message": "",
    }, if_none_match=True)
    audit_operator(services, plan["requested_by"], "rollout_started", rollout_id, {"reason": plan["reason"]},
                   key=rollout_id)
    return rollout_id, True


def cancel_rollout(services: RunServices, rollout_id: str, actor: str, reason: str) -> dict[str, Any]:
    """Ask a rollout to stop and roll back at its next look; raise BadRequest, NotFound, or Conflict if it has ended."""
    if not reason:
        raise BadRequest("a cancellation needs a reason", field="reason", remedy="say why")
    document, etag = rollout_document(services, rollout_id)
    if document["status"] != RUNNING:
        raise Conflict(f"{rollout_id} has ended: {document['status']}", rollout_id=rollout_id)
    document["cancelled"] = f"cancelled by {actor}: {reason}"
    services.lake.write_json(lake_paths.RUNS, lake_paths.rollout_document(rollout_id), document, if_match=etag)
    audit_operator(services, actor, "rollout_cancelled", rollout_id, {"reason": reason})
    return document


def close_rollout(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Keep the outcome; doing it again changes nothing."""
    rollout_id, status = request["rollout_id"], request["status"]
    document, etag = rollout_document(services, rollout_id)
    if document["status"] == RUNNING:
        ended = {"status": status, "stages": request["stages"], "message": request["stopped"],
                 "ended_at": services.clock.now().isoformat()}
        path = lake_paths.rollout_document(rollout_id)
        services.lake.write_json(lake_paths.RUNS, path, document | ended, if_match=etag)
    append_audit(services.lake, services.clock.now(), "rollout", f"rollout_{status}", rollout_id,
                 {"message": request["stopped"]}, key=f"{rollout_id}/end")
    return {"rollout_id": rollout_id, "status": status, "message": request["stopped"]}


def show_rollout(services: RunServices, rollout_id: str) -> dict[str, Any]:
    """Return plan, stages and outcome; raise NotFound."""
    return rollout_document(services, rollout_id)[0]


def rollout_document(services: RunServices, rollout_id: str) -> tuple[dict[str, Any], str]:
    """Return a rollout's document and its ETag; raise NotFound."""
    try:
        return services.lake.read_json(lake_paths.RUNS, lake_paths.rollout_document(rollout_id))
    except BlobNotFound as error:
        raise NotFound(f"there is no rollout {rollout_id!r}", rollout_id=rollout_id) from error
