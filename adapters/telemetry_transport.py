"""One POST to Application Insights: what was taken, what must be tried again, what is refused for good.

OpenCensus' own transport loses a batch when the connection breaks, on 402 and on a 206 that it cannot read. This one
returns whatever was not certainly taken or refused; the caller keeps it on disk.
"""

from __future__ import annotations

import gzip
import json
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from adapters.azure_errors import retry_after_seconds

if TYPE_CHECKING:
    from requests import Response

_logger = logging.getLogger("shelfcast.telemetry")

POST_SECONDS = 10.0
RETRY_FIRST_SECONDS, RETRY_LONGEST_SECONDS = 0.5, 60.0
MAX_REDIRECTS = 5
MAX_ANSWER_BYTES = 1_000_000  # a hundred refused items with their messages have some twenty thousand
SCOPE = "https://monitor.azure.com//.default"
REDIRECTS = frozenset((307, 308))
DROPS = frozenset((400, 404, 405, 410, 411, 413, 414, 415, 422))  # the same bytes would be refused for ever
DIVISIBLE = frozenset((400, 413))  # refused because of one item, or of too many: the others may be fine
RETRIES = frozenset((401, 402, 403, 408, 425, 429, 439, 500, 502, 503, 504))


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Posts envelopes; after a failure it takes none until the pause is over, longer each time."""

    def __init__(self, endpoint: str, credential: Any, post_seconds: float) -> None:
        self._home = self._endpoint = endpoint
        self._credential, self.post_seconds = credential, post_seconds
        self._failures, self._not_before = 0, 0.0
        self._counting = threading.Lock()  # emitters drop too, when the queue is full
        self.sent, self.dropped, self.cause = 0, 0, ""

    @property
    def is_waiting(self) -> bool:
        """Whether the pause after a failure is not over yet."""
        return time.monotonic() < self._not_before

    def send(self, envelopes: list[Any]) -> list[Any]:
        """Post the envelopes and return those that must be tried again."""
        if not envelopes or self.is_waiting:
            return envelopes
        try:
            answer = self._post(envelopes)
        except Exception as error:  # network, identity, an address that is none: nothing is certain to be taken
            return self._later(envelopes, f"{type(error).__name__}: {error}")
        if answer.status == 200:
            return self._accepted(len(envelopes))
        if answer.status in (206, 400) and (told := _told(answer.body, len(envelopes))) is not None:
            return self._partly(envelopes, told)
        if answer.status in DIVISIBLE and len(envelopes) > 1:
            middle = len(envelopes) // 2
            return self.send(envelopes[:middle]) + self.send(envelopes[middle:])
        if answer.status in DROPS:
            text = answer.body[:200].decode("utf-8", "replace")
            self.drop(len(envelopes), f"the service refused them with {answer.status}: {text}")
            return []
        return self._later(envelopes, f"status {answer.status}", retry_after_seconds(answer.headers) or 0.0)

    def _post(self, envelopes: list[Any]) -> _Answer:
        import requests

        from adapters.telemetry_deadline import InTime

        headers = {"Accept": "application/json", "Content-Type": "application/json", "Content-Encoding": "gzip"}
        if self._credential is not None:
            headers["Authorization"] = f"Bearer {self._credential.get_token(SCOPE).token}"
        body = gzip.compress(json.dumps(envelopes).encode(), compresslevel=5)
        with requests.Session() as session:
            session.mount("https://", InTime())
            session.mount("http://", InTime())
            for _ in range(MAX_REDIRECTS):
                with session.post(
                    self._endpoint + "/v2.1/track", data=body, headers=headers, timeout=self.post_seconds,
                    allow_redirects=False, stream=True,
                ) as response:
                    status, target = response.status_code, urlsplit(response.headers.get("Location", ""))
                    safe = target.netloc and target.scheme == urlsplit(self._endpoint).scheme
                    if status not in REDIRECTS or not safe:
                        # A batch that was taken whole needs no more words: an answer that breaks off repeats nothing.
                        told = b"" if status == 200 else _read(response, self.post_seconds)
                        return _Answer(status, response.headers, told)
                self._endpoint = f"{target.scheme}://{target.netloc}"
        raise requests.TooManyRedirects(f"{MAX_REDIRECTS} redirects, the last to {self._endpoint}")

    def _partly(self, envelopes: list[Any], errors: dict[int, int]) -> list[Any]:
        again = [envelopes[index] for index, status in sorted(errors.items()) if status in RETRIES]
        self._accepted(len(envelopes) - len(errors))
        if refused := len(errors) - len(again):
            self.drop(refused, "the service refused single items")
        return self._later(again, "some items") if again else []

    def _accepted(self, count: int) -> list[Any]:
        self.sent += count
        self._failures, self._not_before = 0, 0.0
        return []

    def _later(self, envelopes: list[Any], cause: str, retry_after: float = 0.0) -> list[Any]:
        wait = max(RETRY_FIRST_SECONDS * 2**self._failures, retry_after)
        self._failures = min(self._failures + 1, 10)
        self._not_before = time.monotonic() + min(RETRY_LONGEST_SECONDS, wait)
        self._endpoint = self._home  # wherever a redirect led, it may not lead there any more
        if self._failures == 1:
            _logger.warning("telemetry waits on disk, Application Insights did not take it: %s", cause)
        return envelopes

    def drop(self, count: int, cause: str) -> None:
        """Count what is lost, and say so once."""
        with self._counting:
            if self.dropped == 0:
                _logger.error("telemetry is lost: %s", cause)
            self.dropped += count
            self.cause = cause


def _read(response: Response, seconds: float) -> bytes:
    """Return the body as far as it came in time, whole or not; a peer that trickles must not hold the sender up."""
    body, until = b"", time.monotonic() + seconds
    try:
        while len(body) < MAX_ANSWER_BYTES and time.monotonic() < until:
            part = response.raw.read1(MAX_ANSWER_BYTES, decode_content=True)
            if not part:
                break
            body += part
    except Exception as error:  # broken off: the status is known, and what is missing is read as missing
        _logger.debug("half an answer: %s", error)
    return body


def _told(body: bytes, count: int) -> dict[int, int] | None:
    """Return the status of each item that was not taken, by place; None unless the answer accounts for every item."""
    try:
        answer = json.loads(body)
        errors = {int(error["index"]): int(error["statusCode"]) for error in answer["errors"]}
        accepted = int(answer["itemsAccepted"])
    except (ValueError, KeyError, TypeError):
        return None
    complete = accepted + len(errors) >= count and all(0 <= index < count for index in errors)
    return errors if complete else None
