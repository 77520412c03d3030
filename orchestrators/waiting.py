"""Why a run waits: said in its own document, so that the page and the API show it as soon as a try has failed.

`waiting` = {since, doing, why} stands there from the first try that failed until one has worked. The note decides
nothing, and a lake that cannot be written to must not make things worse.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from domain.errors import ShelfcastError
from domain.runs import RunStatus
from orchestrators.ledger import Document, RunLedger
from orchestrators.services import RunServices

AGAIN_SECONDS = 5.0
LONGEST_PATIENCE = 900.0  # seconds; a service may ask for more, but deadlines and cancellations must be looked after
MAX_WHY = 600

Body = Callable[..., dict[str, Any]]


def answer_of(services: RunServices, body: Body, request: dict[str, Any]) -> dict[str, Any]:
    """Run an activity's body: its answer, or {again: seconds, why} if only time can cure it, or {failed: why}."""
    try:
        return body(services, request)
    except ShelfcastError as error:
        if not error.retryable:
            return {"failed": f"{error.code}: {error.message}"}
        logging.getLogger(__name__).warning("%s: %s: %s", body.__name__, error.code, error.message)
        if run_id := request.get("run_id"):
            note_waiting(services, run_id, body.__name__, error.message)
        return {"again": patience(error, AGAIN_SECONDS), "why": error.message}


def patience(error: ShelfcastError, usual: float) -> float:
    """Return the seconds to wait before the next try: what the service asked for, within reason, or the usual."""
    return min(float(error.fields.get("retry_after") or usual), LONGEST_PATIENCE)


def note_waiting(services: RunServices, run_id: str, doing: str, why: str) -> None:
    """Say in the run's document what it waits for; the same again writes nothing."""
    now = services.clock.now().isoformat(timespec="milliseconds")

    def change(document: Document) -> None:
        known = document.get("waiting")
        if RunStatus(document["status"]).ended or (known and (known["doing"], known["why"]) == (doing, why[:MAX_WHY])):
            return
        since = known["since"] if known and known["doing"] == doing else now
        document["waiting"] = {"since": since, "doing": doing, "why": why[:MAX_WHY]}

    _change(services, run_id, change)


def note_going_on(services: RunServices, run: Document) -> None:
    """Take the note out again; `run` is the document as it was read, so that nothing is written without need."""
    if run.get("waiting"):
        _change(services, run["run_id"], goes_on)


def goes_on(document: Document) -> None:
    """Take the note out of a document that is being changed."""
    document.pop("waiting", None)


def _change(services: RunServices, run_id: str, change: Callable[[Document], None]) -> None:
    try:
        RunLedger(services.lake).change_run(run_id, change)
    except ShelfcastError as error:
        logging.getLogger(__name__).warning("noting why %s waits: %s", run_id, error.message)
