"""HTTP triggers, keys, admin routes: what comes in is what functions see, what they return is what goes out."""

from __future__ import annotations

import json
import urllib.request

import pytest

from devhost.errors import AppLoadError
from devhost.route_table import RouteTable
from tests.devhost.conftest import INSTANCES, ORCHESTRATORS, HostFactory, eventually


def test_request_and_response_keep_their_shape(host: HostFactory) -> None:
    sample = host("operations")
    request = urllib.request.Request(f"{sample.url}/api/Items/abc/5?x=1&x=2", b"\x00\xff", {"Content-Type": "a/b"})
    with urllib.request.urlopen(request) as answer:
        assert (answer.status, answer.read(), answer.headers["content-type"]) == (
            201,
            b"\x00\xff",
            "application/x-test",
        )
        assert answer.headers["x-url"] == f"{sample.url}/api/Items/abc/5?x=1&x=2" and answer.headers["x-kind"] == "abc"
        assert answer.headers["Set-Cookie"] == "a=1; Path=/"
    assert sample.call("GET", "/api/items/special")[1] == "special"  # literals win
    assert sample.call("GET", "/api/items/abc")[0] == 201
    for path in ("/api/items/abc/x", "/api/items/7", "/api/other", "/other"):
        assert sample.call("GET", path)[0] == 404, path
    assert sample.call("GET", "/")[0] == 200


def test_large_bodies_pass(host: HostFactory) -> None:
    sample = host("operations")
    body = b"x" * 5_000_000
    with urllib.request.urlopen(urllib.request.Request(f"{sample.url}/api/items/abc", body)) as answer:
        assert answer.read() == body


def test_functions_that_break_answer_500_and_say_so_in_the_log(host: HostFactory) -> None:
    sample = host("operations")
    assert sample.call("GET", "/api/breaks")[:2] == (500, None)
    (line,) = [line for line in sample.log.splitlines() if "RuntimeError: it broke" in line]
    assert "function=breaks" in line and "function_app.py" in line and "devhost/invocation.py" not in line
    assert sample.call("GET", "/api/nothing")[0] == 500
    assert "return func.HttpResponse or str" in sample.log


def test_keys_are_asked_for_only_on_demand(host: HostFactory) -> None:
    assert host("operations").call("GET", "/api/admin-only")[0] == 200
    sample = host("operations", "--auth")
    keys = json.loads((sample.data / "keys.json").read_text())
    assert sample.call("GET", "/api/items/special")[0] == 200  # anonymous
    assert sample.call("GET", "/api/quick")[0] == 401
    assert sample.call("GET", "/api/quick?code=wrong")[0] == 401
    assert sample.call("GET", f"/api/quick?code={keys['function']}")[0] == 200
    assert sample.call("GET", "/api/quick", headers={"x-functions-key": keys["master"]})[0] == 200
    assert sample.call("GET", f"/api/admin-only?code={keys['function']}")[0] == 401
    assert sample.call("GET", f"/api/admin-only?code={keys['master']}")[0] == 200
    assert sample.call("GET", "/admin/functions")[0] == 401
    assert sample.call("POST", f"{ORCHESTRATORS}/echo", {})[0] == 401
    code, links, _ = sample.call("POST", f"{ORCHESTRATORS}/echo?code={keys['durable']}", {"n": 1})
    assert code == 202 and eventually(lambda: sample.call("GET", links["statusQueryGetUri"])[0] == 200)
    assert sample.call("GET", INSTANCES)[0] == 401


def test_admin_routes(host: HostFactory) -> None:
    sample = host("operations")
    assert sample.call("GET", "/admin/host/status")[1]["state"] == "Running"
    functions = {f["name"]: f for f in sample.call("GET", "/admin/functions")[1]}
    assert functions["quick"]["invoke_url_template"] == f"{sample.url}/api/quick"
    assert functions["echo"]["config"]["bindings"][0]["type"] == "orchestrationTrigger"
    assert sample.call("GET", "/admin/functions/use")[1]["name"] == "use"
    assert sample.call("POST", "/admin/functions/use", {"input": '"by hand"'})[0] == 202
    assert eventually(lambda: sample.effects) == ["by hand"]
    assert sample.call("POST", "/admin/functions/nobody", {"input": ""})[0] == 404
    assert sample.call("POST", "/admin/functions/quick", {"input": ""})[0] == 400


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("a/{b}", "/A/x%20y", {"b": "x y"}),
        ("a/{b?}", "a", {}),
        ("a/{*rest}", "a/b/c", {"rest": "b/c"}),
        ("a/{id:int}", "a/12", {"id": "12"}),
        ("a/{id:int}", "a/x", None),
        ("{id:guid}", "0f8fad5b-d9cb-469f-a165-70867728950e", {"id": "0f8fad5b-d9cb-469f-a165-70867728950e"}),
        ("{n:range(1,5)}", "6", None),
        ("{n:length(2)}", "ab", {"n": "ab"}),
        (r"{w:regex(^\d{{4}}-W\d\d$)}", "2017-W45", {"w": "2017-W45"}),
        ("week-{w}.csv", "week-45.csv", {"w": "45"}),
        ("a", "a/b", None),
        ("", "", {}),
    ],
)
def test_route_templates(template: str, path: str, values: dict[str, str] | None) -> None:
    found = RouteTable([([], template, "target")]).find("GET", path)
    assert found == (None if values is None else ("target", values))


def test_unknown_constraints_are_refused() -> None:
    with pytest.raises(AppLoadError, match="constraint 'week'"):
        RouteTable([([], "{w:week}", "target")])
