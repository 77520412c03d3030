"""What every route's answer has in common on the wire."""

from __future__ import annotations

import gzip
import json

import azure.functions as func
import pytest

from http_api import answer, respond

LONG = {"rows": [{"segment": "r01-large-fast", "mape": 0.4}] * 100}


def call(document: object, **headers: str) -> func.HttpResponse:
    request = func.HttpRequest("GET", "http://host/api/runs", headers=headers, body=b"")
    return respond(request, lambda: answer(document))


def test_a_long_answer_is_packed_for_a_caller_who_takes_it() -> None:
    packed = call(LONG, **{"Accept-Encoding": "br, GZIP"})
    assert packed.headers["Content-Encoding"] == "gzip" and packed.headers["Cache-Control"] == "no-store"
    assert packed.mimetype == "application/json" and packed.status_code == 200
    assert json.loads(gzip.decompress(packed.get_body())) == LONG
    assert len(packed.get_body()) * 10 < len(call(LONG).get_body())


@pytest.mark.parametrize(("document", "headers"), [(LONG, {}), (LONG, {"Accept-Encoding": "br"}),
                                                   ({"a": 1}, {"Accept-Encoding": "gzip"})])
def test_others_get_it_plain(document: object, headers: dict[str, str]) -> None:
    plain = call(document, **headers)
    assert "Content-Encoding" not in plain.headers and json.loads(plain.get_body()) == document
