"""A proxy in front of a real host that loses requests, answers and time, and remembers what went through."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

HOP_HEADERS = {"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"}


@dataclass(frozen=True)
class Exchange:
    """One request with the answer that the caller got. `fault` says what the proxy did to it."""

    method: str
    path: str
    sent: Any
    status: int
    body: Any
    fault: str = ""


@dataclass
class Fault:
    """What to do to the next `times` requests of a method whose path starts so.

    refuse: 503 without asking the host. lose: the host does the work, the caller gets 500. hang: the host does the
    work, the caller gets nothing before the proxy is closed.
    """

    kind: str
    method: str
    path: str
    times: int


@dataclass
class FaultyProxy:
    """Serves on a free port and forwards to `target` while its `with` lasts."""

    target: str
    exchanges: list[Exchange] = field(default_factory=list)
    _faults: list[Fault] = field(default_factory=list)
    _begin: int = 0

    def __enter__(self) -> FaultyProxy:
        self._lock, self._closed = threading.Lock(), threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                proxy._serve(self)

            do_GET = do_POST = do_PUT = do_DELETE = _pass

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def faulty(self, *faults: Fault) -> Iterator[None]:
        """Do this to requests, in this order; `calls` counts from here on; at the end all faults are gone."""
        self._begin = len(self.exchanges)
        self._faults[:] = faults
        try:
            yield
        finally:
            self._faults.clear()

    def calls(self, method: str, path: str) -> list[Exchange]:
        """What was asked since the last `faulty` began."""
        return [e for e in self.exchanges[self._begin :] if e.method == method and e.path.startswith(path)]

    def _due(self, method: str, path: str) -> str:
        with self._lock:
            for fault in self._faults:
                if fault.times > 0 and fault.method == method and path.startswith(fault.path):
                    fault.times -= 1
                    return fault.kind
        return ""

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        data = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        kind = self._due(handler.command, handler.path)
        if kind == "refuse":
            status, headers, answer = 503, {"Content-Type": "application/json"}, b'{"title": "no storage"}'
        else:
            status, headers, answer = self._forward(handler, data)
        if kind == "lose":
            status, headers, answer = 500, {"Content-Type": "application/json"}, b'{"title": "the answer was lost"}'
        kind_of_answer = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
        told = json.loads(answer) if answer and "json" in kind_of_answer else answer.decode()
        sent = json.loads(data) if data else None
        self.exchanges.append(Exchange(handler.command, handler.path, sent, status, told, kind))
        if kind == "hang":
            self._closed.wait()
            handler.close_connection = True
            return
        with suppress(OSError):  # the caller may have gone
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(answer)))
            handler.end_headers()
            handler.wfile.write(answer)

    def _forward(self, handler: BaseHTTPRequestHandler, data: bytes) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(self.target)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=120)
        try:
            headers = {name: value for name, value in handler.headers.items() if name.lower() not in HOP_HEADERS}
            headers["Accept-Encoding"] = "identity"  # what is recorded is read
            connection.request(handler.command, handler.path, data or None, headers)  # Host stays: links lead to us
            answer = connection.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in HOP_HEADERS}
            return answer.status, kept, answer.read()
        finally:
            connection.close()
