"""Without PyPI's advisories the audit says that nothing was looked up; it never passes for a clean one by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from scripts import audit

ANSWERS = {"/mirror": (200, b"<html>a mirror's page</html>"), "/odd": (200, b'{"info": {}}'), "/closed": (403, b""),
           "/pypi": (200, b'{"vulnerabilities": []}')}


class _Index(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = ANSWERS[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Index) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(("path", "why"), [
    ("/mirror", "JSONDecodeError"), ("/odd", "lists no vulnerabilities"), ("/closed", "403"), ("/pypi", ""),
])
def test_only_the_real_interface_counts_as_reachable(index: str, path: str, why: str) -> None:
    told = audit.unreachable(index + path)
    assert (why in told) if why else told == ""


def test_an_audit_that_could_not_ask_fails_unless_it_was_told_not_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "ADVISORIES", "http://127.0.0.1:9/pypi")
    assert (audit.main([]), audit.main(["--if-reachable"])) == (2, 0)
    assert capsys.readouterr().err.count("NOTHING WAS LOOKED UP") == 2


@pytest.mark.parametrize("found", [0, 1])
def test_what_pip_audit_finds_is_the_answer(monkeypatch: pytest.MonkeyPatch, index: str, found: int) -> None:
    monkeypatch.setattr(audit, "ADVISORIES", index + "/pypi")
    monkeypatch.setattr(audit, "COMMAND", ("sh", "-c", f"exit {found}"))
    assert audit.main(["--if-reachable"]) == found
