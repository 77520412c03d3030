"""HTTPS on 127.0.0.1 that answers like Azure: cloud metadata, managed identity, the workspace's jobs and models.

    with ControlPlane() as plane:
        for key, value in plane.environment.items(): monkeypatch.setenv(key, value)
        plane.workspace.lives["weekly-2017-W45-a1-r01"] = [(0, "Running"), (5, "Failed")]
        plane.faults.add(Fault("lost_after", method="PUT", path="/jobs/"))

The SDK under test is the real one and knows only settings that Azure itself documents: ARM_CLOUD_METADATA_URL,
IDENTITY_ENDPOINT, REQUESTS_CA_BUNDLE. `plane.requests` lists what came in.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import ssl
import struct
import tempfile
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.control_plane.certificates import make_certificates
from tests.control_plane.endpoints import Endpoints
from tests.control_plane.faults import Fault, FaultPlan
from tests.control_plane.workspace import SUBSCRIPTION, Refused, Workspace

IDENTITY_HEADER = "tests"
_WORKSPACE = r"/workspaces/ws"


@dataclass(frozen=True)
class Request:
    """One request as the server saw it."""

    method: str
    path: str
    query: str
    fault: str
    body: bytes = b""

    @property
    def is_management(self) -> bool:
        """Whether it went to the workspace (not to metadata or identity)."""
        return "/workspaces/" in self.path


class ControlPlane:
    """A workspace behind HTTPS, with faults. Use as a context manager."""

    def __init__(self) -> None:
        self.workspace = Workspace()
        self.endpoints = Endpoints(self.workspace, audience="https://ml.azure.test")
        self.faults = FaultPlan()
        self.requests: list[Request] = []
        self._folder = tempfile.TemporaryDirectory(prefix="control-plane-")

    def __enter__(self) -> ControlPlane:
        ca_file, server_file = make_certificates(Path(self._folder.name))
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.plane = self
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server_file)
        self._server.tls = context
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        self.workspace.base_url = self.url
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        self.environment = {
            "ARM_CLOUD_METADATA_URL": f"{self.url}/metadata/endpoints?api-version=2020-09-01",
            "IDENTITY_ENDPOINT": f"{self.url}/identity/token",
            "IDENTITY_HEADER": IDENTITY_HEADER,
            "REQUESTS_CA_BUNDLE": str(ca_file),
            "AML_SUBSCRIPTION_ID": SUBSCRIPTION,
            "AML_RESOURCE_GROUP": "rg",
            "AML_WORKSPACE": "ws",
            "AML_COMPUTE": "cpu-cluster",
            "ML_PLATFORM": "azureml",
        }
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
        self._folder.cleanup()

    def calls(self, method: str = "", path: str = "") -> list[Request]:
        """Return the workspace requests so far that match."""
        return [
            request
            for request in self.requests
            if request.is_management and method in ("", request.method) and re.search(path, request.path)
        ]

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any, dict[str, str]]:
        """Return (status, document, headers) of a request that meets no fault."""
        if path.startswith("/metadata/endpoints"):
            return 200, [self._cloud()], {}
        if path.startswith("/identity/token"):
            return 200, _token(query.get("resource", "")), {}
        if path.startswith("/operations/"):
            return 200, {}, {}
        if path.startswith("/endpointoperations/"):
            _, _, kind, name = path.split("/")
            return 200, self.endpoints.operation(kind, name), {}
        if path.startswith("/discovery"):
            return 200, {"api": self.url, "history": self.url}, {}
        inside = re.split(_WORKSPACE, path, maxsplit=1, flags=re.IGNORECASE)
        if len(inside) != 2:
            raise Refused(404, "ResourceNotFound", f"nothing is at {path}")
        return self._workspace_answer(method, [part for part in inside[1].split("/") if part], query, body)

    def _workspace_answer(
        self, method: str, parts: list[str], query: dict[str, str], body: Any
    ) -> tuple[int, Any, dict[str, str]]:
        space = self.workspace
        match method, parts:
            case "GET", []:
                return (
                    200,
                    {
                        "id": space.path,
                        "name": "ws",
                        "location": "westeurope",
                        "properties": {"discoveryUrl": f"{self.url}/discovery"},
                    },
                    {},
                )
            case "GET", ["jobs"]:
                return 200, space.list_jobs(query), {}
            case "GET", ["jobs", name]:
                return 200, space.get_job(name), {}
            case "PUT", ["jobs", name]:
                return 201, space.put_job(name, body), {}
            case "POST", ["jobs", name, "cancel"]:
                space.cancel_job(name)
                return 202, None, {"Location": f"{self.url}/operations/{name}", "Retry-After": "1"}
            case "POST", ["batchrundata"]:
                return 200, space.run_history(list(body["requests"])), {}
            case "GET", ["models"]:
                return 200, space.list_models(query), {}
            case "GET", ["models", name]:
                return 200, space.model_container(name), {}
            case "GET", ["models", name, "versions"]:
                return 200, space.list_versions(name, query), {}
            case "GET", ["models", name, "versions", version]:
                return 200, space.get_model(name, version), {}
            case "PUT", ["models", name, "versions", version]:
                return 201, space.put_model(name, version, body), {}
            case "GET", ["components", name, "versions", version]:
                return 200, space.component(name, version), {}
            case _, [("onlineEndpoints" | "batchEndpoints"), *_]:
                return self.endpoints.manage(method, parts, body)
        raise Refused(404, "ResourceNotFound", f"{method} {'/'.join(parts)} is not served")

    def _cloud(self) -> dict[str, Any]:
        return {
            "name": "TestCloud",
            "portal": "https://portal.azure.test",
            "resourceManager": self.url + "/",
            "authentication": {"loginEndpoint": self.url + "/"},
            "suffixes": {"storage": "core.windows.net"},
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    plane: ControlPlane
    tls: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands in the connection's own thread, so that a slow client stops nobody."""
        try:
            secured = self.tls.wrap_socket(request, server_side=True)
        except OSError:
            return
        with contextlib.suppress(OSError):
            super().finish_request(secured, client_address)
        with contextlib.suppress(OSError):
            secured.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # one packet an answer
    server: _Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        plane = self.server.plane
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        fault = plane.faults.take(self.command, url.path)
        plane.requests.append(Request(self.command, url.path, url.query, fault.kind if fault else "", raw))
        if fault and fault.kind in ("lost_before", "reset", "hang"):
            time.sleep(fault.seconds if fault.kind == "hang" else 0)
            self._hang_up(reset=fault.kind == "reset")
            return
        if fault and fault.kind in ("throttle", "error", "html"):
            self._refuse(fault)
            return
        try:
            if url.path.startswith("/identity/") and self.headers.get("X-IDENTITY-HEADER") != IDENTITY_HEADER:
                raise Refused(401, "Unauthorized", "no identity header")
            if "/workspaces/" in url.path and not self.headers.get("Authorization", "").startswith("Bearer "):
                raise Refused(401, "Unauthorized", "no token")
            sent = json.loads(raw) if raw else None
            if url.path.startswith("/scoring/"):
                _, _, kind, name, _ = url.path.split("/")
                own = {key.lower(): value for key, value in self.headers.items()}
                own["audience"] = _audience(own.get("authorization", ""))
                (status, document), headers = plane.endpoints.score(kind, name, own, sent), {}
            else:
                status, document, headers = plane.answer(self.command, url.path, dict(parse_qsl(url.query)), sent)
        except Refused as refused:
            status, document, headers = refused.status, refused.body, {}
        if fault and fault.kind == "lost_after":
            self._hang_up(reset=False)
            return
        self._send(status, json.dumps(document).encode() if document is not None else b"", headers, cut=bool(fault))

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _serve

    def _refuse(self, fault: Fault) -> None:
        if fault.kind == "html":
            self._send(200, b"<html>sign in to the proxy</html>", {"Content-Type": "text/html"})
        elif fault.kind == "throttle":
            body = {"error": {"code": "TooManyRequests", "message": "The request was throttled."}}
            self._send(429, json.dumps(body).encode(), {"Retry-After": fault.retry_after} if fault.retry_after else {})
        else:
            self._send(fault.status, b'{"error": {"code": "ServiceUnavailable", "message": "try later"}}', {})

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
        if cut:
            body = body[: len(body) // 2]
        self.send_response(status)
        for key, value in {
            "Content-Type": "application/json",
            "x-ms-request-id": f"{time.monotonic_ns()}",
            **headers,
        }.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _hang_up(self, *, reset: bool) -> None:
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True
        self.connection.close()


def _token(resource: str) -> dict[str, Any]:
    expires = int(time.time()) + 24 * 3600
    claims = {"aud": resource.removesuffix("/.default"), "exp": expires, "oid": "tests", "tid": "tests"}

    def part(document: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()

    token = f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}."
    return {"access_token": token, "expires_on": str(expires), "resource": resource, "token_type": "Bearer"}


def _audience(authorization: str) -> str:
    claims = authorization.removeprefix("Bearer ").split(".")[1:2]
    return str(json.loads(base64.urlsafe_b64decode(claims[0] + "==")).get("aud")) if claims else ""
