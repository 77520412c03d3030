"""Runs over HTTP: start, list, show, wait, replay, cancel. Bindings only."""

from __future__ import annotations

import hashlib
from asyncio import to_thread
from concurrent.futures import ThreadPoolExecutor

import azure.durable_functions as df
import azure.functions as func

from domain import activity_names as names
from domain.errors import BadRequest, ShelfcastError, Unavailable
from domain.runs import RunId, RunRequest, RunStatus, remedy_of
from http_api import OPERATOR, READER, ROUTE_AUTH, answer, caller, json_body, number, problem, respond, traceparent

blueprint = df.Blueprint()

WAIT_SECONDS = 5
_OUTCOME = ("run_id", "kind", "sales_week", "status", "message", "started_at", "ended_at", "publish", "completeness",
            "correlation_id", "waiting")
_LIVE = {
    df.OrchestrationRuntimeStatus.Running, df.OrchestrationRuntimeStatus.Pending,
    df.OrchestrationRuntimeStatus.Suspended, df.OrchestrationRuntimeStatus.ContinuedAsNew,
}


def _open(request: RunRequest, trace: str) -> tuple[str, bool, RunStatus]:
    """Make sure that the run exists; return its id, whether it is new, and its status."""
    from bootstrap import services
    from orchestrators.ledger import RunLedger
    from orchestrators.runs import start_run as start

    run_id, is_new = start(services(), request, trace)
    return str(run_id), is_new, RunStatus(RunLedger(services().lake).run(str(run_id))["status"])


async def _ensure_orchestrated(client: df.DurableOrchestrationClient, run_id: str, status: RunStatus) -> None:
    """Start the run's orchestration unless the run has ended or it is alive: cures a start whose answer was lost.

    One instance a run id: of two calls at the same time the hub refuses one, which finds the other's instance alive.
    """
    if status.ended or await _is_live(client, run_id):
        return
    try:
        await client.start_new(names.RUN_WEEK, run_id, {"run_id": run_id})
    except Exception as error:  # the SDK has one bare Exception for every refusal
        if not await _is_live(client, run_id):
            raise Unavailable(f"the orchestration of {run_id} could not be started: {error}", run_id=run_id) from error


async def _is_live(client: df.DurableOrchestrationClient, instance_id: str) -> bool:
    return (await client.get_status(instance_id)).runtime_status in _LIVE


async def settle(client: df.DurableOrchestrationClient, run_id: str) -> str:
    """Care for a run that the ledger shows as running; return what was done: closed, started or nothing.

    A dead orchestration can close its run no more (it was terminated, or failed beyond its own reach), so that is done
    here. One that never began (whoever asked for the run died in between) is started.
    """
    from bootstrap import services
    from orchestrators import runs

    state = await client.get_status(run_id)
    if state.runtime_status is None:  # the SDK's way to say that there is none
        await _ensure_orchestrated(client, run_id, RunStatus.RUNNING)
        return "started"
    if state.runtime_status in _LIVE:
        return "nothing"
    error = f"the orchestration ended as {state.runtime_status.value}: {state.output}"
    await to_thread(runs.close_run, services(), {"run_id": run_id, "error": error})
    return "closed"


def _started(request: func.HttpRequest, run_id: str, is_new: bool) -> func.HttpResponse:
    wait_url = f"{request.url.split('/api/')[0]}/api/runs/{run_id}/wait"
    document = {"run_id": run_id, "is_new": is_new, "wait_url": wait_url, "status_url": wait_url.removesuffix("/wait")}
    return answer(document, 202, {"Location": wait_url, "Retry-After": str(WAIT_SECONDS)})


@blueprint.route(route="runs", methods=["POST"], auth_level=ROUTE_AUTH)
@blueprint.durable_client_input(client_name="client")
async def start_run(
    req: func.HttpRequest, client: df.DurableOrchestrationClient, context: func.Context
) -> func.HttpResponse:
    """Start a run; the same wish again is the same run."""
    try:
        body = json_body(req)
        body["requested_by"] = caller(req, OPERATOR)
        body["correlation_id"] = body.get("correlation_id") or req.headers.get("x-correlation-id") or ""
        run_id, is_new, status = await to_thread(_open, RunRequest.from_dict(body), traceparent(req, context))
        await _ensure_orchestrated(client, run_id, status)
    except ShelfcastError as error:
        return problem(error, req.url)
    return _started(req, run_id, is_new)


