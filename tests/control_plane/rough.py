"""A second workspace, written apart from server.py and unlike it wherever the service leaves room: rough weather.

Its list is paged by a token, shows the oldest jobs first or refuses the filter or does not work at all, and lags; a
name that exists is 409; a job is 404 for minutes after it was made; statuses are odd and sometimes stale; tokens die
early; the clock is hours off; answers are slow, cut, half-closed, HTML, empty. What it keeps: one name is one job.
"""

from __future__ import annotations

import base64
import json
import random
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.control_plane.certificates import make_certificates

ROOT = "/subscriptions/s1/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"
Life = list[tuple[float, Any]]
ENDED = ("Completed", "Failed", "Canceled")
TROUBLE = (
    "429 seconds", "429 date", "429", "503 html", "500 text", "502", "504", "no answer before", "no answer after",
    "half after", "slow", "empty 200", "408",
)


@dataclass
class RoughJob:
    """One job; `made` counts how often a request brought it to life."""

    name: str
    body: dict[str, Any]
    born: float
    life: Life
    made: int = 1
    cancelled: float | None = None
    worked: bool = False


@dataclass
class Weather:
    """How rough it is. Times are seconds of the run's clock."""

    share: float = 0.15
    seed: int = 1
    listing: str = "oldest first"  # or "filter refused", "down"
    page: int = 4
    listed_after: float = 900.0
    readable_after: float = 150.0
    stale_share: float = 0.05
    token_seconds: float = 5.0  # of the real clock, whatever the token says
    clock_off: timedelta = timedelta(hours=-3)
    cancel_takes: float = 240.0


