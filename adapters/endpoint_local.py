"""Stands in for a managed online endpoint on one machine: a small router before several deployments of a service.

Live requests are shared out by per cent, copies of some go to a mirrored deployment whose answer nobody gets, and a
request may name its deployment in a header. `PUT /router {"live": {...}, "mirror": {...}}` sets the shares,
`GET /router` shows them with what each deployment has answered since, mirrored requests apart.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DEPLOYMENT_HEADER = "azureml-model-deployment"
STRIDE = 37  # coprime with 100: any hundred requests in a row are shared out exactly
SECONDS = 30.0
MIRRORED_AT_ONCE = 8
MAX_MIRROR = 50  # per cent, as Azure ML has it
Reply = tuple[int, str, bytes]


class Router:
    """Runs until `close`; `url` is where it listens. `deployments` are base URLs by name."""

    def __init__(self, deployments: Mapping[str, str], live: Mapping[str, int], port: int = 0) -> None:
        self.deployments, self.live, self.mirror = dict(deployments), dict(live), dict[str, int]()
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._copies = ThreadPoolExecutor(MIRRORED_AT_ONCE, thread_name_prefix="mirror")
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"router": self}))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening; wait for copies that are under way."""
        self._server.shutdown()
        self._server.server_close()
        self._copies.shutdown()

    def set_traffic(self, live: Mapping[str, int], mirror: Mapping[str, int]) -> None:
        """Set the shares; raise ValueError for what Azure ML refuses: an unknown deployment, shares out of bounds."""
        if (set(live) | set(mirror)) - set(self.deployments):
            raise ValueError(f"the deployments are {', '.join(self.deployments)}")
        if sum(live.values()) != 100 or any(not 0 <= share <= 100 for share in live.values()):
            raise ValueError("live shares must add up to 100")
        if len(mirror) > 1 or any(not 0 <= share <= MAX_MIRROR or live.get(name) for name, share in mirror.items()):
            raise ValueError(f"one deployment without live traffic may be mirrored, at most {MAX_MIRROR} per cent")
        with self._lock:
            self.live, self.mirror, self.counts = dict(live), dict(mirror), Counter()

    def state(self) -> dict[str, Any]:
        """Return shares and counts since they were set."""
        with self._lock:
            return {"live": self.live, "mirror": self.mirror, "counts": dict(self.counts)}

    def answer(self, path: str, body: bytes, named: str) -> Reply:
        """Return the answer of the named deployment, or of the one whose turn it is."""
        if named:
            return self._send(named, path, body) if named in self.deployments else (404, "text/plain", named.encode())
        with self._lock:
            turn = self.counts["requests"] * STRIDE % 100
            self.counts["requests"] += 1
            live = [name for name, share in self.live.items() for _ in range(share)]
            copies = [name for name, share in self.mirror.items() if turn < share]
        for name in copies:
            self._copies.submit(self._send, name, path, body, "mirrored ")
        return self._send(live[turn], path, body)

    def _send(self, name: str, path: str, body: bytes, kind: str = "") -> Reply:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.deployments[name] + path, body, headers)  # noqa: S310 (given at start)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as response:  # noqa: S310
                reply = response.status, response.headers.get("Content-Type", ""), response.read()
        except urllib.error.HTTPError as error:
            reply = error.code, error.headers.get("Content-Type", ""), error.read()
        except OSError as error:
            reply = 502, "text/plain", f"{name}: {error}".encode()
        with self._lock:
            self.counts[f"{kind}{name} {reply[0]}"] += 1
        return reply


class _Handler(BaseHTTPRequestHandler):
    router: Router
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._reply(200, "application/json", json.dumps(self.router.state()).encode())

    def do_PUT(self) -> None:
        try:
            wish = json.loads(self._body())
            self.router.set_traffic(wish["live"], wish.get("mirror", {}))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._reply(400, "text/plain", str(error).encode())
        else:
            self.do_GET()

    def do_POST(self) -> None:
        self._reply(*self.router.answer(self.path, self._body(), self.headers.get(DEPLOYMENT_HEADER, "")))

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _reply(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Stay quiet: the counts say more."""
