"""Rollouts of online deployments over HTTP: start, show, cancel. Bindings only."""

from __future__ import annotations

from asyncio import to_thread

import azure.durable_functions as df
import azure.functions as func

from domain import activity_names as names
from domain.errors import ShelfcastError
from http_api import OPERATOR, READER, ROUTE_AUTH, answer, caller, json_body, problem, respond

blueprint = df.Blueprint()


@blueprint.route(route="rollouts", methods=["POST"], auth_level=ROUTE_AUTH)
@blueprint.durable_client_input(client_name="client")
async def start_rollout(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Start a rollout; the same wish again is the same rollout."""
    from bootstrap import services
    from orchestrators import rollout

    try:
        wish = json_body(req) | {"requested_by": caller(req, OPERATOR)}
        rollout_id, is_running = await to_thread(rollout.start_rollout, services(), wish)
        if is_running and (await client.get_status(rollout_id)).runtime_status is None:
            plan = (await to_thread(rollout.show_rollout, services(), rollout_id))["plan"]
            await client.start_new(names.ROLL_OUT, rollout_id, {"rollout_id": rollout_id, "plan": plan})
    except ShelfcastError as error:
        return problem(error, req.url)
    location = f"{req.url.split('/api/')[0]}/api/rollouts/{rollout_id}"
    return answer({"rollout_id": rollout_id, "status_url": location}, 202, {"Location": location})


@blueprint.route(route="rollouts/{rollout_id}", methods=["GET"], auth_level=ROUTE_AUTH)
def show_rollout(req: func.HttpRequest) -> func.HttpResponse:
    """Show a rollout's plan, stages and outcome."""
    def body() -> func.HttpResponse:
        from bootstrap import services
        from orchestrators.rollout import show_rollout as show

        caller(req, READER)
        return answer(show(services(), req.route_params["rollout_id"]))

    return respond(req, body)


@blueprint.route(route="rollouts/{rollout_id}/cancel", methods=["POST"], auth_level=ROUTE_AUTH)
def cancel_rollout(req: func.HttpRequest) -> func.HttpResponse:
    """Ask a rollout to stop and set the traffic back at its next look."""
    def body() -> func.HttpResponse:
        from bootstrap import services
        from orchestrators.rollout import cancel_rollout as cancel

        actor = caller(req, OPERATOR)
        reason = str(json_body(req).get("reason") or "").strip()
        return answer(cancel(services(), req.route_params["rollout_id"], actor, reason), 202)

    return respond(req, body)