@blueprint.route(route="runs/webhook", methods=["POST"], auth_level=ROUTE_AUTH)
@blueprint.durable_client_input(client_name="client")
async def start_run_webhook(
    req: func.HttpRequest, client: df.DurableOrchestrationClient, context: func.Context
) -> func.HttpResponse:
    """Start a run for a Data Factory WebHook activity; its callBackUri is called when the run has ended."""
    from orchestrators.webhook import check_callback

    try:
        actor = caller(req, OPERATOR)
        body = json_body(req)
        callback = check_callback(str(body.pop("callBackUri", "")))
        body["requested_by"] = actor
        run_id, is_new, status = await to_thread(_open, RunRequest.from_dict(body), traceparent(req, context))
        await _ensure_orchestrated(client, run_id, status)
        # Named by what it waits for: a call that is repeated because its answer was lost makes no second one.
        waiter = f"{run_id}-callback-{hashlib.sha256(callback.encode()).hexdigest()[:12]}"
        if not await _is_live(client, waiter):
            await client.start_new(names.AWAIT_RUN, waiter, {"run_id": run_id, "callback": callback})
    except ShelfcastError as error:
        return problem(error, req.url)
    return _started(req, run_id, is_new)


@blueprint.route(route="runs/{run_id}/replay", methods=["POST"], auth_level=ROUTE_AUTH)
@blueprint.durable_client_input(client_name="client")
async def replay_run(
    req: func.HttpRequest, client: df.DurableOrchestrationClient, context: func.Context
) -> func.HttpResponse:
    """Replay an ended run: adopt what is done, do what is missing; dry_run only shows the plan."""
    from bootstrap import services
    from orchestrators import replaying

    try:
        actor = caller(req, OPERATOR)
        wish = json_body(req)
        run_id, trace = req.route_params["run_id"], traceparent(req, context)
        outcome = await to_thread(replaying.replay_run, services(), run_id, wish, actor, trace)
        if not outcome["started"]:
            return answer(outcome)
        await _ensure_orchestrated(client, outcome["run_id"], RunStatus.RUNNING)
    except ShelfcastError as error:
        return problem(error, req.url)
    started = _started(req, outcome["run_id"], True)
    return answer(outcome, 202, dict(started.headers))


@blueprint.route(route="runs/{run_id}/cancel", methods=["POST"], auth_level=ROUTE_AUTH)
def cancel_run(req: func.HttpRequest) -> func.HttpResponse:
    """Ask a run to stop at its next look at the jobs."""
    def body() -> func.HttpResponse:
        from bootstrap import services
        from orchestrators.runs import request_cancel

        actor = caller(req, OPERATOR)
        reason = str(json_body(req).get("reason") or "").strip()
        if not reason:
            raise BadRequest("a cancellation needs a reason", field="reason", remedy="say why")
        document = request_cancel(services(), req.route_params["run_id"], actor, reason)
        return answer({"run_id": document["run_id"], "status": document["status"]}, 202)

    return respond(req, body)


@blueprint.route(route="runs", methods=["GET"], auth_level=ROUTE_AUTH)
def list_runs(req: func.HttpRequest) -> func.HttpResponse:
    """List the newest runs, and say which week is next, when it is due, and which weeks were left out."""
    def body() -> func.HttpResponse:
        from bootstrap import services
        from orchestrators.reading import run_rows
        from orchestrators.schedule import next_week

        caller(req, READER)
        limit = number(req, "limit", 50, 1000)
        with ThreadPoolExecutor(1) as beside:  # both wait for storage
            coming = beside.submit(next_week, services().lake)
            rows = run_rows(services(), limit)
        due = coming.result()
        return answer(rows | {"next": due.to_dict() if due else None})

    return respond(req, body)


@blueprint.route(route="runs/{run_id}", methods=["GET"], auth_level=ROUTE_AUTH)
def show_run(req: func.HttpRequest) -> func.HttpResponse:
    """Show all that the ledger knows of a run."""
    def body() -> func.HttpResponse:
        from bootstrap import services
        from orchestrators.reading import run_details

        caller(req, READER)
        return answer(run_details(services(), str(RunId.parse(req.route_params["run_id"]))))

    return respond(req, body)


@blueprint.route(route="runs/{run_id}/wait", methods=["GET"], auth_level=ROUTE_AUTH)
@blueprint.durable_client_input(client_name="client")
async def wait_for_run(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """202 with Location and Retry-After until the run has ended, then 200 with its outcome (for a WebActivity)."""
    from bootstrap import services
    from orchestrators.ledger import RunLedger

    try:
        caller(req, READER)
        run_id = str(RunId.parse(req.route_params["run_id"]))
        ledger = RunLedger(services().lake)
        document = await to_thread(ledger.run, run_id)
        if not RunStatus(document["status"]).ended:
            await settle(client, run_id)
            document = await to_thread(ledger.run, run_id)
    except ShelfcastError as error:
        return problem(error, req.url)
    status = RunStatus(document["status"])
    outcome = {key: document.get(key) for key in _OUTCOME} | {"remedy": remedy_of(status, run_id)}
    if status.ended:
        return answer(outcome)
    return answer(outcome, 202, {"Location": req.url, "Retry-After": str(WAIT_SECONDS)})
