"""The online endpoint of one machine: a router (`adapters.endpoint_local`) before the inference servers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.endpoint_probe import probe
from domain.errors import BadRequest, Unavailable
from domain.rollout import Probe

SECONDS = 10.0


@dataclass(frozen=True)
class RouterEndpoint:
    """Implements domain.ports.OnlineEndpoint; `url` is the router's."""

    url: str

    def set_traffic(self, live: Mapping[str, int], mirror: Mapping[str, int]) -> bool:
        """Set the shares; they are in force at once."""
        body = json.dumps({"live": dict(live), "mirror": dict(mirror)}).encode()
        request = urllib.request.Request(f"{self.url}/router", body, method="PUT")  # noqa: S310 (a setting)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS):  # noqa: S310
                return True
        except urllib.error.HTTPError as error:
            raise BadRequest(f"the router refuses the traffic: {error.read().decode()}", field="live") from error
        except OSError as error:
            raise Unavailable(f"the router {self.url} does not answer: {error}") from error

    def ask(self, body: Mapping[str, Any], deployment: str = "") -> Probe:
        """Send one request."""
        return probe(f"{self.url}/score", body, {}, deployment)
