"""A runner's HTTP session: addresses mapped to this machine, credentials in place of the managed identity."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from devhost.adf.clock import Clock

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, read whole (up to the service's 4 MB; `too_large` when it was more)."""

    status: int
    reason: str
    headers: Mapping[str, str]
    text: str
    url: str
    too_large: bool = False

    def json(self) -> Any:
        """The parsed body. Raises ValueError when it is not JSON."""
        return json.loads(self.text)

    def header(self, name: str) -> str | None:
        """A header's value, whatever its case."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), None)


class Unreachable(Exception):
    """No HTTP answer came: refused, reset, name unknown, or not in time."""


class HttpCaller:
    """Sends requests. `addresses`: (from, to) prefixes; `identity_headers` stand for the managed identity."""

    def __init__(
        self,
        clock: Clock,
        *,
        addresses: Sequence[tuple[str, str]] = (),
        identity_headers: Mapping[str, str] | None = None,
    ) -> None:
        self._clock = clock
        self._addresses = tuple((old.rstrip("/"), new.rstrip("/")) for old, new in addresses)
        self.identity_headers = dict(identity_headers or {})
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HttpCaller:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=True
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def address(self, url: str) -> str:
        """Where a URL of the definition leads on this machine."""
        for old, new in self._addresses:
            if (
                url.lower() == old.lower()
                or url.lower().startswith(old.lower() + "/")
                or (url.lower().startswith(old.lower() + "?"))
            ):
                return new + url[len(old) :]
        return url

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: Any = None,
        seconds: float,
        verify: bool = True,
    ) -> Answer:
        """One request and its answer within so many seconds of the service's time. Raises Unreachable."""
        assert self._session is not None, "the caller is used inside its `async with`"
        sent = {str(k): str(v) for k, v in headers.items() if v is not None}
        data = None if body is None else payload(body).encode()
        if data is not None and not any(k.lower() == "content-type" for k in sent):
            sent["Content-Type"] = "application/json"
        tls: ssl.SSLContext | bool = verify
        try:
            async with asyncio.timeout(self._clock.limit(seconds)):
                async with self._session.request(
                    method.upper(),
                    self.address(url),
                    headers=sent,
                    data=data,
                    ssl=tls,
                    timeout=aiohttp.ClientTimeout(total=None),
                ) as answer:
                    raw = await answer.content.read(-1)
                    return Answer(
                        status=answer.status,
                        reason=answer.reason or "",
                        headers=dict(answer.headers),
                        text=raw[: MAX_ANSWER_BYTES + 1].decode("utf-8", "replace"),
                        url=url,
                        too_large=len(raw) > MAX_ANSWER_BYTES,
                    )
        except TimeoutError:
            raise Unreachable(f"no answer within {seconds:g} seconds") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from None


def payload(body: Any) -> str:
    """A body as it goes over the wire: text as it is, anything else as JSON."""
    return body if isinstance(body, str) else json.dumps(body, separators=(",", ":"), ensure_ascii=False)


def basic(user: str, password: str) -> str:
    """The value of a Basic Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def host(url: str) -> str:
    """Scheme and host of a URL, lower case; empty when it has none."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower() if parts.scheme and parts.netloc else ""
