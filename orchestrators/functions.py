"""Bindings of the orchestrators and their activities: parse, call one body, shape the answer."""

from __future__ import annotations

import logging
from asyncio import to_thread
from collections.abc import Callable
from datetime import UTC
from typing import TYPE_CHECKING, Any

import azure.durable_functions as df
import azure.functions as func

from domain import activity_names as names
from domain.errors import ShelfcastError

if TYPE_CHECKING:
    from orchestrators.watchdog import Instance

blueprint = df.Blueprint()


def _call(body: Callable[..., dict[str, Any]], request: dict[str, Any]) -> dict[str, Any]:
    """Run a body with the process's services, as orchestrators.waiting.answer_of says."""
    from bootstrap import services
    from orchestrators.waiting import answer_of

    return answer_of(services(), body, request)


@blueprint.orchestration_trigger(context_name="context", orchestration=names.RUN_WEEK)
def run_week(context: df.DurableOrchestrationContext):  # type: ignore[no-untyped-def]
    """One run: weekly, train, score, validate or backfill."""
    from orchestrators.weekly import run_week as orchestrate

    return (yield from orchestrate(context))


@blueprint.orchestration_trigger(context_name="context", orchestration=names.RUN_JOBS)
def run_jobs(context: df.DurableOrchestrationContext):  # type: ignore[no-untyped-def]
    """The poll loop of one phase of a run."""
    from orchestrators.job_loop import run_jobs as orchestrate

    return (yield from orchestrate(context))


@blueprint.orchestration_trigger(context_name="context", orchestration=names.AWAIT_RUN)
def await_run(context: df.DurableOrchestrationContext):  # type: ignore[no-untyped-def]
    """Wait for a run on behalf of a Data Factory WebHook activity, then call it back."""
    from orchestrators.webhook import await_run as orchestrate

    return (yield from orchestrate(context))


@blueprint.orchestration_trigger(context_name="context", orchestration=names.ROLL_OUT)
def roll_out(context: df.DurableOrchestrationContext):  # type: ignore[no-untyped-def]
    """The rollout of an online deployment."""
    from orchestrators.rollout import roll_out as orchestrate

    return (yield from orchestrate(context))


@blueprint.orchestration_trigger(context_name="context", orchestration=names.ROLL_OUT_BATCH)
def roll_out_batch(context: df.DurableOrchestrationContext):  # type: ignore[no-untyped-def]
    """The rollout of a batch deployment."""
    from orchestrators.batch_rollout import roll_out_batch as orchestrate

    return (yield from orchestrate(context))


@blueprint.activity_trigger(input_name="request", activity=names.SET_TRAFFIC)
def set_traffic(request: dict) -> dict:  # type: ignore[type-arg]
    """See orchestrators.rollout.set_traffic."""
    from orchestrators.rollout import set_traffic as body

    return _call(body, request)


@blueprint.activity_trigger(input_name="request", activity=names.PROBE_ROLLOUT)
def probe_rollout(request: dict) -> dict:  # type: ignore[type-arg]
    """See orchestrators.rollout.probe_rollout."""
    from orchestrators.rollout import probe_rollout as body

    return _call(body, request)


@blueprint.activity_trigger(input_name="request", activity=names.CLOSE_ROLLOUT)
def close_rollout(request: dict) -> dict:  # type: ignore[type-arg]
    """See orchestrators.rollout.close_rollout."""
    from orchestrators.rollout import close_rollout as body

    return _call(body, request)


@blueprint.activity_trigger(input_name="request", activity=names.ADVANCE_BATCH)
def advance_batch(request: dict) -> dict:  # type: ignore[type-arg]
    """See orchestrators.batch_rollout.advance_batch."""
    from orchestrators.batch_rollout import advance_batch as body

    return _call(body, request)


@blueprint.activity_trigger(input_name="request", activity=names.OPEN_RUN)
def open_run(request: dict) -> dict:  # type: ignore[type-arg]
    """See orchestrators.runs.open_run."""
    from orchestrators.runs import open_run as body

    return _call(body, request)


@blueprint.activity_trigger(input_name="request", activity=names.NOTE_STEP)
def note_step(request: dict) -> dict:  # type: ignore[type-arg]
    """See orchestrators.runs.note_step."""
    from orchestrators.runs import note_step as body

    return _call(body, request)


@blueprint.activity_trigger(input_name="request", activity=names.CLOSE_RUN)
def close_run(request: dict) -> dict:  # type: ignore[type-arg]
    """See orchestrators.runs.close_run."""
    from orchestrators.runs import close_run as body

    return _call(body, request)