class RoughPlane:
    """HTTPS on 127.0.0.1. `clock` is the run's; `on_completed` does what the job would do."""

    def __init__(self, weather: Weather, clock: Callable[[], float]) -> None:
        self.weather, self.clock = weather, clock
        self.jobs: dict[str, RoughJob] = {}
        self.lives: dict[str, Life] = {}
        self.life: Life = [(0, "NotStarted"), (60, "Preparing"), (120, None), (180, "Running"), (400, "Unknown"),
                           (500, "Finalizing"), (560, "Completed")]
        self.on_completed: Callable[[RoughJob], None] = lambda _job: None
        self.calls = 0
        self.met: dict[str, int] = {}
        self.tokens: dict[str, float] = {}
        self.lock = threading.RLock()
        self.dice = random.Random(weather.seed)
        self._folder = tempfile.TemporaryDirectory(prefix="rough-plane-")

    def __enter__(self) -> RoughPlane:
        ca_file, server_file = make_certificates(Path(self._folder.name))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server_file)
        self._server = _Listener(("127.0.0.1", 0), _Talk)
        self._server.plane, self._server.tls = self, context
        self.url = f"https://localhost:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.environment = {
            "ARM_CLOUD_METADATA_URL": f"{self.url}/metadata/endpoints?api-version=2022-09-01",
            "IDENTITY_ENDPOINT": f"{self.url}/msi", "IDENTITY_HEADER": "h", "REQUESTS_CA_BUNDLE": str(ca_file),
        }
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._folder.cleanup()

    def draw(self, path: str) -> str:
        """Return the trouble that the next request meets, or nothing; azure-identity would sleep what a 429 asks."""
        with self.lock:
            self.calls += 1
            kinds = TROUBLE if path != "/msi" else ("no answer after", "slow")
            trouble = self.dice.choice(kinds) if self.dice.random() < self.weather.share else ""
            if trouble:
                self.met[trouble] = self.met.get(trouble, 0) + 1
            return trouble

    def reply(self, method: str, path: str, query: dict[str, list[str]], bearer: str, body: Any) -> tuple[int, Any]:
        """Return (status, document) of a request that meets no trouble."""
        if path.startswith("/metadata"):
            return 200, [_cloud("AzureCloud", "https://management.azure.com"), _cloud("Rough", self.url)]
        if path == "/msi":
            return 200, self._token(query["resource"][0])
        if self.tokens.get(bearer, 0.0) < time.monotonic():
            return 401, _error("InvalidAuthenticationToken", "The access token is not accepted.")
        if not path.lower().startswith(ROOT.lower()):
            return 404, _error("NotFound", path)
        with self.lock:
            match method, [part for part in path[len(ROOT):].split("/") if part]:
                case "GET", []:
                    return 200, {"id": ROOT, "name": "ws", "location": "westeurope", "properties": {}}
                case "GET", ["jobs"]:
                    return self._list(query)
                case "GET", ["jobs", name]:
                    return self._read(name)
                case "PUT", ["jobs", name]:
                    return self._make(name, body)
                case "POST", ["jobs", name, "cancel"]:
                    return self._cancel(name)
        return 404, _error("NotFound", f"{method} {path}")

    def _token(self, resource: str) -> dict[str, Any]:
        until = int((datetime.now(UTC) + timedelta(hours=1)).timestamp())  # a promise that it does not keep
        claims = json.dumps({"aud": resource, "exp": until, "jti": len(self.tokens)})
        token = f"e30.{base64.urlsafe_b64encode(claims.encode()).decode().rstrip('=')}."
        self.tokens[token] = time.monotonic() + self.weather.token_seconds
        return {"access_token": token, "expires_on": until, "resource": resource, "token_type": "Bearer"}

    def _list(self, query: dict[str, list[str]]) -> tuple[int, Any]:
        if self.weather.listing == "down":
            return 500, _error("InternalServerError", "the index is being rebuilt")
        if self.weather.listing == "filter refused" and "properties" in query:
            return 400, _error("UserError", "properties is not a filter")
        shown = [job for job in self.jobs.values() if self.clock() - job.born >= self.weather.listed_after]
        start = int(query.get("$skipToken", ["0"])[0])
        page: dict[str, Any] = {"value": [self._document(job) for job in shown[start:start + self.weather.page]]}
        if start + self.weather.page < len(shown):
            version = query["api-version"][0]
            page["nextLink"] = f"{self.url}{ROOT}/jobs?api-version={version}&$skipToken={start + self.weather.page}"
        return 200, page

    def _read(self, name: str) -> tuple[int, Any]:
        job = self.jobs.get(name)
        if job is None or self.clock() - job.born < self.weather.readable_after:
            return 404, _error("UserError", f"{name} was not found")
        return 200, self._document(job)

    def _make(self, name: str, body: Any) -> tuple[int, Any]:
        if name in self.jobs:
            return 409, _error("Conflict", "the resource exists")
        self.jobs[name] = RoughJob(name, body["properties"], self.clock(), self.lives.get(name, self.life))
        return 200, self._document(self.jobs[name])

    def _cancel(self, name: str) -> tuple[int, Any]:
        job = self.jobs.get(name)
        if job is None:
            return 404, _error("UserError", f"{name} was not found")
        if self.word(job) in ENDED:
            return 409, _error("Conflict", "the job has ended")
        job.cancelled = job.cancelled if job.cancelled is not None else self.clock()
        return 202, None

    def word(self, job: RoughJob, ago: float = 0.0) -> Any:
        """Return the job's status, or the one that it had some seconds ago."""
        now = self.clock() - ago
        word = ([word for since, word in job.life if since <= now - job.born] or [job.life[0][1]])[-1]
        if job.cancelled is not None and word not in ENDED:
            word = "Canceled" if now - job.cancelled >= self.weather.cancel_takes else "CancelRequested"
        return word

    def _document(self, job: RoughJob) -> dict[str, Any]:
        is_stale = self.dice.random() < self.weather.stale_share
        word = self.word(job, 200.0 if is_stale else 0.0)
        if word == "Completed" and not job.worked:
            job.worked = True
            self.on_completed(job)
        return {"id": f"{ROOT}/jobs/{job.name}", "name": job.name, "properties": {**job.body, "status": word},
                "systemData": {"createdAt": (datetime.now(UTC) + self.weather.clock_off).isoformat()}}


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    plane: RoughPlane
    tls: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            with self.tls.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)
        except OSError:
            return

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are the point."""


@dataclass
class _Answer:
    status: int
    body: bytes
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


class _Talk(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    server: _Listener

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return format_datetime(self._now(), usegmt=True)

    def _now(self) -> datetime:
        return datetime.now(UTC) + self.server.plane.weather.clock_off

    def _serve(self) -> None:
        plane, url = self.server.plane, urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        trouble = plane.draw(url.path)
        if trouble == "no answer before":
            self._hang_up()
            return
        refusal = self._refusal(trouble)
        if refusal is not None:
            self._send(refusal)
            return
        if trouble == "slow":
            time.sleep(0.1)
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        status, document = plane.reply(self.command, url.path, parse_qs(url.query), bearer,
                                       json.loads(raw) if raw else None)
        if trouble == "no answer after":
            self._hang_up()
            return
        body = b"" if document is None or trouble == "empty 200" else json.dumps(document).encode()
        self._send(_Answer(status, body), half=trouble == "half after")

    do_GET = do_PUT = do_POST = _serve

    def _refusal(self, trouble: str) -> _Answer | None:
        if trouble.startswith("429"):
            later = {"429 seconds": "3", "429 date": format_datetime(self._now() + timedelta(seconds=20), usegmt=True)}
            headers = {"Retry-After": later[trouble]} if trouble in later else {}
            return _Answer(429, json.dumps(_error("TooManyRequests", "slow down")).encode(), headers=headers)
        if trouble == "503 html":
            return _Answer(503, b"<html><h1>Service Unavailable</h1></html>", "text/html")
        if trouble == "500 text":
            return _Answer(500, b"oops", "text/plain")
        if trouble in ("502", "504", "408"):
            return _Answer(int(trouble), b"", "text/plain")
        return None

    def _send(self, answer: _Answer, *, half: bool = False) -> None:
        self.send_response(answer.status)
        for key, value in {"Content-Type": answer.kind, "Content-Length": str(len(answer.body)),
                           **answer.headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(answer.body[:len(answer.body) // 2] if half else answer.body)
        self.wfile.flush()
        if half:  # the rest never comes; the other direction stays open for a while
            self.connection.shutdown(socket.SHUT_WR)
            self.close_connection = True

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()


def _cloud(name: str, manager: str) -> dict[str, Any]:
    return {"name": name, "portal": "https://portal.invalid.example", "resourceManager": manager,
            "authentication": {"loginEndpoint": manager, "audiences": [manager], "tenant": "common"},
            "suffixes": {"storage": "core.invalid.example", "keyVaultDns": "vault.invalid.example"}}


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}
