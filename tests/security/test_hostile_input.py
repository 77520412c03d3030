"""Paths, sizes and shapes that somebody hostile would send: refused with words, never a 500, never another file."""

from __future__ import annotations

import socket
from urllib.parse import quote

import pytest

from orchestrators.webhook import check_callback
from scripts.host_process import HostProcess
from tests.security.conftest import GuardedHost, principal

CLIMBS = [
    "../host.json",
    "..%2fhost.json",
    "%2e%2e/%2e%2e/settings.py",
    "....//....//etc/passwd",
    "..\\settings.py",
    "/etc/passwd",
    "static/../../settings.py",
    "%00",
    "a%00.html",
    "C:\\windows\\win.ini",
]


def raw_get(host: GuardedHost, path: str) -> tuple[int, str]:
    """Send a path as it stands; clients tidy `..` away before they send it."""
    name, port = host.host.url.removeprefix("http://").split(":")
    with socket.create_connection((name, int(port)), 30) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: {name}\r\nx-functions-key: {host.key}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2].decode("utf-8", "replace")


@pytest.mark.parametrize("climb", CLIMBS)
def test_the_page_serves_its_own_files_only(key_host: GuardedHost, climb: str) -> None:
    status, body = raw_get(key_host, f"/api/ops/{climb.replace(chr(92), '%5c')}")
    assert status in (301, 307, 308, 400, 404)
    assert "root:" not in body and "extensionBundle" not in body and "dataclass" not in body


@pytest.mark.parametrize("climb", [*CLIMBS, "deliveries/../../runs", "x" * 5000])
def test_names_in_routes_are_names(key_host: GuardedHost, climb: str) -> None:
    for route in ("quality", "quarantine", "models", "runs", "forecasts"):
        status, body = raw_get(
            key_host, f"/api/{route}/{quote(climb.replace('%2f', '/').replace('%2e', '.'), safe='')}"
        )
        assert status in (400, 404, 414), (route, status, body[:200])


@pytest.mark.parametrize(
    "path",
    [
        "landing/deliveries/2017-W45/../../../runs/x",
        "../audit/log",
        "/etc/passwd",
        "deliveries/2017-W45",
        "deliveries/9999-W99/a.csv",
        "https://example.com/a.csv",
        "deliveries/2017-W45/a.csv?sig=1",
        "deliveries/2017-W45/\u0000.csv",
    ],
)
def test_only_landing_files_are_conditioned(key_host: GuardedHost, path: str) -> None:
    body = {"sales_week": "2017-W45", "blob_path": path}
    status, answer, _ = key_host.host.call("POST", "/api/condition/deliveries", body, key_host.with_key)
    assert status in (400, 404), answer


@pytest.mark.parametrize(
    "callback",
    [
        "http://127.0.0.1:1/x",
        "https://169.254.169.254/metadata/identity",
        "https://localhost/x",
        "file:///etc/passwd",
        "https://[::1]/x",
        "https://user:pass@example.com/x",
        "gopher://example.com",
        "https://2130706433/",
        "",
        "https://example.com.attacker.test/x",
    ],
)
def test_a_callback_goes_to_data_factory_or_nowhere(sign_in_host: HostProcess, callback: str) -> None:
    body = {"kind": "weekly", "sales_week": "2017-W45", "callBackUri": callback}
    status, answer, _ = sign_in_host.call("POST", "/api/runs/webhook", body, principal("operator"))
    assert status == 400 and answer["field"] == "callBackUri", answer


def test_data_factory_is_called_back() -> None:
    address = "https://produsc.svc.datafactory.azure.com/workflow/callback/1?callbackUrl=x"
    assert check_callback(address) == address


@pytest.mark.parametrize(
    "route", ["condition/deliveries", "runs", "runs/weekly-2017-W45-a1/cancel", "quarantine/deliveries/redrive"]
)
def test_a_body_has_an_end(key_host: GuardedHost, route: str) -> None:
    status, answer, _ = key_host.host.call("POST", f"/api/{route}", {"reason": "x" * 1_100_000}, key_host.with_key)
    assert status in (400, 413), answer


@pytest.mark.parametrize(
    "raw",
    [
        "[" * 50_000,
        '{"a":' * 20_000,
        '"text"',
        "[1]",
        "nul",
        "\ufeff{}",
        '{"sales_week": 1e999}',
        '{"sales_week": {}}',
    ],
)
def test_odd_json_is_refused_with_words(key_host: GuardedHost, raw: str) -> None:
    import urllib.error
    import urllib.request

    request = urllib.request.Request(
        f"{key_host.host.url}/api/runs",
        raw.encode(),
        {**key_host.with_key, "Content-Type": "application/json"},
        method="POST",
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == 400
    assert refused.value.headers["Content-Type"].startswith("application/problem+json")


def test_answers_tell_nothing_about_the_machine(key_host: GuardedHost) -> None:
    for path in ("/api/quality/nothing", "/api/runs/x", "/api/models/nothing", "/api/forecasts/2017-W99"):
        _, body, _ = key_host.host.call("GET", path, None, key_host.with_key)
        text = str(body)
        assert (
            "Traceback" not in text
            and "/work" not in text
            and "site-packages" not in text
            and "AccountKey" not in text
        )


def test_every_write_is_in_the_audit_trail_with_who_asked(key_host: GuardedHost) -> None:
    body = {"kind": "score", "sales_week": "2017-W46", "reason": "security test"}
    status, started, _ = key_host.host.call("POST", "/api/runs", body, key_host.with_key)
    assert status == 202, started
    _, trail, _ = key_host.host.call("GET", "/api/audit", None, key_host.with_key)
    assert trail["intact"] is True
    assert any(started["run_id"] in str(entry) for entry in trail["entries"])
