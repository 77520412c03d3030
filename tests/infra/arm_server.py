"""A loopback stand-in for Azure Resource Manager: keeps what is PUT, knows triggers' states, fails on demand."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from scripts.azure_rest import AzureRest


@dataclass
class Arm:
    """What the server holds: documents by path, the log of calls, and answers to give first."""

    documents: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    faults: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    answers: dict[tuple[str, str], Any] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.calls.append((method, path))
        if self.faults.get((method, path)):
            return self.faults[(method, path)].pop(0), {"error": {"message": "planned"}}
        if (method, path) in self.answers:
            return 200, self.answers[(method, path)]
        if method == "PUT":
            self.documents[path] = {"name": path.rsplit("/", 1)[-1], **body}
            return 200, self.documents[path]
        if method == "DELETE":
            return (200, {}) if self.documents.pop(path, None) else (404, {})
        if method == "POST":
            name, action = path.rsplit("/", 1)
            self.documents[name]["properties"]["runtimeState"] = {"start": "Started", "stop": "Stopped"}[action]
            return 200, None
        if path in self.documents:
            return 200, self.documents[path]
        children = [doc for one, doc in sorted(self.documents.items()) if one.rsplit("/", 1)[0] == path]
        if not children and path.rsplit("/", 1)[-1] not in ("pipelines", "triggers", "linkedservices", "datasets"):
            return 404, {}
        return 200, {"value": children}


@contextmanager
def serve() -> Iterator[tuple[Arm, AzureRest]]:
    """Run the server on a free port; yield it with a client that does not sleep."""
    arm = Arm()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            assert self.headers["Authorization"] == "Bearer token"
            status, document = arm.answer(self.command, self.path.split("?")[0], body)
            raw = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_PUT = do_POST = do_DELETE = _do

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        yield arm, AzureRest(lambda: "token", endpoint, sleep=lambda _: None)
    finally:
        server.shutdown()
        server.server_close()
