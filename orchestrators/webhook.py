"""The WebHook variant of waiting for a run: Data Factory gives a callback address, we call it when the run ended.

Contract (WebHook activity with reportStatusOnCallBack): {"Output", "Error": {"ErrorCode", "Message"}, "StatusCode"};
a StatusCode of 400 or more fails the activity.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Generator
from typing import Any
from urllib.parse import urlsplit

from azure.durable_functions import DurableOrchestrationContext

from domain import activity_names as names
from domain.errors import BadRequest, Unavailable
from domain.runs import RunStatus
from orchestrators.ledger import RunLedger
from orchestrators.patience import BeginAnew, Patience
from orchestrators.services import RunServices

GAP_SECONDS = 10.0
TIMEOUT_SECONDS = 60
_LOCAL = ("127.0.0.1", "localhost", "::1")


def check_callback(address: str) -> str:
    """Return a callback address that we may call: https anywhere, http only on this machine; raise BadRequest."""
    parts = urlsplit(address)
    if parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)):
        return address
    raise BadRequest("callBackUri must be an https address", field="callBackUri", value=address[:200])


def await_run(context: DurableOrchestrationContext) -> Generator[Any, Any, Any]:
    """Orchestrate the wait; input {run_id, callback}. The answer is sent once the ledger says that the run ended."""
    request: Any = context.get_input()
    patience = Patience(context)
    try:
        while True:
            answer = yield from patience.call(names.CALL_BACK, request)
            if answer.get("ended", True):
                return answer
            yield from patience.wait(GAP_SECONDS)
    except BeginAnew:
        context.continue_as_new(request)
        return None


def call_back(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Send the callback if the run has ended; return {ended}. Raises Unavailable if the caller cannot be reached."""
    document = RunLedger(services.lake).run(request["run_id"])
    status = RunStatus(document["status"])
    if not status.ended:
        return {"ended": False}
    outcome = {"run_id": document["run_id"], "status": document["status"], "message": document["message"]}
    body: dict[str, Any] = {"Output": outcome, "StatusCode": "200"}
    if not status.well:
        body |= {"StatusCode": "500", "Error": {"ErrorCode": f"run_{status}", "Message": document["message"]}}
    address = check_callback(request["callback"])
    call = urllib.request.Request(  # noqa: S310 (the scheme was checked)
        address, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(call, timeout=TIMEOUT_SECONDS):  # noqa: S310 (the scheme was checked)
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise Unavailable(f"the callback answered {error.code}", run_id=document["run_id"]) from error
        return outcome | {"ended": True, "callback": error.code}  # the activity timed out meanwhile: nobody listens
    except OSError as error:
        raise Unavailable(f"the callback cannot be reached: {error}", run_id=document["run_id"]) from error
    return outcome | {"ended": True, "callback": 200}
