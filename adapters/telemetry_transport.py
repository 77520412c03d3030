"""One POST to Application Insights: what was taken, what must be tried again, what is refused for good.

OpenCensus' own transport loses a batch when the connection breaks, on 402 and on a 206 that it cannot read. This one
returns whatever was not certainly taken or refused; the caller keeps it on disk.
"""

from __future__ import annotations

import gzip
import json
import logging
import time
from typing import Any
from urllib.parse import urlsplit

_logger = logging.getLogger("shelfcast.telemetry")

POST_SECONDS = 10.0
RETRY_FIRST_SECONDS, RETRY_LONGEST_SECONDS = 0.5, 60.0
MAX_REDIRECTS = 5
SCOPE = "https://monitor.azure.com//.default"
REDIRECTS = frozenset((307, 308))
DROPS = frozenset((400, 404, 405, 410, 411, 414, 415, 422))  # the same bytes would be refused for ever
RETRIES = frozenset((401, 402, 403, 408, 425, 429, 439, 500, 502, 503, 504))


class Transport:
    """Posts envelopes; after a failure it takes none until the pause is over, longer each time."""

    def __init__(self, endpoint: str, credential: Any, post_seconds: float) -> None:
        self._endpoint, self._credential, self.post_seconds = endpoint, credential, post_seconds
        self._failures, self._not_before = 0, 0.0
        self.sent, self.dropped = 0, 0

    @property
    def is_waiting(self) -> bool:
        """Whether the pause after a failure is not over yet."""
        return time.monotonic() < self._not_before

    def send(self, envelopes: list[Any]) -> list[Any]:
        """Post the envelopes and return those that must be tried again."""
        import requests
        from azure.core.exceptions import AzureError

        if not envelopes or self.is_waiting:
            return envelopes
        try:
            response = self._post(envelopes)
        except (requests.RequestException, AzureError, OSError) as error:
            return self._later(envelopes, f"{type(error).__name__}: {error}")
        status = response.status_code
        if status == 200:
            return self._accepted(len(envelopes))
        if status == 206:
            return self._partly(envelopes, response.text)
        if status == 413 and len(envelopes) > 1:
            middle = len(envelopes) // 2
            return self.send(envelopes[:middle]) + self.send(envelopes[middle:])
        if status in DROPS or status == 413:
            self.drop(len(envelopes), f"the service refused them with {status}: {response.text[:200]}")
            return []
        return self._later(envelopes, f"status {status}", response.headers.get("Retry-After", ""))

    def _post(self, envelopes: list[Any]) -> Any:
        import requests

        headers = {"Accept": "application/json", "Content-Type": "application/json", "Content-Encoding": "gzip"}
        if self._credential is not None:
            headers["Authorization"] = f"Bearer {self._credential.get_token(SCOPE).token}"
        body = gzip.compress(json.dumps(envelopes).encode(), compresslevel=5)
        for _ in range(MAX_REDIRECTS):
            response = requests.post(
                self._endpoint + "/v2.1/track", data=body, headers=headers, timeout=self.post_seconds,
                allow_redirects=False,
            )
            target = urlsplit(response.headers.get("Location", ""))
            safe = target.netloc and target.scheme == urlsplit(self._endpoint).scheme
            if response.status_code not in REDIRECTS or not safe:
                break
            self._endpoint = f"{target.scheme}://{target.netloc}"
        return response

    def _partly(self, envelopes: list[Any], body: str) -> list[Any]:
        try:
            answer = json.loads(body)
            errors = {int(error["index"]): int(error["statusCode"]) for error in answer["errors"]}
            complete = int(answer["itemsAccepted"]) + len(errors) >= len(envelopes)
            again = [envelopes[index] for index, status in errors.items() if status in RETRIES]
        except (ValueError, KeyError, TypeError, IndexError):
            complete, errors, again = False, {}, []
        if not complete:
            return self._later(envelopes, "an answer 206 that cannot be read")
        self._accepted(len(envelopes) - len(errors))
        if refused := len(errors) - len(again):
            self.drop(refused, "the service refused single items")
        return self._later(again, "some items") if again else []

    def _accepted(self, count: int) -> list[Any]:
        self.sent += count
        self._failures, self._not_before = 0, 0.0
        return []

    def _later(self, envelopes: list[Any], cause: str, retry_after: str = "") -> list[Any]:
        wait = min(RETRY_LONGEST_SECONDS, RETRY_FIRST_SECONDS * 2**self._failures)
        if retry_after.isdigit():
            wait = min(RETRY_LONGEST_SECONDS, max(wait, float(retry_after)))
        self._failures = min(self._failures + 1, 10)
        self._not_before = time.monotonic() + wait
        if self._failures == 1:
            _logger.warning("telemetry waits on disk, Application Insights did not take it: %s", cause)
        return envelopes

    def drop(self, count: int, cause: str) -> None:
        """Count what is lost, and say so once."""
        if self.dropped == 0:
            _logger.error("telemetry is lost: %s", cause)
        self.dropped += count
