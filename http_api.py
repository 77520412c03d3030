"""What every HTTP binding shares: reading a request, shaping an answer, telling who calls."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import os
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import azure.functions as func

from domain.errors import BadRequest, Forbidden, ShelfcastError
from domain.tracing import parse_traceparent

MAX_BODY_BYTES = 1_000_000  # every body here is a small JSON object
MIN_GZIP_BYTES = 1024  # below that the headers cost more than the body saves
READER = "reader"
OPERATOR = "operator"
_PRINCIPAL = "x-ms-client-principal"
# With sign-in (HTTP_AUTH=entra) the platform turns strangers away before they get here and vouches for the principal
# header; a function key on top would lock out managed identities, which have none.
SIGNED_IN = os.environ.get("HTTP_AUTH", "keys") == "entra"
ROUTE_AUTH = func.AuthLevel.ANONYMOUS if SIGNED_IN else func.AuthLevel.FUNCTION


def answer(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> func.HttpResponse:
    """Return a JSON answer."""
    return func.HttpResponse(
        json.dumps(document, ensure_ascii=False), status_code=status, mimetype="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def problem(error: ShelfcastError, instance: str = "") -> func.HttpResponse:
    """Return an RFC 9457 problem document; a throttled call says when to come back."""
    headers = {"Cache-Control": "no-store"}
    if error.retryable:
        headers["Retry-After"] = str(int(float(error.fields.get("retry_after", 10))))
    return func.HttpResponse(
        json.dumps(error.to_problem(instance), ensure_ascii=False, default=str), status_code=error.http_status,
        mimetype="application/problem+json", headers=headers,
    )


def respond(request: func.HttpRequest, body: Callable[[], func.HttpResponse]) -> func.HttpResponse:
    """Run a binding's body and turn its errors into problem documents; an unforeseen one is logged and a 500."""
    try:
        return _packed(request, body())
    except ShelfcastError as error:
        return problem(error, request.url)
    except Exception:
        incident = uuid.uuid4().hex
        logging.getLogger(__name__).exception("unforeseen error, incident %s, at %s", incident, request.url)
        return problem(ShelfcastError(f"something went wrong; the log names it as incident {incident}"), request.url)


def _packed(request: func.HttpRequest, response: func.HttpResponse) -> func.HttpResponse:
    """Return the answer in gzip where the caller takes it: JSON shrinks to a tenth, and no platform does it for us."""
    body = response.get_body()
    if len(body) < MIN_GZIP_BYTES or "gzip" not in (request.headers.get("Accept-Encoding") or "").lower():
        return response
    return func.HttpResponse(
        gzip.compress(body, compresslevel=1, mtime=0), status_code=response.status_code, mimetype=response.mimetype,
        headers={**response.headers, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"},
    )


def traceparent(request: func.HttpRequest, context: func.Context) -> str:
    """Return the W3C trace of this call: the invocation's, which continues its caller's, else the caller's; or ""."""
    for text in (getattr(context.trace_context, "trace_parent", ""), request.headers.get("traceparent")):
        if parse_traceparent(text):
            return str(text).strip().lower()
    return ""


def json_body(request: func.HttpRequest) -> dict[str, Any]:
    """Return the request's JSON object; an empty body is {}. Raise BadRequest for anything else."""
    raw = request.get_body()
    if len(raw) > MAX_BODY_BYTES:
        raise BadRequest(f"the body has {len(raw)} bytes, at most {MAX_BODY_BYTES} are taken", field="body")
    if not raw.strip():
        return {}
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}", field="body", remedy="send a JSON object") from error
    if not isinstance(document, dict):
        raise BadRequest("the body must be a JSON object", field="body", remedy="send {...}")
    return document


def number(request: func.HttpRequest, name: str, default: int, highest: int) -> int:
    """Return a whole-number query parameter between 0 and `highest`; raise BadRequest."""
    raw = request.params.get(name)
    if raw is None:
        return default
    if not (raw.isascii() and raw.isdigit()) or int(raw) > highest:
        raise BadRequest(f"{name}={raw!r} must be a whole number from 0 to {highest}", field=name, value=raw)
    return int(raw)


def caller(request: func.HttpRequest, role: str) -> str:
    """Return who calls, if the role allows it; raise Forbidden otherwise.

    With App Service authentication the platform sends the client principal, whose app roles decide (an operator may
    also read). Without it the host has already checked the function key, and whoever has the key is an operator;
    a principal that somebody with the key sends along can only narrow what they may do.
    """
    raw = request.headers.get(_PRINCIPAL)
    if not raw:
        if SIGNED_IN:
            raise Forbidden("nobody is signed in", role=role, remedy="sign in with Entra ID")
        return "function key"
    try:
        principal = json.loads(base64.b64decode(raw))
        claims = principal.get("claims", [])
        roles = {claim["val"] for claim in claims if claim.get("typ") in (principal.get("role_typ", "roles"), "roles")}
        name = next((c["val"] for c in claims if c.get("typ") == principal.get("name_typ", "name")), "")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Forbidden("the client principal cannot be read", remedy="sign in again") from error
    if role not in roles and OPERATOR not in roles:
        raise Forbidden(f"this needs the app role {role}", role=role, remedy="ask for the role in Entra ID")
    return str(name or principal.get("userId") or "unnamed principal")
