"""WebActivity, WebHook and AzureFunctionActivity against a real HTTP server."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections import Counter
from typing import Any

import pytest

from devhost.adf.errors import NotModelled
from devhost.adf.factory import Factory
from devhost.adf.runner import Options, PipelineRun, run_pipeline
from tests.adf.fake_app import Asked, FakeApp, Reply
from tests.adf.small_factory import activity, expression, factory, needs, ok, run, statuses
from tests.adf.test_control import returns

FUNCTIONS = {
    "type": "AzureFunction",
    "typeProperties": {"functionAppUrl": "https://app.azurewebsites.net", "authentication": "MSI"},
}


def web(url: str, method: str = "GET", **properties: Any) -> dict[str, Any]:
    return activity("Web", "WebActivity", url=url, method=method, **properties)


def function(name: str = "work", method: str = "POST", **properties: Any) -> dict[str, Any]:
    call = activity("Call", "AzureFunctionActivity", functionName=name, method=method, **properties)
    return call | {"linkedServiceName": {"referenceName": "ls", "type": "LinkedServiceReference"}}


def with_functions(*activities: dict[str, Any], service: dict[str, Any] | None = None) -> Factory:
    made = factory(*activities)
    made.linked_services["ls"] = service or json.loads(json.dumps(FUNCTIONS))
    return made


def run_function(app: FakeApp, *activities: dict[str, Any], **options: Any) -> PipelineRun:
    settings = {"wait_scale": 600.0, "url": app.url} | options
    return run_pipeline(with_functions(*activities), "main", options=Options(**settings))


# ---- WebActivity


def test_web_sends_method_headers_and_body_and_gives_the_json_object() -> None:
    with FakeApp(lambda asked: Reply(200, {"echo": asked.body, "method": asked.method})) as app:
        call = web(
            f"{app.url}/x?a=@{{pipeline().Pipeline}}",
            "POST",
            headers={"X-Run": expression("@pipeline().RunId")},
            body={"n": expression("@add(1, 1)"), "list": ["@toUpper('a')"]},
        )
        ended = run(call, returns(value="@activity('Web').output.echo") | {"dependsOn": [needs("Web", "Succeeded")]})
    assert ended.return_value["value"] == {"n": 2, "list": ["A"]}
    assert app.asked[0].path == "/x?a=main"
    assert app.asked[0].headers["X-Run"] == ended.run_id
    assert app.asked[0].headers["Content-Type"] == "application/json"
    output = ended.activity("Web").output
    assert output["ADFWebActivityResponseHeaders"]["Content-Type"] == "application/json"
    assert "effectiveIntegrationRuntime" in output


def test_web_follows_a_202_by_its_location_and_retry_after() -> None:
    looks: Counter[str] = Counter()

    def route(asked: Asked) -> Reply:
        looks[asked.path] += 1
        if asked.path == "/start":
            return Reply(202, {}, {"Location": "/status", "Retry-After": "60"})
        if looks["/status"] < 3:
            return Reply(202, {}, {"Location": "/status", "Retry-After": "60"})
        return Reply(200, {"done": True})

    with FakeApp(route) as app:
        ended = run(web(f"{app.url}/start", "POST", body={}))
    assert ended.activity("Web").output["done"] is True
    assert [(a.method, a.path) for a in app.asked] == [("POST", "/start"), *[("GET", "/status")] * 3]
    assert (ended.end - ended.start).total_seconds() >= 3 * 60 / 600


def test_web_does_not_follow_when_told_so_or_without_location() -> None:
    with FakeApp(lambda _: Reply(202, {"id": 1}, {"Location": "/status"})) as app:
        assert run(web(app.url, turnOffAsync=True)).activity("Web").output["id"] == 1
    with FakeApp(lambda _: Reply(202, {"id": 2})) as app:
        assert run(web(app.url)).activity("Web").output["id"] == 2


def test_web_fails_when_the_polled_address_fails() -> None:
    def route(asked: Asked) -> Reply:
        return Reply(202, {}, {"Location": "/s", "Retry-After": "1"}) if asked.path == "/" else Reply(500, {"why": "x"})

    with FakeApp(route) as app:
        ended = run(web(f"{app.url}/"))
    assert "Response status code: '500 - InternalServerError'" in ended.message
    assert ended.activity("Web").error["errorCode"] == "2108"


def test_web_polls_no_longer_than_its_policys_timeout() -> None:
    with FakeApp(lambda _: Reply(202, {}, {"Location": "/s", "Retry-After": "60"})) as app:
        ended = run(web(app.url) | {"policy": {"timeout": "0.00:30:00"}}, options={"limit_scale": 1200.0})
    assert ended.activity("Web").status == "TimedOut"
    assert "did not end within its timeout of 0.00:30:00" in ended.message
    assert len(app.asked) > 1


def test_web_waits_for_one_answer_no_longer_than_http_request_timeout() -> None:
    def slow(_: Asked) -> Reply:
        time.sleep(0.5)
        return Reply()

    with FakeApp(slow) as app:
        ended = run(web(app.url), options={"limit_scale": 240.0})
        assert "no answer within 60 seconds" in ended.message
        assert run(web(app.url, httpRequestTimeout="00:10:00"), options={"limit_scale": 240.0}).status == "Succeeded"


def test_web_names_an_endpoint_that_is_not_there() -> None:
    ended = run(web("http://127.0.0.1:9/x"))
    assert "Error calling the endpoint 'http://127.0.0.1:9/x'" in ended.message


@pytest.mark.parametrize(
    ("body", "headers", "output"),
    [
        ("plain text", {"Content-Type": "text/plain"}, {"Response": "plain text"}),
        ("", {}, {"Response": ""}),
        ("[1]", {}, None),
    ],
)
def test_web_gives_text_under_response_and_refuses_a_json_list(body, headers, output) -> None:
    with FakeApp(lambda _: Reply(200, body, headers)) as app:
        ended = run(web(app.url))
    if output is None:
        assert "not a valid JObject" in ended.message
    else:
        assert ended.activity("Web").output.items() >= output.items()


def test_web_refuses_an_answer_over_4_mb() -> None:
    with FakeApp(lambda _: Reply(200, {"x": "y" * (4 * 1024 * 1024)})) as app:
        assert "over limit (4MB)" in run(web(app.url)).message


def test_web_authenticates_with_the_stand_in_for_the_identity_and_never_records_it() -> None:
    with FakeApp(lambda _: Reply()) as app:
        call = web(app.url, authentication={"type": "MSI", "resource": "api://x"})
        ended = run(call, options={"identity_headers": {"x-functions-key": "hidden"}})
        run(
            web(
                app.url,
                authentication={"type": "Basic", "username": "u", "password": {"type": "SecureString", "value": "p"}},
            )
        )
    assert app.asked[0].headers["x-functions-key"] == "hidden"
    assert "hidden" not in json.dumps(ended.to_json())
    assert app.asked[1].headers["Authorization"] == "Basic dTpw"


def test_web_with_a_client_certificate_is_refused_by_name() -> None:
    with pytest.raises(NotModelled, match="authentication of type 'ClientCertificate'"):
        run(web("http://127.0.0.1:9", authentication={"type": "ClientCertificate", "pfx": "x", "password": "y"}))


def test_web_hides_what_its_policy_hides() -> None:
    with FakeApp(lambda _: Reply(200, {"token": "s3cret"})) as app:
        call = web(app.url, "POST", body={"password": "s3cret"}) | {
            "policy": {"secureInput": True, "secureOutput": True}
        }
        later = returns(value="@length(activity('Web').output.token)") | {"dependsOn": [needs("Web", "Succeeded")]}
        ended = run(call, later)
    assert ended.return_value["value"] == 6, "the run itself sees it"
    assert "s3cret" not in json.dumps(ended.to_json())


def test_retries_make_a_record_each_and_stop_at_success() -> None:
    left = Counter({"bad": 2})

    def route(_: Asked) -> Reply:
        left["bad"] -= 1
        return Reply(500, {"title": "busy"}) if left["bad"] >= 0 else Reply(200, {"ok": True})

    with FakeApp(route) as app:
        call = web(app.url) | {"policy": {"retry": 3, "retryIntervalInSeconds": 60}}
        ended = run(call)
    assert ended.status == "Succeeded"
    attempts = [(a.retry_attempt, a.status) for a in ended.activities]
    assert attempts == [(0, "Failed"), (1, "Failed"), (2, "Succeeded")]
    assert (ended.end - ended.start).total_seconds() >= 2 * 60 / 600


def test_an_expression_that_cannot_be_evaluated_fails_the_activity_at_once() -> None:
    call = web("http://127.0.0.1:9/@{activity('Nobody').output.x}") | {"policy": {"retry": 3}}
    ended = run(call, ok("Handle", needs("Web", "Failed")))
    assert len([a for a in ended.activities if a.activity_name == "Web"]) == 1
    assert "activity 'Nobody' can't be referenced" in ended.activity("Web").error["message"]
    assert statuses(ended)["Handle"] == "Succeeded"


# ---- AzureFunctionActivity


def test_function_calls_the_route_below_api_and_does_not_follow_a_202() -> None:
    with FakeApp(lambda _: Reply(202, {"run_id": "r"}, {"Location": "/never"})) as app:
        ended = run_function(app, function("orders/@{pipeline().Pipeline}?x=1", body={"a": 1}))
    assert ended.status == "Succeeded", ended.message
    assert [(a.method, a.path) for a in app.asked] == [("POST", "/api/orders/main?x=1")]
    assert ended.activity("Call").output["run_id"] == "r"


@pytest.mark.parametrize("body", ["[1]", "plain", "", "7"])
def test_functions_answer_must_be_a_json_object(body: str) -> None:
    with FakeApp(lambda _: Reply(200, body)) as app:
        ended = run_function(app, function())
    assert ended.activity("Call").error["errorCode"] == "3603"
    assert "Response Content is not a valid JObject" in ended.message


def test_a_failing_function_is_error_3608_with_its_answer() -> None:
    with FakeApp(lambda _: Reply(409, {"title": "already there"})) as app:
        ended = run_function(app, function())
    assert ended.activity("Call").error["errorCode"] == "3608"
    assert "failed with status-'Conflict' and message - '{\"title\": \"already there\"}'" in ended.message


def test_a_function_is_cut_at_230_seconds_whatever_its_policy_says() -> None:
    def slow(_: Asked) -> Reply:
        time.sleep(0.6)
        return Reply()

    with FakeApp(slow) as app:
        call = function() | {"policy": {"timeout": "1.00:00:00"}}
        ended = run_function(app, call, limit_scale=1000.0)
    assert "no answer within 230 seconds" in ended.message


def test_a_function_method_that_the_activity_does_not_take_is_error_3602() -> None:
    with FakeApp(lambda _: Reply()) as app:
        assert run_function(app, function(method="PATCH")).activity("Call").error["errorCode"] == "3602"


def test_a_function_key_from_key_vault_is_sent_when_it_was_handed_over() -> None:
    key = {
        "type": "AzureKeyVaultSecret",
        "store": {"referenceName": "kv", "type": "LinkedServiceReference"},
        "secretName": "fk",
    }
    service = {
        "type": "AzureFunction",
        "typeProperties": {"functionAppUrl": "https://app.azurewebsites.net", "functionKey": key},
    }
    with FakeApp(lambda _: Reply()) as app:
        made = with_functions(function(), service=service)
        ended = run_pipeline(made, "main", options=Options(url=app.url))
        assert ended.status == "Succeeded", ended.message
        ended = run_pipeline(made, "main", options=Options(url=app.url, secrets={"fk": "k"}))
    assert ended.status == "Succeeded", ended.message
    assert "x-functions-key" not in app.asked[0].headers
    assert app.asked[1].headers["x-functions-key"] == "k"


# ---- WebHook


class Hook(FakeApp):
    """Answers at once and calls back with a body after a moment."""

    def __init__(self, told: Any, *, status: int = 202) -> None:
        super().__init__(self._route)
        self.told, self.status = told, status

    def _route(self, asked: Asked) -> Reply:
        if self.told is not None:
            threading.Thread(target=self._call, args=(asked.body["callBackUri"],)).start()
        return Reply(self.status, {})

    def _call(self, uri: str) -> None:
        time.sleep(0.05)
        request = urllib.request.Request(uri, json.dumps(self.told).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10):
            pass


def hook(app: FakeApp, **properties: Any) -> dict[str, Any]:
    return activity("Hook", "WebHook", url=app.url, method="POST", body={"a": 1}, **properties)


def test_web_hook_waits_for_the_callback() -> None:
    with Hook({"rows": 5}) as app:
        ended = run(hook(app))
    assert ended.activity("Hook").output == {"rows": 5}
    assert app.asked[0].body["a"] == 1
    assert app.asked[0].body["callBackUri"].startswith("http://127.0.0.1:")


def test_web_hook_reports_the_status_only_when_told_to() -> None:
    told = {"Output": {"n": 1}, "Error": {"ErrorCode": "E9", "Message": "no data"}, "StatusCode": "403"}
    with Hook(told) as app:
        assert run(hook(app)).status == "Succeeded"
        ended = run(hook(app, reportStatusOnCallBack=True))
    assert ended.message == "Operation on target Hook failed: no data"
    assert ended.activity("Hook").error["errorCode"] == "E9"
    assert ended.activity("Hook").output == {"n": 1}


def test_web_hook_gives_up_after_its_timeout() -> None:
    with Hook(None) as app:
        ended = run(hook(app, timeout="00:10:00"), options={"limit_scale": 300.0})
    assert ended.activity("Hook").status == "TimedOut"
    assert "callback did not come within 00:10:00" in ended.message


def test_web_hook_fails_when_the_endpoint_does_and_is_never_retried() -> None:
    with Hook(None, status=500) as app:
        ended = run(hook(app) | {"policy": {"retry": 3}})
    assert ended.status == "Failed"
    assert len(app.asked) == 1
