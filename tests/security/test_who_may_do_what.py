"""Every route, every kind of caller: nobody gets in without a key or a role, and readers change nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.host_process import HostProcess
from tests.security.conftest import ROOT, GuardedHost, principal

DOCUMENT = json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8"))
VALUES = {
    "{source}": "deliveries",
    "{sales_week}": "2017-W45",
    "{run_id}": "weekly-2017-W45-a1",
    "{segment}": "r01-large-fast",
    "{rollout_id}": "rollout-green-000000000000",
    "{path}": "index.html",
}
OPEN = {("get", "/health"), ("get", "/openapi.json"), ("get", "/ops/{path}")}
READS_BY_POST = {("post", "/gate/{sales_week}")}  # Data Factory's function activity asks by POST; nothing changes


def routes() -> list[tuple[str, str]]:
    return [
        (method, path)
        for path, item in DOCUMENT["paths"].items()
        for method in item
        if method in ("get", "post", "put", "delete")
    ]


GUARDED = [route for route in routes() if route not in OPEN]
WRITES = [route for route in GUARDED if route[0] == "post" and route not in READS_BY_POST]
READS = [route for route in GUARDED if route not in WRITES]


def url(path: str) -> str:
    for name, value in VALUES.items():
        path = path.replace(name, value)
    return f"/api{path}" + ("?sales_week=2017-W45&store_id=s&product_id=p" if path == "/explain" else "")


def send(host: HostProcess, route: tuple[str, str], headers: dict[str, str]) -> tuple[int, Any]:
    method, path = route
    status, body, _ = host.call(method.upper(), url(path), {} if method == "post" else None, headers)
    return status, body


def test_the_document_names_every_route_of_the_app() -> None:
    import function_app

    served = set()
    for function in function_app.app.get_functions():
        for binding in json.loads(function.get_function_json())["bindings"]:
            if binding["type"] == "httpTrigger":
                served |= {
                    (str(method).lower(), "/" + binding["route"].replace("{*path}", "{path}"))
                    for method in binding["methods"]
                }
    assert served == set(routes())


@pytest.mark.parametrize("route", GUARDED)
def test_a_stranger_is_turned_away(key_host: GuardedHost, route: tuple[str, str]) -> None:
    assert send(key_host.host, route, {})[0] == 401
    assert send(key_host.host, route, {"x-functions-key": "wrong"})[0] == 401
    assert (
        send(key_host.host, route, principal("operator"))[0] == 401
    )  # a header that anybody can write opens nothing


@pytest.mark.parametrize("route", sorted(OPEN))
def test_what_is_open_holds_no_data(key_host: GuardedHost, route: tuple[str, str]) -> None:
    status, _ = send(key_host.host, route, {})
    assert status == 200


@pytest.mark.parametrize("route", WRITES)
def test_a_reader_changes_nothing(key_host: GuardedHost, sign_in_host: HostProcess, route: tuple[str, str]) -> None:
    for status, body in (
        send(key_host.host, route, {**key_host.with_key, **principal("reader")}),
        send(sign_in_host, route, principal("reader")),
    ):
        assert status == 403 and body["type"].endswith(":forbidden") and "operator" in body["detail"]


@pytest.mark.parametrize("route", READS)
def test_a_reader_reads(sign_in_host: HostProcess, route: tuple[str, str]) -> None:
    assert send(sign_in_host, route, principal("reader"))[0] in (200, 202, 404)


@pytest.mark.parametrize("route", GUARDED)
def test_an_operator_passes_the_door(sign_in_host: HostProcess, route: tuple[str, str]) -> None:
    assert send(sign_in_host, route, principal("operator"))[0] not in (401, 403, 500)


@pytest.mark.parametrize("route", GUARDED)
def test_signed_in_without_a_role_is_not_enough(sign_in_host: HostProcess, route: tuple[str, str]) -> None:
    assert send(sign_in_host, route, principal())[0] == 403
    assert send(sign_in_host, route, principal("Operator ", "admin"))[0] == 403
    assert send(sign_in_host, route, {})[0] == 403  # the platform answers 401 before; the app does not rely on it


@pytest.mark.parametrize("header", ["", "!!!", "bm90IGpzb24=", "W10=", "eyJjbGFpbXMiOiAxfQ==", "A" * 6000])
def test_a_broken_principal_is_nobody(sign_in_host: HostProcess, header: str) -> None:
    status, _, _ = sign_in_host.call("GET", "/api/runs", None, {"x-ms-client-principal": header})
    assert status == 403


def test_the_durable_management_routes_ask_for_their_own_key(key_host: GuardedHost) -> None:
    for path in ("/runtime/webhooks/durabletask/instances", "/admin/functions"):
        assert key_host.host.call("GET", path, None, {})[0] in (401, 404)
        assert key_host.host.call("GET", path, None, key_host.with_key)[0] in (401, 404)


def test_identities_are_the_only_credentials_in_the_product() -> None:
    allowed = {"DefaultAzureCredential", "ManagedIdentityCredential"}
    folders = ("adapters", "conditioning", "orchestrators", "dashboard", "domain", "scripts")
    for path in [p for folder in folders for p in (ROOT / folder).rglob("*.py")] + [Path(ROOT / "bootstrap.py")]:
        text = path.read_text("utf-8")
        for name in (
            "ClientSecretCredential",
            "UsernamePasswordCredential",
            "AzureKeyCredential",
            "StorageSharedKeyCredential",
        ):
            assert name not in text, path
        if "from azure.identity import" in text:
            imported = {
                n.strip()
                for line in text.splitlines()
                if "from azure.identity import" in line
                for n in line.split("import")[1].split(",")
            }
            assert imported <= allowed, path
