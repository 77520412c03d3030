"""One request to an online endpoint, timed, as a rollout's rules want its answer."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from domain.rollout import Probe

DEPLOYMENT_HEADER = "azureml-model-deployment"
SECONDS = 30.0


def probe(url: str, body: Mapping[str, Any], headers: Mapping[str, str], deployment: str) -> Probe:
    """POST a request, to the named deployment or (empty) to whichever is due; status 0 if nobody answers."""
    named = {DEPLOYMENT_HEADER: deployment} if deployment else {}
    request = urllib.request.Request(  # noqa: S310 (the address is a setting or the platform's answer)
        url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers, **named}
    )
    began = time.perf_counter()
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:  # noqa: S310
            status, text = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, b"{}"
    except OSError:
        status, text = 0, b"{}"
    milliseconds = (time.perf_counter() - began) * 1000
    try:
        units = {str(row["product_id"]): float(row["units"]) for row in json.loads(text)["forecasts"]}
    except (ValueError, KeyError, TypeError):
        units = {}
    return Probe(status, milliseconds, units)
