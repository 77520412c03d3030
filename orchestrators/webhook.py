"""The WebHook variant of waiting for a run: Data Factory gives a callback address, we call it when the run ended.

Contract (WebHook activity with reportStatusOnCallBack): {"Output", "Error": {"ErrorCode", "Message"}, "StatusCode"};
a StatusCode of 400 or more fails the activity.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Generator
from typing import Any
from urllib.parse import urlsplit

from azure.durable_functions import DurableOrchestrationContext

from domain import activity_names as names
from domain.errors import BadRequest, Unavailable
from domain.runs import RunStatus, remedy_of
from orchestrators.ledger import RunLedger
from orchestrators.patience import BeginAnew, Patience
from orchestrators.services import RunServices

GAP_SECONDS = 10.0
TIMEOUT_SECONDS = 60
# Whom we call back: Data Factory in each of Azure's clouds. A caller must not make the app reach into a network for it.
_DATA_FACTORY = (
    ".datafactory.azure.com", ".adf.azure.com", ".datafactory.azure.us", ".adf.azure.us", ".datafactory.azure.cn",
    ".adf.azure.cn",
)
_LOCAL = ("127.0.0.1", "localhost", "::1")


def check_callback(address: str) -> str:
    """Return a callback address that we may call; raise BadRequest for any other.

    That is Data Factory's own over https, and, where the app does not run in Azure, this machine's.
    """
    try:
        parts = urlsplit(address)
        host, plain = (parts.hostname or "").lower(), not (parts.username or parts.password or parts.port)
    except ValueError:
        host, plain, parts = "", False, urlsplit("")
    if parts.scheme == "https" and plain and host.endswith(_DATA_FACTORY):
        return address
    if parts.scheme == "http" and host in _LOCAL and "WEBSITE_SITE_NAME" not in os.environ:
        return address
    raise BadRequest("callBackUri is no https address of Data Factory", field="callBackUri", value=address[:200])


class _StayThere(urllib.request.HTTPRedirectHandler):
    """A callback that sends us elsewhere is not followed."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow nothing: the redirect becomes an HTTPError."""


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
        told = f"{document['run_id']} ended {status}: {document['message']}. {remedy_of(status, document['run_id'])}"
        body |= {"StatusCode": "500", "Error": {"ErrorCode": f"run_{status}", "Message": told}}
    address = check_callback(request["callback"])
    call = urllib.request.Request(  # noqa: S310 (the scheme was checked)
        address, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.build_opener(_StayThere).open(call, timeout=TIMEOUT_SECONDS):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise Unavailable(f"the callback answered {error.code}", run_id=document["run_id"]) from error
        return outcome | {"ended": True, "callback": error.code}  # the activity timed out meanwhile: nobody listens
    except OSError as error:
        raise Unavailable(f"the callback cannot be reached: {error}", run_id=document["run_id"]) from error
    return outcome | {"ended": True, "callback": 200}
