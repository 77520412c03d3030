"""A small client of Azure Resource Manager for deployment steps: tokens and retries."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

RESOURCE_MANAGER = "https://management.azure.com"
RETRIES = 5
LONGEST_WAIT_SECONDS = 60.0


class AzureError(Exception):
    """Azure refused; `status` is its HTTP status and the text its own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


def sign_in(scope: str = f"{RESOURCE_MANAGER}/.default") -> Callable[[], str]:
    """Return a function that gives a token of whoever runs this: pipeline identity, managed identity or az login."""
    from azure.identity import DefaultAzureCredential

    credential = DefaultAzureCredential()
    return lambda: credential.get_token(scope).token


@dataclass(frozen=True)
class AzureRest:
    """Calls one endpoint; `path` starts with a slash and carries its api-version."""

    token: Callable[[], str]
    endpoint: str = RESOURCE_MANAGER
    sleep: Callable[[float], None] = time.sleep

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer's JSON, None if it is empty or a 404 on GET or DELETE; raise AzureError otherwise."""
        for attempt in range(RETRIES + 1):
            status, answer, headers = self._send(method, path, body)
            if status in (429, 500, 502, 503, 504) and attempt < RETRIES:
                self.sleep(min(float(headers.get("retry-after", 2**attempt)), LONGEST_WAIT_SECONDS))
                continue
            break
        if status == 404 and method in ("GET", "DELETE"):
            return None
        if status >= 400:
            raise AzureError(status, answer[:500])
        return json.loads(answer) if answer.strip() else None

    def _send(self, method: str, path: str, body: Any) -> tuple[int, str, dict[str, str]]:
        url = path if path.startswith("http") else self.endpoint + path
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token()}", "Content-Type": "application/json"}
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 (Azure's endpoint, or the test's)
        if method == "POST" and data is None:
            request.add_header("Content-Length", "0")
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
                return answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.headers.items()}
        except urllib.error.HTTPError as problem:
            return (
                problem.code,
                problem.read().decode("utf-8", "replace"),
                {k.lower(): v for k, v in problem.headers.items()},
            )
