"""The error map is complete: every HTTP status and every exception of the SDKs has a meaning for us."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from types import ModuleType, SimpleNamespace
from typing import Any

import azure.ai.ml.exceptions as ml_exceptions
import azure.core.exceptions as core_exceptions
import azure.identity
import marshmallow
import pytest

from adapters.azure_errors import LONGEST_RETRY_AFTER, azure_errors, from_azure, from_status, retry_after_seconds
from domain.errors import (
    BadRequest,
    BlobNotFound,
    Conflict,
    Forbidden,
    NotFound,
    ShelfcastError,
    Throttled,
    Unavailable,
)

PERMANENT = {400: BadRequest, 403: Forbidden, 404: NotFound, 409: Conflict, 412: Conflict}


def response(status: int, **headers: str) -> Any:
    return SimpleNamespace(
        status_code=status, reason="reason", headers=headers, body=lambda: b"", text=lambda **_: "", request=None
    )


@pytest.mark.parametrize("status", range(400, 600))
def test_every_status_has_a_meaning(status: int) -> None:
    error = from_azure(core_exceptions.HttpResponseError("no", response=response(status)), "asking", job="j")
    assert error.fields["job"] == "j"
    assert error.message.startswith("asking: ")
    if status == 429:
        assert type(error) is Throttled
    elif status in (401, 408) or status >= 500:
        assert type(error) is Unavailable
    else:
        assert type(error) is PERMANENT.get(status, BadRequest)
        assert not error.retryable


def exceptions_of(*modules: ModuleType) -> list[type[Exception]]:
    found = {
        item
        for module in modules
        for _, item in inspect.getmembers(module, inspect.isclass)
        if issubclass(item, Exception) and item.__module__.startswith("azure.")
    }
    return sorted(found, key=lambda item: item.__name__)


@pytest.mark.parametrize("kind", exceptions_of(core_exceptions, ml_exceptions, azure.identity))
def test_every_exception_of_the_sdks_has_a_meaning(kind: type[Exception]) -> None:
    """A refusal by azure-ai-ml is for good, the rest may pass; nothing becomes a plain error."""
    bare = kind.__new__(kind)
    Exception.__init__(bare, "something")
    bare.message, bare.status_code, bare.response = "something", None, None  # type: ignore[attr-defined]
    error = from_azure(bare, "asking")
    refused = issubclass(kind, ml_exceptions.MlException) and not issubclass(kind, ml_exceptions.JobParsingError)
    assert type(error) is (BadRequest if refused else Unavailable)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (marshmallow.ValidationError("bad yaml"), BadRequest),
        (ml_exceptions.MlException(message='Unknown cloud environment "x".', no_personal_data_message=""), Unavailable),
        (azure.identity.CredentialUnavailableError("no identity"), Unavailable),
        (core_exceptions.ClientAuthenticationError("x", response=response(400)), Unavailable),
        (core_exceptions.ClientAuthenticationError("x", response=response(403)), Forbidden),
        (core_exceptions.DecodeError("half an answer", response=response(200)), Unavailable),
        (ConnectionResetError("reset"), Unavailable),
        (ValueError("Expecting value: line 1 column 1"), Unavailable),
        (AttributeError("'NoneType' object has no attribute 'job_type'"), Unavailable),
    ],
)
def test_errors_around_the_request(error: Exception, expected: type[ShelfcastError]) -> None:
    assert type(from_azure(error, "asking")) is expected


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [
        ("17", 17.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("99999999", LONGEST_RETRY_AFTER),
        ("Mon, 05 Jan 2026 06:01:30 GMT", 90.0),
        ("soon", None),
        ("nan", None),
        ("", None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(raw: str, seconds: float | None) -> None:
    now = datetime(2026, 1, 5, 6, 0, tzinfo=UTC)
    assert retry_after_seconds({"retry-after": raw}, lambda: now) == seconds


def test_throttling_says_how_long() -> None:
    assert from_status(429, {"Retry-After": "17"}, "m").fields["retry_after"] == 17
    assert from_status(429, {}, "m").fields["retry_after"] > 0
    assert from_status(503, {"Retry-After": "5"}, "m").fields["retry_after"] == 5


def test_our_own_errors_pass_through() -> None:
    with pytest.raises(BlobNotFound), azure_errors("asking"):
        raise BlobNotFound("gone")


def test_a_date_to_wait_for_is_read_by_the_services_own_clock() -> None:
    headers = {"Retry-After": "Mon, 06 Nov 2017 06:01:00 GMT", "Date": "Mon, 06 Nov 2017 06:00:15 GMT"}
    assert retry_after_seconds(headers) == 45
    assert retry_after_seconds(headers | {"Date": "nonsense"}, lambda: datetime(2017, 11, 6, 6, tzinfo=UTC)) == 60
