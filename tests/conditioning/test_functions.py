"""The bindings: what is registered, and how calls are answered."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import azure.functions as func
import pytest

import bootstrap
from conditioning import functions
from conditioning.registry import source_names
from orchestrators.audit import read_audit
from tests.conditioning.conftest import ROOT, Services
from tests.conditioning.test_service import BAD, HEADER, LINES, WEEK, drop


@pytest.fixture(scope="module")
def registered() -> dict[str, Any]:
    app = func.FunctionApp()
    app.register_functions(functions.blueprint)
    return {item.get_function_name(): item for item in app.get_functions()}


def call(
    registered: dict[str, Any],
    name: str,
    method: str = "POST",
    body: Any = None,
    params: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    **route: str,
) -> tuple[int, dict[str, Any]]:
    raw = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    request = func.HttpRequest(
        method, "http://localhost/api/x", body=raw, params=params or {}, headers=headers or {}, route_params=route
    )
    answer = registered[name].get_user_function()(request)
    return answer.status_code, json.loads(answer.get_body())


@pytest.fixture
def host(registered: dict[str, Any], services: Services, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(bootstrap, "services", lambda: services)
    return registered


def test_every_source_has_its_own_arrival_function(registered: dict[str, Any]) -> None:
    arrivals = {
        name: item.get_bindings_dict()["bindings"][0] for name, item in registered.items() if name.endswith("_arrived")
    }
    assert sorted(arrivals) == [f"condition_{source}_arrived" for source in source_names()]
    for name, binding in arrivals.items():
        source = name.removeprefix("condition_").removesuffix("_arrived")
        assert binding["path"] == f"landing/{source}/{{sales_week}}/{{name}}"
        assert (binding["source"], binding["connection"], binding["type"]) == ("EventGrid", "LAKE", "blobTrigger")


def test_no_route_is_open_to_everybody(registered: dict[str, Any]) -> None:
    bindings = [binding for item in registered.values() for binding in item.get_bindings_dict()["bindings"]]
    routes = [binding for binding in bindings if binding["type"] == "httpTrigger"]
    assert len(routes) >= 6
    assert {str(binding["authLevel"]) for binding in routes} <= {"FUNCTION", "AuthLevel.FUNCTION"}


def test_importing_the_bindings_loads_nothing_heavy() -> None:
    heavy = ("pandas", "numpy", "pyarrow", "azure.storage.blob")
    code = f"import sys, conditioning.functions; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_condition_call_is_answered_with_the_outcome(host: dict[str, Any], services: Services) -> None:
    drop(services, HEADER + LINES + BAD)
    status, answer = call(
        host, "condition", body={"sales_week": WEEK}, headers={"x-correlation-id": "adf-7"}, source="deliveries"
    )
    assert (status, answer["status"], answer["correlation_id"]) == (200, "partial", "adf-7")
    status, page = call(host, "show_quarantine", "GET", params={"limit": "5"}, source="deliveries")
    assert (status, page["total"]) == (200, 1)
    status, quality = call(host, "show_quality", "GET", source="deliveries")
    assert quality["weeks"][0]["by_reason"] == {"bad_date": 1}
    status, gate = call(host, "show_gate", "GET", sales_week="2017-W46")
    assert (status, gate["open"]) == (200, False)
    status, sources = call(host, "list_sources", "GET")
    assert len(sources["sources"]) == len(source_names())
    wish = {"sales_week": WEEK, "reason": "the date format was wrong"}
    status, again = call(host, "redrive_quarantine", body=wish, source="deliveries")
    assert (status, again["counts"]["quarantined"]) == (200, 1)
    entry = read_audit(services.lake)[-1]
    assert (entry["action"], entry["subject"]) == ("source_redriven", f"deliveries/{WEEK}")
    assert entry["details"]["reason"] == "the date format was wrong"


@pytest.mark.parametrize(
    ("name", "options", "status", "field"),
    [
        ("condition", {"source": "nothing", "body": {"sales_week": WEEK}}, 404, "source"),
        ("condition", {"source": "deliveries", "body": {"sales_week": "45"}}, 400, "sales_week"),
        ("condition", {"source": "deliveries", "body": b"{"}, 400, "body"),
        ("condition", {"source": "deliveries", "body": {"blob_path": f"deliveries/{WEEK}/none.csv"}}, 404, "blob_path"),
        ("show_quarantine", {"source": "deliveries", "params": {"limit": "-1"}}, 400, "limit"),
        ("show_quarantine", {"source": "nothing"}, 404, "source"),
        ("show_quality", {"source": "nothing"}, 404, "source"),
        ("show_gate", {"sales_week": "now"}, 400, "sales_week"),
        ("show_gate", {"sales_week": WEEK, "body": {"correlation_id": {}}}, 400, "correlation_id"),
        ("show_gate", {"sales_week": WEEK, "body": {"correlation_id": "x" * 501}}, 400, "correlation_id"),
        ("condition", {"source": "deliveries", "body": {"correlation_id": 0}}, 400, "correlation_id"),
        ("redrive_quarantine", {"source": "deliveries", "body": {"sales_week": WEEK, "rows": 5}}, 400, "rows"),
        ("redrive_quarantine", {"source": "deliveries", "body": {"sales_week": WEEK, "reason": 5}}, 400, "reason"),
    ],
)
def test_wrong_calls_are_problems_that_name_the_field(
    host: dict[str, Any], name: str, options: dict[str, Any], status: int, field: str
) -> None:
    code, problem = call(host, name, **options)
    assert (code, problem["status"], problem["field"]) == (status, status, field)


def test_arrival_sweep_and_activities_share_one_body(host: dict[str, Any], services: Services) -> None:
    drop(services, HEADER + LINES)
    host["condition_deliveries_arrived"].get_user_function()(SimpleNamespace(name=f"landing/deliveries/{WEEK}/dsd.txt"))
    activity = host["condition_source"].get_user_function()
    request = {"source": "deliveries", "sales_week": WEEK, "correlation_id": "o-1"}
    assert activity(request)["status"] == "unchanged"
    assert activity({**request, "sales_week": "x"})["failed"].startswith("bad_request")
    drop(services, HEADER + LINES.replace("11/0", "10/3"), "deliveries/2017-W44/dsd.txt")
    host["condition_missed_files"].get_user_function()(None)
    assert {name for name, _ in services.telemetry.events} == {"source_conditioned"}
    assert len(services.telemetry.events) == 2
    assert host["data_gate"].get_user_function()({"sales_week": "2017-W46"})["open"] is False
