"""The management routes: what operators and the SDK's client ask for, with their status codes and shapes."""

from __future__ import annotations

import time

from tests.devhost.conftest import INSTANCES, ORCHESTRATORS, HostFactory, SampleHost, eventually


def runtime_status(sample: SampleHost, instance: str) -> str:
    return str(sample.status(instance)["runtimeStatus"])


def test_start_answers_with_links_of_this_host(host: HostFactory) -> None:
    sample = host("operations")
    code, body, headers = sample.call("POST", f"{ORCHESTRATORS}/echo/one", {"a": [1, "ü"]})
    assert code == 202 and headers["retry-after"] == "10" and headers["location"] == body["statusQueryGetUri"]
    assert set(body) == {
        "id", "statusQueryGetUri", "sendEventPostUri", "terminatePostUri", "purgeHistoryDeleteUri", "restartPostUri",
        "suspendPostUri", "resumePostUri",
    }  # fmt: skip
    assert body["statusQueryGetUri"].startswith(f"{sample.url}{INSTANCES}/one?taskHub=samples&connection=Storage&code=")
    assert sample.finish("one") == {"a": [1, "ü"]}
    code, status, _ = sample.call("GET", body["statusQueryGetUri"])
    assert code == 200 and set(status) == {
        "name", "instanceId", "runtimeStatus", "input", "customStatus", "output", "createdTime", "lastUpdatedTime",
    }  # fmt: skip
    assert status["input"] == {"a": [1, "ü"]} and len(status["createdTime"]) == len("2024-01-01T00:00:00Z")
    assert sample.call("GET", f"{INSTANCES}/one?showInput=false")[1]["input"] is None


def test_start_refuses_what_it_cannot_do(host: HostFactory) -> None:
    sample = host("operations")
    code, body, _ = sample.call("POST", f"{ORCHESTRATORS}/nobody", {})
    assert code == 400 and "is not an orchestrator function" in body["ExceptionMessage"]
    for bad in ("@x", "a%23b", "a%3Fb", "a%5Cb", "a%01b", "x" * 257):
        assert sample.call("POST", f"{ORCHESTRATORS}/echo/{bad}", {})[0] == 400, bad
    assert sample.call("POST", f"{ORCHESTRATORS}/echo?timeout=1&pollingInterval=2", {})[0] == 400
    assert sample.call("POST", f"{ORCHESTRATORS}/waits/w", {})[0] == 202
    eventually(lambda: runtime_status(sample, "w") == "Running")
    assert sample.call("POST", f"{ORCHESTRATORS}/waits/w", {})[0] == 500  # the id is taken
    sample.begin("echo", {"n": 1}, "again")
    sample.finish("again")
    sample.begin("echo", {"n": 2}, "again")  # a finished one is replaced
    assert sample.finish("again") == {"n": 2}
    assert sample.call("GET", "/runtime/webhooks/durabletask/nothing")[0] == 404
    assert sample.call("GET", f"{INSTANCES}/unknown")[0] == 404


def test_start_can_wait_for_the_output(host: HostFactory) -> None:
    sample = host("operations")
    assert sample.call("POST", f"{ORCHESTRATORS}/echo?timeout=5&pollingInterval=1", {"n": 1})[:2] == (200, {"n": 1})
    code, body, _ = sample.call("POST", f"{ORCHESTRATORS}/fragile?timeout=5&pollingInterval=1")
    assert (code, body["runtimeStatus"]) == (200, "Failed")
    assert sample.call("POST", f"{ORCHESTRATORS}/waits?timeout=0.3&pollingInterval=0.1")[0] == 202


def test_suspend_parks_everything_until_resume(host: HostFactory) -> None:
    sample = host("operations")
    sample.begin("waits", None, "s")
    eventually(lambda: sample.status("s")["customStatus"] == "waiting")
    assert sample.call("POST", f"{INSTANCES}/s/resume")[0] == 500
    assert sample.call("POST", f"{INSTANCES}/s/suspend?reason=holiday")[0] == 202
    eventually(lambda: runtime_status(sample, "s") == "Suspended")
    assert sample.call("POST", f"{INSTANCES}/s/suspend")[0] == 500
    assert sample.call("POST", f"{INSTANCES}/s/raiseEvent/Go", "now")[0] == 202
    time.sleep(0.4)
    assert sample.effects == []
    sample.crash()
    assert runtime_status(sample, "s") == "Suspended"
    assert sample.call("POST", f"{INSTANCES}/s/resume?reason=back")[0] == 202
    assert sample.finish("s") == "now"
    assert sample.call("POST", f"{INSTANCES}/s/suspend")[0] == 410


def test_terminate_ends_at_once_with_the_reason(host: HostFactory) -> None:
    sample = host("operations")
    sample.begin("sleeps", None, "t")
    eventually(lambda: runtime_status(sample, "t") == "Running")
    assert sample.call("POST", f"{INSTANCES}/t/terminate?reason=not%20needed")[0] == 202
    ended = sample.wait_for("t", 3)
    assert (ended["runtimeStatus"], ended["output"]) == ("Terminated", "not needed")
    assert sample.call("POST", f"{INSTANCES}/t/terminate")[0] == 410
    assert sample.call("POST", f"{INSTANCES}/t/raiseEvent/Go", 1)[0] == 410
    assert sample.call("POST", f"{INSTANCES}/nobody/terminate")[0] == 404


def test_events_must_be_json(host: HostFactory) -> None:
    sample = host("operations")
    sample.begin("waits", None, "e")
    url = f"{INSTANCES}/e/raiseEvent/Go"
    assert sample.call("POST", url, "x", {"Content-Type": "text/plain"})[0] == 400
    assert sample.call("POST", f"{INSTANCES}/nobody/raiseEvent/Go", 1)[0] == 404
    assert sample.call("POST", url, {"deep": [1]})[0] == 202
    assert sample.finish("e") == {"deep": [1]}


