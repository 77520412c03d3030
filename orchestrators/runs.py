"""Opening, noting and closing a run: everything that changes a run's own document."""

from __future__ import annotations

import logging
from typing import Any

from domain.errors import Conflict
from domain.runs import RunId, RunRequest, RunStatus, Step, is_overridden
from orchestrators.audit import audit_operator
from orchestrators.costing import run_cost
from orchestrators.ledger import Document, RunLedger, step_of
from orchestrators.services import RunServices
from orchestrators.slots import leave_slots
from orchestrators.tracing import operation_id, run_dimensions
from orchestrators.waiting import goes_on

MAX_MESSAGE = 1000


def start_run(services: RunServices, request: RunRequest, traceparent: str = "") -> tuple[RunId, bool]:
    """Return (run id, whether it is new). The same wish again is the same run.

    A run that is under way or ended well is returned as it is, unless the caller forces a new attempt. A failed or
    cancelled one is followed by a new attempt, which adopts every job that is already done or still running. Raises
    Conflict while a run with another wish (other segments, another point in time) is under way. `traceparent` (W3C) is
    the call's: a new run reports under it.
    """
    ledger = RunLedger(services.lake)
    for _ in range(3):
        latest = ledger.latest_attempt(request.kind, str(request.sales_week))
        if latest is not None:
            document = ledger.run(str(latest))
            status = RunStatus(document["status"])
            is_other = _is_other_wish(document, request)
            if not status.ended and is_other:
                raise Conflict(
                    f"{latest} is under way with another wish (segments or as_of)", run_id=str(latest),
                    remedy="wait for its end or cancel it",
                )
            if not status.ended or (status.well and not is_other and not _wants_repetition(document, request)):
                return latest, False
        run_id = latest.next_attempt if latest else RunId(request.kind, request.sales_week, 1)
        if _create(services, ledger, run_id, request, {"traceparent": traceparent}):
            return run_id, True
    raise Conflict(f"others keep starting {request.kind} {request.sales_week}; look at GET /api/runs")


def _is_other_wish(document: Document, request: RunRequest) -> bool:
    """Whether the ended run did something else than what is asked now (other segments, another point in time)."""
    done = document["request"]
    return bool(list(request.segments) != done["segments"] or request.as_of != done["as_of"])


def _wants_repetition(document: Document, request: RunRequest) -> bool:
    """Whether force asks for one more attempt: not if this very call (same correlation id) has made one already."""
    done = document["request"]
    asked_before = done["force"] and request.correlation_id and done["correlation_id"] == request.correlation_id
    return request.force and not asked_before


def start_attempt(services: RunServices, request: RunRequest, after: RunId, extra: Document) -> RunId:
    """Open the next attempt after `after`; raise Conflict if somebody else opened it."""
    run_id = after.next_attempt
    if not _create(services, RunLedger(services.lake), run_id, request, extra):
        raise Conflict(f"{run_id} was started by somebody else", run_id=str(run_id), remedy="look at it first")
    return run_id


def _create(services: RunServices, ledger: RunLedger, run_id: RunId, request: RunRequest, extra: Document) -> bool:
    now = services.clock.now()
    document = {
        "started_at": now.isoformat(timespec="milliseconds"),
        "code_version": services.settings.code_version, "replay_of": "", "redo_from": "", "traceparent": "",
        "forced_by": str(run_id) if request.force else "",
    } | extra
    if not ledger.create(run_id, request, document):
        return False
    _note_start(services, ledger.run(str(run_id)))
    return True


def _note_start(services: RunServices, document: Document) -> None:
    """Write who started the run into the audit trail, once, however often it is called."""
    wish, run_id = document["request"], document["run_id"]
    audit_operator(
        services, wish["requested_by"] or "unknown", "run_started", run_id,
        {key: wish[key] for key in ("reason", "force", "segments", "as_of", "override_gate", "override_gates")}
        | {"correlation_id": document["correlation_id"], "replay_of": document["replay_of"]},
        key=f"run_started/{run_id}",
    )


