"""Bindings of conditioning: parse, call one body, shape the answer."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import azure.functions as func

from domain import activity_names as names
from domain.errors import BadRequest, ShelfcastError
from domain.runs import MAX_REASON
from domain.tracing import parse_traceparent
from http_api import OPERATOR, READER, ROUTE_AUTH, answer, caller, json_body, number, respond

blueprint = df.Blueprint()

_SOURCES = sorted(path.stem for path in (Path(__file__).parent / "sources").glob("*.py") if path.stem != "__init__")
_MOST_ROWS = 1_000
_log = logging.getLogger(__name__)


def _condition(data: dict[str, Any]) -> dict[str, Any]:
    from bootstrap import services
    from conditioning.registry import find_source
    from conditioning.service import ConditionRequest, condition_source

    find_source(str(data.get("source", "")))
    return condition_source(services(), ConditionRequest.from_dict(data))


def _with_correlation_id(req: func.HttpRequest, body: dict[str, Any]) -> dict[str, Any]:
    """Give the call a correlation id: what its caller says, else the trace that it belongs to, else a new one.

    Raise BadRequest for what can be none.
    """
    trace = parse_traceparent(req.headers.get("traceparent"))
    said = body.get("correlation_id", "")
    if not isinstance(said, str) or len(said) > MAX_REASON:
        raise BadRequest(
            f"correlation_id must be text of at most {MAX_REASON} characters", field="correlation_id",
            value=str(said)[:80], remedy="leave it out or send an id",
        )  # fmt: skip
    given = said or req.headers.get("x-correlation-id") or (trace and trace.trace_id)
    return {**body, "correlation_id": given or uuid.uuid4().hex}


@blueprint.route(route="condition/{source}", methods=["POST"], auth_level=ROUTE_AUTH)
def condition(req: func.HttpRequest) -> func.HttpResponse:
    """Bring a source up to date through a sales week, or condition one file of it."""

    def body() -> func.HttpResponse:
        caller(req, OPERATOR)
        return answer(_condition({**_with_correlation_id(req, json_body(req)), "source": req.route_params["source"]}))

    return respond(req, body)


@blueprint.route(route="sources", methods=["GET"], auth_level=ROUTE_AUTH)
def list_sources(req: func.HttpRequest) -> func.HttpResponse:
    """List the sources: contract, owner, cadence, dialects, how fresh each is."""

    def body() -> func.HttpResponse:
        from bootstrap import services
        from conditioning.quality import sources_overview

        caller(req, READER)
        return answer({"sources": sources_overview(services())})

    return respond(req, body)


@blueprint.route(route="quality/{source}", methods=["GET"], auth_level=ROUTE_AUTH)
def show_quality(req: func.HttpRequest) -> func.HttpResponse:
    """Show a source's quality, week by week."""

    def body() -> func.HttpResponse:
        from bootstrap import services
        from conditioning.quality import misplaced_files, quality_of

        caller(req, READER)
        source = req.route_params["source"]
        return answer(
            {
                "source": source,
                "weeks": quality_of(services(), source),
                "misplaced_files": misplaced_files(services(), source),
            }
        )

    return respond(req, body)


@blueprint.route(route="quarantine/{source}", methods=["GET"], auth_level=ROUTE_AUTH)
def show_quarantine(req: func.HttpRequest) -> func.HttpResponse:
    """Page through a source's quarantined records."""

    def body() -> func.HttpResponse:
        from bootstrap import services
        from conditioning.quarantine import quarantined_rows
        from domain.sales_weeks import SalesWeek

        caller(req, READER)
        week = SalesWeek.parse(req.params["sales_week"]) if req.params.get("sales_week") else None
        limit, offset = number(req, "limit", 100, _MOST_ROWS), number(req, "offset", 0, 10**9)
        kind = "duplicates" if req.params.get("kind") == "duplicates" else "quarantine"
        return answer(quarantined_rows(services(), req.route_params["source"], week, limit, offset, kind))

    return respond(req, body)


@blueprint.route(route="quarantine/{source}/redrive", methods=["POST"], auth_level=ROUTE_AUTH)
def redrive_quarantine(req: func.HttpRequest) -> func.HttpResponse:
    """Condition a week again, under today's rules or with corrected records."""

    def body() -> func.HttpResponse:
        from bootstrap import services
        from conditioning.quarantine import RedriveRequest, redrive

        actor = caller(req, OPERATOR)
        request = RedriveRequest.from_dict(
            {**_with_correlation_id(req, json_body(req)), "source": req.route_params["source"]}
        )
        outcome = redrive(services(), request)
        services().audit(
            actor,
            "source_redriven",
            f"{request.source}/{request.sales_week}",
            {
                "reason": request.reason,
                "status": outcome["status"],
                "data_version": outcome.get("data_version", ""),
                "corrected_rows": len(request.rows),
                "removed_rows": len(request.remove_rows),
            },
        )
        return answer(outcome)

    return respond(req, body)