def test_rewind_runs_the_failed_part_again_children_too(host: HostFactory) -> None:
    sample = host("operations")
    instance = sample.begin("parent", None, "p")
    failed = sample.wait_for(instance)
    assert failed["runtimeStatus"] == "Failed" and "needs_file" in failed["output"]
    assert sample.call("GET", f"{INSTANCES}/p?returnInternalServerErrorOnFailure=true")[0] == 500
    sample.effects_file.with_name("effects.txt-file").write_text("here now")
    assert sample.call("POST", f"{INSTANCES}/p/rewind?reason=mended")[0] == 202
    sample.crash()
    assert sample.finish(instance) == ["before", "here now"]
    assert sample.effects == ["before"]  # what had succeeded is not done again
    assert sample.call("POST", f"{INSTANCES}/p/rewind")[0] == 410
    sample.begin("waits", None, "w")
    assert sample.call("POST", f"{INSTANCES}/w/rewind")[0] == 500
    assert sample.call("POST", f"{INSTANCES}/nobody/rewind")[0] == 404


def test_restart_takes_the_same_input(host: HostFactory) -> None:
    sample = host("operations")
    sample.begin("echo", {"n": 3}, "r")
    sample.finish("r")
    code, body, _ = sample.call("POST", f"{INSTANCES}/r/restart")
    assert code == 202 and body["id"] != "r" and sample.finish(body["id"]) == {"n": 3}
    code, body, _ = sample.call("POST", f"{INSTANCES}/r/restart?restartWithNewInstanceId=false")
    assert (code, body["id"]) == (202, "r") and sample.finish("r") == {"n": 3}
    assert sample.call("POST", f"{INSTANCES}/nobody/restart")[0] == 400


def test_queries_filter_and_page(host: HostFactory) -> None:
    sample = host("operations")
    for n in range(5):
        sample.finish(sample.begin("echo", {"n": n}, f"q-{n}"))
    sample.begin("waits", None, "open")
    eventually(lambda: runtime_status(sample, "open") == "Running")
    ids = [i["instanceId"] for i in sample.call("GET", f"{INSTANCES}?runtimeStatus=Completed&instanceIdPrefix=q-")[1]]
    assert ids == [f"q-{n}" for n in range(5)]
    assert [i["instanceId"] for i in sample.call("GET", f"{INSTANCES}?runtimeStatus=Running,Pending")[1]] == ["open"]
    assert sample.call("GET", f"{INSTANCES}?createdTimeFrom=2999-01-01T00:00:00Z")[1] == []
    seen, token = [], ""
    while True:
        code, page, headers = sample.call("GET", f"{INSTANCES}/?top=2", headers={"x-ms-continuation-token": token})
        seen += [i["instanceId"] for i in page]
        token = headers.get("x-ms-continuation-token", "")
        assert code == 200 and len(page) <= 2
        if not token:
            break
    assert seen == ["open", *ids]


def test_purge_one_and_many(host: HostFactory) -> None:
    sample = host("operations")
    for n in range(3):
        sample.finish(sample.begin("echo", {"n": n}, f"d-{n}"))
    sample.begin("waits", None, "open")
    assert sample.call("DELETE", f"{INSTANCES}/d-0")[:2] == (200, {"instancesDeleted": 1})
    assert sample.call("DELETE", f"{INSTANCES}/d-0")[0] == 404
    assert sample.call("DELETE", INSTANCES)[0] == 400
    assert sample.call("DELETE", f"{INSTANCES}?createdTimeFrom=2999-01-01T00:00:00Z")[0] == 404
    assert sample.call("DELETE", f"{INSTANCES}?createdTimeFrom=2000-01-01T00:00:00Z")[:2] == (
        200,
        {"instancesDeleted": 2},
    )
    assert sample.call("DELETE", f"{INSTANCES}/open")[:2] == (200, {"instancesDeleted": 1})
    assert sample.call("GET", INSTANCES)[1] == []


def test_history_is_told_in_names(host: HostFactory) -> None:
    sample = host("operations")
    sample.finish(sample.begin("echo", {"n": 1}, "h"))
    events = sample.status("h", "showHistory=true&showHistoryOutput=true&showInput=true")["historyEvents"]
    assert [e["EventType"] for e in events] == ["ExecutionStarted", "TaskCompleted", "ExecutionCompleted"]
    assert events[0]["FunctionName"] == "echo" and events[0]["Input"] == {"n": 1}
    assert events[1]["FunctionName"] == "use" and events[1]["Result"] == {"n": 1} and "ScheduledTime" in events[1]
    assert events[2]["OrchestrationStatus"] == "Completed" and events[2]["Result"] == {"n": 1}
    assert not {"EventId", "IsPlayed", "TaskScheduledId", "Version"} & set().union(*events)
    assert "Result" not in sample.status("h", "showHistory=true")["historyEvents"][1]


def test_orchestrator_that_wavers_fails_with_the_reason(host: HostFactory) -> None:
    sample = host("operations")
    ended = sample.wait_for(sample.begin("wavers"))
    assert ended["runtimeStatus"] == "Failed" and ended["output"].startswith("Non-Deterministic workflow detected")


def test_http_is_served_while_activities_run(host: HostFactory) -> None:
    sample = host("operations")
    for _ in range(10):
        sample.begin("sleeps")
    time.sleep(0.3)
    began = time.monotonic()
    assert sample.call("GET", "/api/quick")[1] == "quick"
    assert time.monotonic() - began < 1.0
