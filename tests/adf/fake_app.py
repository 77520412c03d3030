"""A small HTTP app for tests of the runner: routes are functions, every request is kept."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text) if self.text else None


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


Route = Callable[[Asked], Reply]


class FakeApp:
    """Serves `route` on a free port while its `with` lasts."""

    def __init__(self, route: Route) -> None:
        self.asked: list[Asked] = []
        app = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                asked = Asked(self.command, self.path, dict(self.headers), self.rfile.read(length).decode())
                app.asked.append(asked)
                reply = route(asked)
                data = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
                headers = {"Content-Type": "application/json"} | reply.headers
                self.send_response(reply.status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data.encode())))
                with contextlib.suppress(ConnectionError):  # the caller may have given up
                    self.end_headers()
                    self.wfile.write(data.encode())

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> FakeApp:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def calls(self, method: str, prefix: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == method and asked.path.startswith(prefix)]