@blueprint.activity_trigger(input_name="request", activity=names.DECIDE_TRAINING)
def decide_training(request: dict) -> dict:  # type: ignore[type-arg]
    """See orchestrators.deciding.decide_run."""
    from orchestrators.deciding import decide_run as body

    return _call(body, request)


@blueprint.activity_trigger(input_name="request", activity=names.PLAN_JOBS)
def plan_jobs(request: dict) -> dict:  # type: ignore[type-arg]
    """See orchestrators.job_watch.plan_phase."""
    from orchestrators.job_watch import plan_phase as body

    return _call(body, request)


@blueprint.activity_trigger(input_name="request", activity=names.SUBMIT_JOBS)
def submit_jobs(request: dict) -> dict:  # type: ignore[type-arg]
    """See orchestrators.job_watch.submit_units."""
    from orchestrators.job_watch import submit_units as body

    return _call(body, request)


@blueprint.activity_trigger(input_name="request", activity=names.CANCEL_JOBS)
def cancel_jobs(request: dict) -> dict:  # type: ignore[type-arg]
    """See orchestrators.job_watch.cancel_units."""
    from orchestrators.job_watch import cancel_units as body

    return _call(body, request)


@blueprint.activity_trigger(input_name="request", activity=names.POLL_JOBS)
def poll_jobs(request: dict) -> dict:  # type: ignore[type-arg]
    """See orchestrators.job_watch.poll_phase."""
    from orchestrators.job_watch import poll_phase as body

    return _call(body, request)


@blueprint.activity_trigger(input_name="request", activity=names.ACCEPT_MODELS)
def accept_models(request: dict) -> dict:  # type: ignore[type-arg]
    """See orchestrators.accepting.accept_models."""
    from orchestrators.accepting import accept_models as body

    return _call(body, request)


@blueprint.activity_trigger(input_name="request", activity=names.COLLECT_SCORES)
def collect_scores(request: dict) -> dict:  # type: ignore[type-arg]
    """See orchestrators.collecting.collect_scores."""
    from orchestrators.collecting import collect_scores as body

    return _call(body, request)


@blueprint.activity_trigger(input_name="request", activity=names.PUBLISH_WEEK)
def publish_week(request: dict) -> dict:  # type: ignore[type-arg]
    """See orchestrators.publishing.publish_week."""
    from orchestrators.publishing import publish_week as body

    return _call(body, request)


@blueprint.activity_trigger(input_name="request", activity=names.WRITE_RESULTS)
def write_results(request: dict) -> dict:  # type: ignore[type-arg]
    """See orchestrators.writing_results.write_results."""
    from orchestrators.writing_results import write_results as body

    return _call(body, request)


@blueprint.activity_trigger(input_name="request", activity=names.CALL_BACK)
def call_back(request: dict) -> dict:  # type: ignore[type-arg]
    """See orchestrators.webhook.call_back."""
    from orchestrators.webhook import call_back as body

    return _call(body, request)


@blueprint.timer_trigger(arg_name="timer", schedule="0 50 * * * *", run_on_startup=False)
@blueprint.durable_client_input(client_name="client")
async def watchdog(timer: func.TimerRequest, client: df.DurableOrchestrationClient) -> None:  # noqa: ARG001 (binding)
    """Hourly: say what is late, stale, bad or stuck, and care for runs whose orchestration is gone."""
    from bootstrap import services
    from orchestrators.operations import settle
    from orchestrators.watchdog import look_around

    told = await to_thread(look_around, services(), await _unfinished(client))
    for run_id in told["running"]:
        try:
            done = await settle(client, run_id)
        except ShelfcastError as error:
            logging.getLogger(__name__).warning("%s: %s", run_id, error.message)
        else:
            if done != "nothing":
                logging.getLogger(__name__).warning("the orchestration of %s was gone: %s", run_id, done)


async def _unfinished(client: df.DurableOrchestrationClient) -> list[Instance]:
    """Return the task hub's orchestrations that wait or run; none if it cannot be asked, which must stop nothing."""
    from orchestrators.watchdog import Instance

    waiting = df.OrchestrationRuntimeStatus.Pending
    try:
        found = await client.get_status_by(runtime_status=[waiting, df.OrchestrationRuntimeStatus.Running])
    except Exception:  # the SDK has one bare Exception for every refusal
        logging.getLogger(__name__).exception("asking the task hub")
        return []
    return [
        Instance(str(one.instance_id), one.runtime_status is waiting, one.created_time.astimezone(UTC))
        for one in found if one.created_time is not None
    ]