@blueprint.route(route="gate/{sales_week}", methods=["GET", "POST"], auth_level=ROUTE_AUTH)
def show_gate(req: func.HttpRequest) -> func.HttpResponse:
    """Say whether a week's data are good enough to run on, and if not, why."""

    def body() -> func.HttpResponse:
        caller(req, READER)
        asked = _with_correlation_id(req, json_body(req))
        _log.info("%s asks for the data gate of %s", asked["correlation_id"], req.route_params["sales_week"])
        failed = asked.get("failed_sources", [])
        if not isinstance(failed, list) or not all(isinstance(name, str) for name in failed):
            raise BadRequest(
                "failed_sources must be a list of source names", field="failed_sources", value=str(failed)[:80],
                remedy="send a list of texts",
            )  # fmt: skip
        return answer(_gate({"sales_week": req.route_params["sales_week"], "failed_sources": failed}))

    return respond(req, body)


def _gate(request: dict[str, Any]) -> dict[str, Any]:
    from bootstrap import services
    from conditioning.gate import data_gate
    from domain.sales_weeks import SalesWeek

    found = services()
    week, failed = SalesWeek.parse(request["sales_week"]), request.get("failed_sources", [])
    return data_gate(found.lake, found.scenario, week, failed)


def _arrival(source: str) -> Callable[[func.InputStream], None]:
    def arrived(blob: func.InputStream) -> None:
        path = str(blob.name).removeprefix("landing/")
        request = {"source": source, "blob_path": path, "correlation_id": uuid.uuid4().hex, "reason": "blob arrived"}
        _log.info("conditioned %s: %s", path, _call(lambda: _condition(request)))

    arrived.__name__ = f"condition_{source}_arrived"
    arrived.__doc__ = f"A raw file of {source} arrived in the landing zone."
    return arrived


for _name in _SOURCES:  # one function a source: one that fails does not stop the others
    blueprint.blob_trigger(
        arg_name="blob",
        path=f"landing/{_name}/{{sales_week}}/{{name}}",
        connection="LAKE",
        source=func.BlobSource.EVENT_GRID,
    )(_arrival(_name))


@blueprint.timer_trigger(arg_name="timer", schedule="0 20 * * * *", run_on_startup=False)
def condition_missed_files(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the binding's name is part of the function
    """Condition whatever arrived without an event, every hour; a source that fails does not stop the others."""
    from bootstrap import services
    from domain.sales_weeks import SalesWeek

    furthest = SalesWeek.of(services().clock.now().date()).plus(8)  # plans and forecasts lie ahead
    for source in _SOURCES:
        try:
            _condition(
                {
                    "source": source,
                    "sales_week": str(furthest),
                    "correlation_id": uuid.uuid4().hex,
                    "reason": "hourly sweep",
                }
            )
        except ShelfcastError as error:
            _log.error("sweep of %s: %s", source, error.message)
            services().telemetry.exception(error, {"source": source})


def _call(body: Callable[[], dict[str, Any]], run_id: str = "", doing: str = "") -> dict[str, Any]:
    """Run an activity's body. What only time can cure answers {"again": seconds}, what nothing can cure {"failed"}."""
    from bootstrap import services

    try:
        return body()
    except ShelfcastError as error:
        if error.retryable:
            if run_id:
                services().waits(run_id, doing, error.message)
            return {"again": float(error.fields.get("retry_after", 5.0)), "why": error.message}
        return {"failed": f"{error.code}: {error.message}"}


@blueprint.activity_trigger(input_name="request", activity=names.CONDITION_SOURCE)
def condition_source(request: dict) -> dict:  # type: ignore[type-arg]
    """See conditioning.service.condition_source."""
    return _call(lambda: _condition(request))


@blueprint.activity_trigger(input_name="request", activity=names.DATA_GATE)
def data_gate(request: dict) -> dict:  # type: ignore[type-arg]
    """See conditioning.gate.data_gate."""
    return _call(lambda: _gate(request), request.get("run_id", ""), names.DATA_GATE)


@blueprint.activity_trigger(input_name="request", activity=names.CURATE_WEEK)
def curate_week(request: dict) -> dict:  # type: ignore[type-arg]
    """See conditioning.curate.curate_week."""
    from bootstrap import services
    from conditioning.curate import curate_week as body

    return _call(lambda: body(services(), request), request.get("run_id", ""), names.CURATE_WEEK)
