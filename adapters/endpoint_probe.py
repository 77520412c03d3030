"""Requests to the address of an endpoint, and one to an online endpoint as a rollout's rules want its answer."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from domain.rollout import Probe

DEPLOYMENT_HEADER = "azureml-model-deployment"
CA_BUNDLE = "REQUESTS_CA_BUNDLE"
SECONDS = 30.0


def probe(url: str, body: Mapping[str, Any], headers: Mapping[str, str], deployment: str) -> Probe:
    """POST a request, to the named deployment or (empty) to whichever is due; status 0 if nobody answers."""
    named = {DEPLOYMENT_HEADER: deployment} if deployment else {}
    began = time.perf_counter()
    try:
        status, _, text = post(url, body, {**headers, **named})
    except OSError:
        status, text = 0, b"{}"
    milliseconds = (time.perf_counter() - began) * 1000
    try:
        units = {str(row["product_id"]): float(row["units"]) for row in json.loads(text)["forecasts"]}
    except (ValueError, KeyError, TypeError):
        units = {}
    return Probe(status, milliseconds, units)


def post(url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
    """POST JSON; return status, headers and body of the answer. Raise OSError if there is none, or half of one."""
    request = urllib.request.Request(  # noqa: S310 (the address is a setting or the platform's answer)
        url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
    )
    trust = _trust(os.environ.get(CA_BUNDLE, ""))
    try:
        try:
            response = urllib.request.urlopen(request, timeout=SECONDS, context=trust)  # noqa: S310
        except urllib.error.HTTPError as error:
            response = error
        with response:
            return response.status, dict(response.headers), response.read()
    except http.client.HTTPException as error:
        raise OSError(f"half an answer: {error!r}") from error


@lru_cache(maxsize=1)
def _trust(bundle: str) -> ssl.SSLContext:
    """Return the certificate authorities: the machine's, or those that the Azure SDKs are told to trust."""
    return ssl.create_default_context(cafile=bundle or None)
