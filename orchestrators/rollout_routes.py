"""Rollouts of online and batch deployments over HTTP: start, show, cancel. Bindings only."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Callable
from typing import Any

import azure.durable_functions as df
import azure.functions as func

from domain import activity_names as names
from domain.errors import ShelfcastError
from http_api import OPERATOR, READER, ROUTE_AUTH, answer, caller, json_body, problem, respond

blueprint = df.Blueprint()


@blueprint.route(route="rollouts", methods=["POST"], auth_level=ROUTE_AUTH)
@blueprint.durable_client_input(client_name="client")
async def start_rollout(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Start the rollout of an online deployment; the same wish again is the same rollout."""
    from orchestrators.rollout import start_rollout as start

    return await _start(req, client, start, names.ROLL_OUT)


@blueprint.route(route="rollouts/batch", methods=["POST"], auth_level=ROUTE_AUTH)
@blueprint.durable_client_input(client_name="client")
async def start_batch_rollout(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Start the rollout of a run's models as a batch deployment; the same wish again is the same rollout."""
    from orchestrators.batch_rollout import start_batch_rollout as start

    return await _start(req, client, start, names.ROLL_OUT_BATCH)


async def _start(
    req: func.HttpRequest, client: df.DurableOrchestrationClient, start: Callable[..., tuple[str, bool]], name: str
) -> func.HttpResponse:
    from bootstrap import services
    from orchestrators.rollout import show_rollout as show

    try:
        wish: dict[str, Any] = json_body(req) | {"requested_by": caller(req, OPERATOR)}
        rollout_id, is_running = await to_thread(start, services(), wish)
        if is_running and (await client.get_status(rollout_id)).runtime_status is None:
            plan = (await to_thread(show, services(), rollout_id))["plan"]
            await client.start_new(name, rollout_id, {"rollout_id": rollout_id, "plan": plan})
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
