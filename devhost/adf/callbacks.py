"""The listener that WebHook activities hand out as callBackUri: one port a runner, one secret path a call."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

from aiohttp import web


class Callback:
    """One expected callback."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def tell(self, body: Any) -> bool:
        """Note the callback's body; False when it came before already."""
        if self._told.done():
            return False
        self._told.set_result(body)
        return True

    async def body(self) -> Any:
        """The body, once it has come."""
        return await asyncio.shield(self._told)


class CallbackListener:
    """Listens on loopback while its `async with` lasts; the port is opened by the first expected callback."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._host, self._port = host, port
        self._expected: dict[str, Callback] = {}
        self._runner: web.AppRunner | None = None
        self._base = ""
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> CallbackListener:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @asynccontextmanager
    async def expect(self) -> AsyncIterator[Callback]:
        """An address that can be called once, valid inside the block."""
        await self._open()
        token = secrets.token_urlsafe(24)
        callback = Callback(f"{self._base}/callback/{token}")
        self._expected[token] = callback
        try:
            yield callback
        finally:
            del self._expected[token]

    async def _open(self) -> None:
        async with self._opening:
            if self._runner is not None:
                return
            app = web.Application()
            app.router.add_post("/callback/{token}", self._receive)
            self._runner = web.AppRunner(app, access_log=None)
            await self._runner.setup()
            site = web.TCPSite(self._runner, self._host, self._port)
            await site.start()
            host, port = self._runner.addresses[0][:2]
            self._base = f"http://{host}:{port}"

    async def _receive(self, request: web.Request) -> web.Response:
        callback = self._expected.get(request.match_info["token"])
        if callback is None:
            return web.json_response({"error": "no activity waits for this callback"}, status=404)
        try:
            body = await request.json() if request.can_read_body else {}
        except ValueError:
            return web.json_response({"error": "the body must be valid JSON"}, status=400)
        first = callback.tell(body)
        return web.json_response({"accepted": first}, status=200 if first else 409)