def open_run(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Return what the orchestrator needs to go through the run: its steps that are still to do, and its request."""
    document = RunLedger(services.lake).run(request["run_id"])
    _note_start(services, document)  # the call that created the run may have died before it could
    services.telemetry.event("run_started", run_dimensions(document) | {
        "reason": document["request"]["reason"], "started_by": document["request"]["requested_by"]})
    todo = [step["name"] for step in document["steps"] if step["status"] not in ("succeeded", "skipped")]
    if todo:
        _begin(services, document["run_id"], todo[0])
    return {
        "steps": todo, "sales_week": document["sales_week"], "as_of": document["request"]["as_of"],
        "override_gate": document["request"]["override_gate"] * is_overridden(document["request"], Step.DATA_GATE),
    }


def note_step(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Record a step's end (`step`, `result`) and the next one's beginning (`next`); return {go_on: bool}."""
    result: dict[str, Any] = request["result"]
    failure = str(result.get("failed", ""))
    now = services.clock.now().isoformat(timespec="milliseconds")

    def change(document: Document) -> None:
        step = step_of(document, request["step"])
        if not step["ended_at"]:
            step["ended_at"] = now
        goes_on(document)
        step["status"] = "failed" if failure else "succeeded"
        step["message"] = (failure or str(result.get("message", "")))[:MAX_MESSAGE]
        step["counts"] = result.get("counts", {})
        document.update(result.get("facts", {}))

    document = RunLedger(services.lake).change_run(request["run_id"], change)
    step = step_of(document, request["step"])
    if result.get("overridden"):
        wish = document["request"]
        audit_operator(
            services, wish["requested_by"] or "unknown", "gate_overridden", document["run_id"],
            {"gate": request["step"], "closed_because": result["overridden"], "reason": wish["override_gate"]},
            key=f"gate_overridden/{document['run_id']}/{request['step']}",
        )
    services.telemetry.event(
        "run_step", run_dimensions(document) | {"step": request["step"], "status": step["status"]},
        {"seconds": _seconds(step["started_at"], step["ended_at"])},
    )
    # Once readers see the new week, a cancellation comes too late: the run finishes its books.
    is_published = step_of(document, request["step"])["name"] in (Step.PUBLISH.value, Step.RESULTS.value)
    if failure or (document["cancel_requested"] and not is_published):
        return {"go_on": False}
    if request.get("next"):
        _begin(services, request["run_id"], request["next"])
    return {"go_on": True}


def _begin(services: RunServices, run_id: str, name: str) -> None:
    now = services.clock.now().isoformat(timespec="milliseconds")

    def change(document: Document) -> None:
        step = step_of(document, name)
        step["started_at"] = step["started_at"] or now
        goes_on(document)
        if step["status"] == "waiting":
            step["status"] = "running"

    RunLedger(services.lake).change_run(run_id, change)


def close_run(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Give the run its final status and return {run_id, status, message}; a second call changes nothing.

    `request["error"]` is the orchestrator's own failure, if it had one. A run is degraded when it published with
    anything in failover state or with failed jobs.
    """
    error = str(request.get("error", ""))
    cost = run_cost(services, request["run_id"])
    now = services.clock.now().isoformat(timespec="milliseconds")

    def change(document: Document) -> None:
        if RunStatus(document["status"]).ended:
            return
        goes_on(document)
        failed = [step for step in document["steps"] if step["status"] == "failed"]
        unfinished = [step for step in document["steps"] if step["status"] in ("waiting", "running")]
        if document["cancel_requested"] and (failed or unfinished or error):
            status, message = RunStatus.CANCELLED, f"cancelled: {document['cancel_requested']}"
        elif failed:
            status, message = RunStatus.FAILED, f"{failed[0]['name']}: {failed[0]['message']}"
        elif error or unfinished:
            status, message = RunStatus.FAILED, error or f"{unfinished[0]['name']} did not finish"
        elif document.get("failovers") or document.get("failed_jobs"):
            status = RunStatus.DEGRADED
            message = f"{document.get('failovers', 0)} segments in failover state"
        else:
            status, message = RunStatus.SUCCEEDED, "done"
        for step in unfinished:
            step["status"] = "failed" if step["status"] == "running" else "skipped"
            step["message"] = step["message"] or message[:MAX_MESSAGE]
        document.update({"status": status.value, "message": message[:MAX_MESSAGE], "ended_at": now, "cost": cost})

    document = RunLedger(services.lake).change_run(request["run_id"], change)
    leave_slots(services, document["run_id"])
    try:
        services.results.write_run(document | {"operation_id": operation_id(document)})
    except Exception as failure:  # the ledger is the truth: a result database that is down must not keep a run open
        logging.getLogger(__name__).exception("the run's row in the result tables")
        services.telemetry.exception(failure, run_dimensions(document))
    _emit_end(services, document)
    services.telemetry.flush()
    return {"run_id": document["run_id"], "status": document["status"], "message": document["message"]}


def _emit_end(services: RunServices, document: Document) -> None:
    completeness = document.get("completeness") or {}
    quality = document.get("model_quality") or {}
    measures = {key: completeness[key] for key in ("expected", "scored", "gap") if key in completeness}
    measures |= {key: quality[key] for key in ("mape", "baseline_mape", "rmse_0", "rmse_all") if quality.get(key)}
    failed = next((step["name"] for step in document["steps"] if step["status"] == "failed"), "")
    services.telemetry.event(
        f"run_{document['status']}",
        run_dimensions(document) | {"status": document["status"], "message": document["message"], "step": failed},
        {key: float(value) for key, value in measures.items()} | {
            "seconds": _seconds(document["started_at"], document["ended_at"]),
            "failover_segments": float(document.get("failovers", 0)),
        },
    )
    for phase, spent in document["cost"]["phases"].items():
        services.telemetry.event(
            "run_cost", run_dimensions(document) | {"phase": phase},
            {"node_minutes": spent["node_minutes"], "amount": spent["cost"]},
        )


def request_cancel(services: RunServices, run_id: str, actor: str, reason: str) -> Document:
    """Ask a running run to stop: its jobs are cancelled at the next look, then it ends as cancelled."""
    RunId.parse(run_id)

    def change(document: Document) -> None:
        if RunStatus(document["status"]).ended:
            raise Conflict(f"{run_id} has ended as {document['status']}", run_id=run_id, remedy="nothing to cancel")
        document["cancel_requested"] = document["cancel_requested"] or f"{actor}: {reason}"

    document = RunLedger(services.lake).change_run(run_id, change)
    audit_operator(services, actor, "run_cancelled", run_id, {"reason": reason}, key=f"run_cancelled/{run_id}")
    return document


def _seconds(start: str, end: str) -> float:
    from datetime import datetime

    if not start or not end:
        return 0.0
    return round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds(), 3)
