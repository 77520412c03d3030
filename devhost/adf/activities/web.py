"""Calls over HTTP: WebActivity (which follows a 202), WebHook (which waits for a callback), AzureFunctionActivity."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urljoin

from devhost.adf.calls import Call
from devhost.adf.errors import ActivityFailure
from devhost.adf.expressions import Bindings
from devhost.adf.http import Answer, HttpCaller, Unreachable, basic
from devhost.adf.parameters import bind, specs
from devhost.adf.scope import resolve
from devhost.adf.spans import span_seconds

FUNCTION_SECONDS: Final = 230.0  # the platform's load balancer cuts every HTTP request of a function app here
ANSWER_SECONDS: Final = 60.0
POLL_SECONDS: Final = 15.0  # between polls when the answer has no Retry-After
WEBHOOK_SECONDS: Final = 600.0
WEB_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
FUNCTION_METHODS: Final = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE")
IDENTITIES: Final = ("MSI", "UserAssignedManagedIdentity")


async def web_activity(call: Call) -> dict[str, Any]:
    """Calls an endpoint; a 202 with a Location is polled until another status comes, unless turnOffAsync."""
    method = _method(call, WEB_METHODS)
    url = str(call.property("url"))
    body = None if method == "GET" else call.property("body")
    shown = _headers(call)
    call.input = {"url": url, "method": method, "headers": shown, **({} if body is None else {"body": body})}
    headers = shown | _credentials(call)
    seconds = span_seconds(call.property("httpRequestTimeout", ANSWER_SECONDS))
    verify = call.property("disableCertValidation", False) is not True
    begun = call.services.clock.now()
    answer = await _send(call, method, url, headers, body, seconds, verify=verify)
    follow = call.property("turnOffAsync", False) is not True
    while follow and answer.status == HTTPStatus.ACCEPTED and answer.header("Location"):
        url = urljoin(call.services.http.address(answer.url), str(answer.header("Location")))
        await call.services.clock.wait(_retry_after(answer, call.services.clock.now()))
        answer = await _send(call, "GET", url, headers, None, seconds, verify=verify)
    _refuse_bad(call, answer, url)
    output = _web_output(answer)
    output["ADFWebActivityResponseHeaders"] = dict(answer.headers)
    return output | _meter(begun, call.services.clock.now())


async def web_hook(call: Call) -> dict[str, Any]:
    """Calls an endpoint with a callBackUri in the body and waits until that address is called."""
    url = str(call.property("url"))
    body = call.property("body", {})
    if isinstance(body, str):
        try:
            body = json.loads(body) if body.strip() else {}
        except ValueError:
            raise ActivityFailure("Body has invalid JSON", code="BadRequest", retryable=False) from None
    if not isinstance(body, dict):
        raise ActivityFailure("Body has invalid JSON: an object is needed", code="BadRequest", retryable=False)
    shown = _headers(call)
    call.input = {"url": url, "method": "POST", "headers": shown, "body": dict(body)}
    timeout = call.property("timeout")
    seconds = WEBHOOK_SECONDS if timeout is None else span_seconds(timeout)
    async with call.services.callbacks.expect() as callback:
        sent = {**body, "callBackUri": callback.uri}
        answer = await _send(call, "POST", url, shown | _credentials(call), sent, ANSWER_SECONDS)
        _refuse_bad(call, answer, url)
        try:
            async with asyncio.timeout(call.services.clock.limit(seconds)):
                told = await callback.body()
        except TimeoutError:
            raise ActivityFailure(
                f"The callback did not come within {timeout or '00:10:00'}", code="TimedOut", status="TimedOut"
            ) from None
    return _callback_output(told, report=call.property("reportStatusOnCallBack", False) is True)


async def azure_function(call: Call) -> dict[str, Any]:
    """Calls a function by its route; the answer must be a JSON object within 230 s, and a 202 is not followed."""
    method = _method(call, FUNCTION_METHODS)
    name = str(call.property("functionName", "")).lstrip("/")
    if not name:
        raise ActivityFailure("function name is missing", code="3607", retryable=False)
    body = call.property("body") if method not in ("GET", "HEAD", "TRACE") else None
    shown = _headers(call)
    call.input = {"functionName": name, "method": method, "headers": shown, **({} if body is None else {"body": body})}
    settings = _linked_service(call)
    url = f"{str(settings.get('functionAppUrl', '')).rstrip('/')}/api/{name}"
    headers = shown | _function_credentials(call, settings)
    begun = call.services.clock.now()
    try:
        answer = await _http(call).send(method, url, headers=headers, body=body, seconds=FUNCTION_SECONDS)
    except Unreachable as error:
        raise ActivityFailure(
            f"Call to provided Azure function '{name}' failed with status-'GatewayTimeout' and message - '{error}'."
            if "no answer" in str(error)
            else f"There was an error while calling endpoint. {error}",
            code="3608" if "no answer" in str(error) else "3609",
        ) from None
    if answer.status >= HTTPStatus.BAD_REQUEST:
        raise ActivityFailure(
            f"Call to provided Azure function '{name}' failed with status-'{_phrase(answer)}' and message - "
            f"'{'***' if call.secure('secureOutput') else answer.text[:2000]}'.",
            code="3608",
        )
    if answer.too_large:
        raise ActivityFailure("The length of execution output is over limit (4MB)", code="2001", retryable=False)
    try:
        output = answer.json()
    except ValueError:
        output = None
    if not isinstance(output, dict):
        raise ActivityFailure(
            f"Response Content is not a valid JObject: {answer.text[:200]}", code="3603", retryable=False
        )
    return output | _meter(begun, call.services.clock.now())


def _http(call: Call) -> HttpCaller:
    caller = call.services.http
    assert isinstance(caller, HttpCaller)
    return caller


async def _send(
    call: Call, method: str, url: str, headers: Mapping[str, str], body: Any, seconds: float, *, verify: bool = True
) -> Answer:
    try:
        return await _http(call).send(method, url, headers=headers, body=body, seconds=seconds, verify=verify)
    except Unreachable as error:
        raise ActivityFailure(
            f"Error calling the endpoint '{url}'. Response status code: 'NA - Unknown'. More details: {error}",
            code="2108",
        ) from None


def _refuse_bad(call: Call, answer: Answer, url: str) -> None:
    if answer.status >= HTTPStatus.BAD_REQUEST:
        details = "***" if call.secure("secureOutput") else answer.text[:2000]
        raise ActivityFailure(
            f"Error calling the endpoint '{url}'. Response status code: '{answer.status} - {_phrase(answer)}'. "
            f"More details: {details}",
            code="2108",
        )
    if answer.too_large:
        raise ActivityFailure("The length of execution output is over limit (4MB)", code="2001", retryable=False)


def _web_output(answer: Answer) -> dict[str, Any]:
    """A JSON object as it is; text under `Response`; another JSON value is refused, as the service refuses it."""
    try:
        found = answer.json()
    except ValueError:
        return {"Response": answer.text}
    if isinstance(found, dict):
        return found
    if "json" not in (answer.header("Content-Type") or ""):
        return {"Response": answer.text}
    raise ActivityFailure("Response Content is not a valid JObject", code="2110", retryable=False)


def _callback_output(told: Any, *, report: bool) -> dict[str, Any]:
    body = told if isinstance(told, dict) else {"Response": told}
    if not report:
        return body
    named = {str(key).lower(): value for key, value in body.items()}
    output = named.get("output")
    output = output if isinstance(output, dict) else {}
    try:
        status = int(str(named.get("statuscode", "200")))
    except ValueError:
        raise ActivityFailure(
            f"The callback's StatusCode {named.get('statuscode')!r} is not a number", code="BadRequest", output=output
        ) from None
    if status < HTTPStatus.BAD_REQUEST:
        return output
    error = {str(k).lower(): v for k, v in (named.get("error") or {}).items()}
    raise ActivityFailure(
        str(error.get("message") or f"The callback reported status code {status}"),
        code=str(error.get("errorcode") or status),
        output=output,
    )


def _method(call: Call, allowed: tuple[str, ...]) -> str:
    method = str(call.property("method", "GET")).upper()
    if method not in allowed:
        raise ActivityFailure(
            f"Invalid HttpMethod: '{method}'; allowed: {', '.join(allowed)}", code="3602", retryable=False
        )
    return method


def _headers(call: Call) -> dict[str, str]:
    headers = call.property("headers", {})
    if isinstance(headers, str):
        try:
            headers = json.loads(headers) if headers.strip() else {}
        except ValueError:
            headers = {}
    return {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in headers.items()}


def _credentials(call: Call) -> dict[str, str]:
    settings = call.activity.properties.get("authentication") or {}
    kind = str(settings.get("type", "")) if isinstance(settings, dict) else ""
    if kind in IDENTITIES:
        return dict(_http(call).identity_headers)
    if kind == "Basic":
        user, password = call.resolve(settings.get("username")), secret(call, settings.get("password"))
        return {"Authorization": basic(str(user), password)}
    return {}


def secret(call: Call, value: Any) -> str:
    """The text of a SecureString, or of a Key Vault secret that the caller handed over. Raises ActivityFailure."""
    if isinstance(value, dict) and value.get("type") == "AzureKeyVaultSecret":
        name = str(call.resolve(value.get("secretName")))
        secrets = call.services.secrets
        if name not in secrets:
            raise ActivityFailure(f"Key Vault secret {name!r} was not handed over; give --secret {name}=env:VARIABLE")
        return secrets[name]
    found = call.resolve(value.get("value") if isinstance(value, dict) and "value" in value else value)
    return "" if found is None else str(found)


def _linked_service(call: Call) -> dict[str, Any]:
    reference = call.activity.linked_service
    if reference is None:
        raise ActivityFailure("Azure function activity definition is not complete: no linked service", code="3612")
    name = str(reference.get("referenceName"))
    service = call.services.factory.linked_service(name)
    given = call.resolve(reference.get("parameters") or {})
    values = bind(given, specs(service.get("parameters")), owner=f"linked service {name!r}", strict=False)
    settings = dict(service.get("typeProperties") or {})
    bindings = Bindings(
        pipeline={"globalParameters": call.services.factory.global_parameters}, context={"linkedService": values}
    )
    return {k: v if isinstance(v, dict) and "secretName" in v else resolve(v, bindings) for k, v in settings.items()}


def _function_credentials(call: Call, settings: Mapping[str, Any]) -> dict[str, str]:
    """The function's key, or what stands for the identity; a Key Vault key that nobody handed over is left out."""
    key = settings.get("functionKey")
    stored = isinstance(key, dict) and key.get("type") == "AzureKeyVaultSecret"
    name = str(call.resolve(key.get("secretName"))) if isinstance(key, dict) else ""
    if (
        not key
        or str(settings.get("authentication", "")).upper() == "MSI"
        or (stored and name not in call.services.secrets)
    ):
        return dict(_http(call).identity_headers)
    return {"x-functions-key": secret(call, key)}


def _retry_after(answer: Answer, now: datetime) -> float:
    text = answer.header("Retry-After")
    if not text:
        return POLL_SECONDS
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(text).astimezone(UTC) - now).total_seconds())
    except ValueError:
        return POLL_SECONDS


def _phrase(answer: Answer) -> str:
    try:
        return HTTPStatus(answer.status).phrase.title().replace(" ", "").replace("-", "")
    except ValueError:
        return str(answer.status)


def _meter(begun: datetime, ended: datetime) -> dict[str, Any]:
    """What the service adds to the output of a call."""
    return {
        "effectiveIntegrationRuntime": "AutoResolveIntegrationRuntime (this machine)",
        "executionDuration": round((ended - begun).total_seconds()),
        "durationInQueue": {"integrationRuntimeQueue": 0},
    }
