"""The router before two deployments: shares, names, and mirrors that nobody notices."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from adapters.endpoint_local import DEPLOYMENT_HEADER, Router


class Deployment:
    """A web service that answers with its name; `status` and `stalled` break it."""

    def __init__(self, name: str) -> None:
        self.status, self.asked, self.go_on = 200, 0, threading.Event()
        self.go_on.set()
        deployment = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                deployment.asked += 1
                deployment.go_on.wait(20)
                answer = json.dumps({"from": name, "got": json.loads(body)}).encode()
                self.send_response(deployment.status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def blue() -> Iterator[Deployment]:
    deployment = Deployment("blue")
    yield deployment
    deployment.close()


@pytest.fixture
def green() -> Iterator[Deployment]:
    deployment = Deployment("green")
    yield deployment
    deployment.close()


@pytest.fixture
def router(blue: Deployment, green: Deployment) -> Iterator[Router]:
    made = Router({"blue": blue.url, "green": green.url}, {"blue": 100})
    yield made
    green.go_on.set()
    made.close()


def ask(router: Router, named: str = "") -> tuple[int, Any]:
    headers = {DEPLOYMENT_HEADER: named} if named else {}
    request = urllib.request.Request(f"{router.url}/score", b'{"x": 1}', headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def put(router: Router, document: Any) -> int:
    request = urllib.request.Request(f"{router.url}/router", json.dumps(document).encode(), method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_live_requests_are_shared_out_exactly(router: Router) -> None:
    assert put(router, {"live": {"blue": 90, "green": 10}}) == 200
    answers = [ask(router)[1]["from"] for _ in range(100)]
    assert answers.count("green") == 10
    assert "green" in answers[:20]


def test_a_request_may_name_its_deployment(router: Router) -> None:
    assert ask(router)[1] == {"from": "blue", "got": {"x": 1}}
    assert ask(router, "green")[1]["from"] == "green"
    assert ask(router, "purple")[0] == 404


@pytest.mark.parametrize("trouble", ["fails", "stalls", "is gone"])
def test_whatever_happens_to_the_mirror_the_answer_is_the_same(
    router: Router, blue: Deployment, green: Deployment, trouble: str
) -> None:
    before = [ask(router) for _ in range(4)]
    assert put(router, {"live": {"blue": 100}, "mirror": {"green": 50}}) == 200
    if trouble == "fails":
        green.status = 500
    elif trouble == "stalls":
        green.go_on.clear()
    else:
        green.close()
    began = time.monotonic()
    assert [ask(router) for _ in range(4)] == before
    assert time.monotonic() - began < 15  # a stalled mirror would hold an answer up for 20 s
    green.go_on.set()
    deadline = time.monotonic() + 20
    status = {"fails": 500, "stalls": 200, "is gone": 502}[trouble]
    while router.state()["counts"].get(f"mirrored green {status}", 0) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert router.state()["counts"] == {"requests": 4, "blue 200": 4, f"mirrored green {status}": 3}
    assert blue.asked == 8


def test_only_a_share_is_mirrored(router: Router, green: Deployment) -> None:
    assert put(router, {"live": {"blue": 100}, "mirror": {"green": 20}}) == 200
    assert {ask(router)[1]["from"] for _ in range(50)} == {"blue"}
    deadline = time.monotonic() + 20
    while green.asked < 10 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert 8 <= green.asked <= 12


@pytest.mark.parametrize("document", [
    {"live": {"blue": 90}}, {"live": {"purple": 100}}, {"live": {"blue": 100}, "mirror": {"green": 101}}, {}, [],
])
def test_shares_that_make_no_sense_are_refused(router: Router, document: Any) -> None:
    assert put(router, document) == 400
    assert router.state()["live"] == {"blue": 100}
