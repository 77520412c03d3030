"""An Application Insights ingestion endpoint on loopback, which fails on purpose and counts what it took.

Faults are consumed one a request, in order; after the last one every request is accepted:

    503, 429, 402, ...    that status; nothing is taken
    "reset"               the connection is reset without an answer; nothing is taken
    "partial"             206: every second item is taken, the others are refused with 503
    "partial-shuffled"    as partial, the refused ones told from the last to the first, with 500, in gzip
    "partial-bad-items"   206: the first item is refused for good with 400
    "partial-400"         as partial-bad-items, with status 400
    "unreadable"          206 with a body that is no JSON; nothing is taken
    "empty"               206 without a body; nothing is taken
    "half"                200, everything is taken, and the connection ends in the middle of the answer
    "trickle"             206 whose body comes byte by byte, for `slow_seconds`; nothing is taken
    "trickle-head"        a status line, then a header byte by byte for as long as the client reads; nothing is taken
    "slow"                the answer comes after `slow_seconds`; nothing is taken
    "redirect"            308 to `redirect_to`

Whatever the faults, a batch with an item whose `run_id` is in `refuses` is refused whole with a wordless 400.
"""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Fault = int | str
TRICKLE_SECONDS = 60.0


class IngestionServer:
    """Use as a context manager; `url` is the endpoint, `items` are the envelopes that were taken."""

    key = "00000000-1111-2222-3333-444444444444"

    def __init__(
        self, faults: list[Fault] | None = None, *, port: int = 0, redirect_to: str = "", slow_seconds: float = 2.0,
        retry_after: str = "", refuses: tuple[str, ...] = (),
    ) -> None:
        self.faults = list(faults or [])
        self.items: list[dict[str, Any]] = []
        self.requests: list[dict[str, str]] = []
        self.redirect_to, self.slow_seconds, self.retry_after = redirect_to, slow_seconds, retry_after
        self.refuses = frozenset(refuses)
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def connection_string(self) -> str:
        return f"InstrumentationKey={self.key};IngestionEndpoint={self.url}/"

    def events(self) -> list[dict[str, Any]]:
        """The custom events that were taken: name, properties, measurements."""
        return [item["data"]["baseData"] for item in self.items if item["name"].endswith(".Event")]

    def named(self, name: str) -> list[dict[str, Any]]:
        """The custom events of one name."""
        return [event for event in self.events() if event["name"] == name]

    def counted(self, dimension: str = "event_id") -> Counter[str]:
        return Counter(event["properties"][dimension] for event in self.events())

    def __enter__(self) -> IngestionServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int | str, dict[str, str], bytes]:
        """Decide what becomes of one request."""
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        text = body.decode()
        items = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines()]
        with self._lock:
            self.requests.append({**headers, "path": path})
            if any(item["data"]["baseData"]["properties"].get("run_id") in self.refuses for item in items):
                return 400, {}, b""
            fault = self.faults.pop(0) if self.faults else 200
            if fault in (200, "half"):
                self.items += items
                return fault, {}, _answer(len(items), len(items), [])
            if fault in ("partial", "partial-shuffled"):
                self.items += items[::2]
                return self._partial(str(fault), len(items))
            if fault in ("partial-bad-items", "partial-400"):
                self.items += items[1:]
                refused = [{"index": 0, "statusCode": 400, "message": "bad"}]
                return 400 if fault == "partial-400" else 206, {}, _answer(len(items), len(items) - 1, refused)
        if fault == "unreadable":
            return 206, {}, b"<html>gateway</html>"
        if fault == "empty":
            return 206, {}, b""
        if fault in ("trickle", "trickle-head"):
            return fault, {}, _answer(len(items), len(items), [])
        if fault == "redirect":
            return 308, {"Location": f"{self.redirect_to}/v2.1/track"}, b""
        if fault == "slow":
            time.sleep(self.slow_seconds)
            return 503, {}, b""
        more = {"Retry-After": self.retry_after} if self.retry_after and fault == 429 else {}
        return fault, more, b"{}"

    @staticmethod
    def _partial(fault: str, count: int) -> tuple[int, dict[str, str], bytes]:
        places = range(1, count, 2)
        if fault == "partial":
            told = [{"index": place, "statusCode": 503, "message": "later"} for place in places]
            return 206, {}, _answer(count, count - len(told), told)
        told = [{"index": place, "statusCode": 500, "message": "later"} for place in reversed(places)]
        return 206, {"Content-Encoding": "gzip"}, gzip.compress(_answer(count, count - len(told), told))


def _answer(received: int, accepted: int, errors: list[dict[str, Any]]) -> bytes:
    return json.dumps({"itemsReceived": received, "itemsAccepted": accepted, "errors": errors}).encode()


def _handler(server: IngestionServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {key.lower(): value for key, value in self.headers.items()}
            status, more, answer = server.take(self.path, headers, body)
            if status == "reset":
                # Linger of zero: the peer sees a reset and not an orderly end.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()
                return
            if status == "trickle-head":
                self._trickle_head()
                return
            self.send_response({"half": 200, "trickle": 206}.get(str(status)) or int(status))
            for key, value in {**more, "Content-Length": str(len(answer))}.items():
                self.send_header(key, value)
            self.end_headers()
            if status == "trickle":
                self._trickle(answer)
                return
            self.wfile.write(answer[:len(answer) // 2] if status == "half" else answer)
            self.close_connection = self.close_connection or status == "half"

        def _trickle_head(self) -> None:
            until = time.monotonic() + TRICKLE_SECONDS
            self.close_connection = True
            try:
                self.wfile.write(b"HTTP/1.1 503 Service Unavailable\r\nX-Slow: ")
                while time.monotonic() < until:
                    self.wfile.write(b"x")
                    time.sleep(0.05)
            except OSError:  # the client had enough
                return

        def _trickle(self, answer: bytes) -> None:
            try:
                for place in range(len(answer)):
                    self.wfile.write(answer[place:place + 1])
                    time.sleep(server.slow_seconds / len(answer))
            except OSError:  # the client had enough
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Stay quiet."""

    return Handler
