"""The page's files and a small API with sample data on loopback: what the page's tests drive.

Started by hand it serves the page to look at: `python -m tests.dashboard.api_server 8099`.
"""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from dashboard.site import answer
from tests.dashboard import sample_data as data

Reply = tuple[int, Any]


@dataclass
class SampleApi:
    """State that tests change: what was posted, what is broken, which key is wanted."""

    posted: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    key: str = ""
    broken: dict[str, Reply] = field(default_factory=dict)
    slow: dict[str, threading.Event] = field(default_factory=dict)
    running: bool = False
    runs: int = 9
    next: dict[str, Any] | None = field(default_factory=data.next_week)
    forecasts: int = 4000
    rejected: tuple[str, ...] = ()  # sources whose newest file is

    def get(self, path: str, query: dict[str, str]) -> Reply:
        parts = path.split("/")
        limit, offset = int(query.get("limit") or 1000), int(query.get("offset") or 0)
        plain = {"sources": lambda: {"sources": data.sources()}, "models": data.models, "audit": data.audit,
                 "pipelines/runs": data.pipelines}
        if path in self.slow:
            self.slow[path].wait(20)
        if path in plain:
            return 200, plain[path]()
        match parts:
            case ["runs"]:
                rows = data.runs(self.runs)
                if self.running:
                    rows[0] |= {"status": "running", "ended_at": ""}
                return 200, {"runs": rows[:limit], "next": self.next, "total": len(rows)}
            case ["runs", run_id]:
                found = data.run(run_id, running=self.running and run_id == data.runs(1)[0]["run_id"])
                return (200, found) if found else self.problem(404, f"there is no run {run_id}")
            case ["models", segment]:
                row = next((one for one in data.models()["models"] if one["segment"] == segment), None)
                if row is None:
                    return self.problem(404, "there is no such model")
                older = row | {"version": "0ld", "stage": "retired", "mape": 0.5}
                return 200, {"segment": segment, "versions": [row, older]}
            case ["quality", source]:
                return 200, data.quality(source, rejected=source in self.rejected)
            case ["quarantine", source]:
                return 200, data.quarantine(source, query["sales_week"], limit, offset)
            case ["forecasts", week]:
                store, product = query.get("store_id", ""), query.get("product_id", "")
                return 200, data.forecasts(week, store, product, limit, self.forecasts)
            case ["forecasts", week, "changes"]:
                return 200, data.changes(week)
            case ["explain"]:
                return 200, data.explain(query["sales_week"], query["store_id"], query["product_id"])
        return self.problem(404, f"there is no {path}")

    def post(self, path: str, body: dict[str, Any]) -> Reply:
        self.posted.append((path, body))
        if path.endswith("/replay"):
            if not body["dry_run"]:
                return 202, {"run_id": "weekly-2017-W45-a1"}
            jobs = [{"phase": "train", "unit": f"r0{number}-large-fast", "action": action}
                    for number, action in enumerate(("keep", "keep", "adopt", "run"), start=1)]
            steps = [{"name": "curate", "action": "keep"}, {"name": "train", "action": "do"}]
            plan = {"new_attempt": "weekly-2017-W45-a2", "data": body["data"], "steps": steps, "jobs": jobs}
            return 200, {"plan": plan, "run_id": "weekly-2017-W45-a2", "started": False}
        if path.endswith("/redrive"):
            counts = {"records_read": 100, "conditioned": 99, "quarantined": 1, "duplicates": 0, "by_reason": {"x": 1}}
            return 200, {"status": "partial", "counts": counts}
        return 202, {}

    @staticmethod
    def problem(status: int, detail: str) -> Reply:
        return status, {"type": "about:blank", "title": "problem", "status": status, "detail": detail}


class PageServer:
    """Use as a context manager; `url` is the page."""

    def __init__(self, api: SampleApi | None = None, port: int = 0) -> None:
        self.api = api or SampleApi()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self.api))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/api/ops/"

    def __enter__(self) -> PageServer:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(api: SampleApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            path = unquote(parts.path.removeprefix("/api/"))
            if path.startswith("ops/"):
                found = answer(
                    path.removeprefix("ops/"), if_none_match=self.headers.get("If-None-Match", ""),
                    accept_encoding=self.headers.get("Accept-Encoding", ""),
                )
                self._send(found.status, found.headers, found.body)
            else:
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                self._reply(path, lambda: api.get(path, query))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
            path = unquote(self.path.removeprefix("/api/"))
            self._reply(path, lambda: api.post(path, body))

        def _reply(self, path: str, make: Any) -> None:
            if api.key and self.headers.get("x-functions-key") != api.key:
                status, document = api.problem(401, "a function key is needed")
            elif path in api.broken:
                status, document = api.broken[path]
            else:
                status, document = make()
            self._send(status, {"Content-Type": "application/json"}, json.dumps(document).encode())

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Stay quiet."""

    return Handler


if __name__ == "__main__":
    with PageServer(port=int(sys.argv[1])) as server:
        print(server.url)
        threading.Event().wait()
