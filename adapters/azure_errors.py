"""Every error of the Azure SDKs becomes one of ours, by one table; the caller says what it was doing.

    429, or any status with Retry-After   Throttled, with the seconds; nobody sleeps in an adapter
    404                                   NotFound
    409, 412                              Conflict
    403                                   Forbidden: the app's identity lacks a role, a retry does not help
    401, 408, 5xx, no or half an answer   Unavailable: the same call later may work
    other 4xx, refused by the SDK itself  BadRequest: the request is wrong and stays wrong
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from domain.errors import BadRequest, Conflict, Forbidden, NotFound, ShelfcastError, Throttled, Unavailable

DEFAULT_RETRY_AFTER = 30.0  # seconds, when a service throttles without saying for how long
LONGEST_RETRY_AFTER = 3600.0
MESSAGE_LENGTH = 600  # the SDK's messages may hold whole HTML pages
# The line that matters where the app runs, in the long list of credentials that were tried.
_NO_IDENTITY = re.compile(r"^\s*(ManagedIdentityCredential: .+)$", re.MULTILINE)

_BY_STATUS: dict[int, type[ShelfcastError]] = {
    401: Unavailable, 403: Forbidden, 404: NotFound, 408: Unavailable, 409: Conflict, 412: Conflict,
}


def _utc_now() -> datetime:
    return datetime.now(UTC)


def retry_after_seconds(headers: Mapping[str, str], now: Callable[[], datetime] = _utc_now) -> float | None:
    """Return the seconds that Retry-After asks for (number or HTTP date), or None if it is absent or unreadable.

    A date is read against the answer's own Date, so that the service's clock may differ from ours.
    """
    lower = {key.lower(): headers[key] for key in headers}
    raw = lower.get("retry-after")
    if raw is None:
        return None
    try:
        seconds = float(raw)
    except ValueError:
        until = _http_date(raw)
        if until is None:
            return None
        seconds = (until - (_http_date(lower.get("date", "")) or now())).total_seconds()
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER) if seconds == seconds else None  # noqa: PLR0124 - NaN


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def from_status(status: int, headers: Mapping[str, str], message: str, **fields: Any) -> ShelfcastError:
    """Return the error of an HTTP status."""
    wait = retry_after_seconds(headers)
    if status == 429 or (wait is not None and status >= 500):
        return Throttled(message, retry_after=DEFAULT_RETRY_AFTER if wait is None else wait, status=status, **fields)
    kind = _BY_STATUS.get(status, Unavailable if status >= 500 or status < 400 else BadRequest)
    return kind(message, status=status, **fields)


def from_azure(error: Exception, doing: str, **fields: Any) -> ShelfcastError:
    """Return our error for one of the SDKs'; `doing` begins the message ("submitting job x")."""
    from azure.core.exceptions import ClientAuthenticationError, DecodeError, HttpResponseError

    text = str(getattr(error, "message", "") or error) or type(error).__name__
    if found := _NO_IDENTITY.search(text):
        text = f"{found[1]}; {text}"
    text = text[:MESSAGE_LENGTH]
    message = f"{doing}: {text}"
    if isinstance(error, HttpResponseError) and error.status_code is not None and not isinstance(error, DecodeError):
        if isinstance(error, ClientAuthenticationError) and error.status_code not in (403, 429):
            return Unavailable(message, status=error.status_code, **fields)  # no token now; identity services recover
        headers = dict(getattr(error.response, "headers", None) or {})
        code = getattr(getattr(error, "error", None), "code", None)
        if code:
            fields.setdefault("azure_code", str(code))
        return from_status(error.status_code, headers, message, **fields)
    if isinstance(error, ClientAuthenticationError):
        fields.setdefault("status", 401)  # no token at all
    if _is_refusal(error):
        return BadRequest(message, **fields)
    # No answer, half an answer, no token, not JSON, or the SDK stumbled over what it was sent.
    return Unavailable(f"{doing}: {type(error).__name__}: {text}", **fields)


def _is_refusal(error: Exception) -> bool:
    """Whether azure-ai-ml (or its schema library) found the request itself wrong, before or after sending it."""
    import sys

    # Only an SDK that is loaded can have raised; asking must not cost its import.
    schemas = sys.modules.get("marshmallow.exceptions")
    if schemas is not None and isinstance(error, schemas.ValidationError):
        return True
    ml = sys.modules.get("azure.ai.ml.exceptions")
    if ml is None or not isinstance(error, ml.MlException):
        return False
    # An answer that it cannot read, or cloud metadata that did not come, is not the request's fault.
    return not isinstance(error, ml.JobParsingError) and "Unknown cloud environment" not in str(error)


@contextmanager
def azure_errors(doing: str, **fields: Any) -> Iterator[None]:
    """Turn whatever an SDK raises inside the block into our errors; ours pass through."""
    try:
        yield
    except ShelfcastError:
        raise
    except Exception as error:
        raise from_azure(error, doing, **fields) from error
