"""Every orchestration pattern, undisturbed and with kill -9 in the middle."""

from __future__ import annotations

import pytest

from tests.devhost.conftest import INSTANCES, HostFactory, eventually

crashes = pytest.mark.parametrize("crash", [False, True], ids=["undisturbed", "killed"])


@crashes
def test_chain_runs_its_steps_in_order(host: HostFactory, crash: bool) -> None:
    sample = host("chaining", STEP_SECONDS="0.3")
    code, links, headers = sample.call("POST", "/api/orders/leek?id=order-1")
    assert code == 202 and links["id"] == "order-1" and headers["location"] == links["statusQueryGetUri"]
    if crash:
        eventually(lambda: len(sample.effects) == 2)
        sample.crash()
    output = sample.finish("order-1")
    assert output["result"] == "leek washed cut packed"
    # At least once: the step that was under way when the host was killed runs again, the finished ones do not.
    assert sample.effects == (["washed", "cut", "cut", "packed"] if crash else ["washed", "cut", "packed"])
    assert sample.status("order-1")["customStatus"] == {"doing": "packed"}


@crashes
def test_fan_out_collects_every_result_once(host: HostFactory, crash: bool) -> None:
    sample = host("fan_out", STEP_SECONDS="0.05")
    instance = sample.begin("total", {"count": 60})
    if crash:
        eventually(lambda: len(sample.effects) > 10)
        sample.crash()
    assert sample.finish(instance) == sum(range(60))
    assert set(sample.effects) == {str(n) for n in range(60)}
    assert len(sample.effects) <= 60 + 6 * crash  # only activities under way at the kill ran twice


def test_first_of_many_wins_and_the_loser_holds_the_end(host: HostFactory) -> None:
    sample = host("fan_out")
    instance = sample.begin("first_of")
    eventually(lambda: sample.status(instance)["runtimeStatus"] == "Running")
    assert sample.finish(instance) is True
    ended = sample.status(instance, "showHistory=true")
    assert [e["EventType"] for e in ended["historyEvents"]].count("TaskCompleted") == 2


def test_failure_in_a_fan_out_is_seen_after_the_slowest(host: HostFactory) -> None:
    sample = host("fan_out")
    after, problem = sample.finish(sample.begin("one_fails"))
    assert after == 7
    assert problem.startswith("Activity function 'wait' failed:  ValueError: cannot wait for the past \n ")


def test_results_can_be_taken_one_by_one(host: HostFactory) -> None:
    sample = host("fan_out")
    assert sample.finish(sample.begin("one_by_one")) == [0.0, 0.01, 0.02, 0.03, 0.04]


@crashes
def test_monitor_looks_until_it_is_so(host: HostFactory, crash: bool) -> None:
    sample = host("monitor")
    goal = sample.data / "goal"
    instance = sample.begin("watch", {"path": str(goal), "seconds": 30})
    eventually(lambda: len(sample.effects) >= 2)
    if crash:
        sample.crash()
    goal.touch()
    output = sample.finish(instance)
    assert output["found"] and output["looks"] >= 2


def test_monitor_gives_up_at_its_deadline(host: HostFactory) -> None:
    sample = host("monitor")
    assert sample.finish(sample.begin("watch", {"path": "/nowhere", "seconds": 0.5}))["found"] is False


@crashes
def test_approval_arrives_in_time(host: HostFactory, crash: bool) -> None:
    sample = host("human_interaction")
    instance = sample.begin("approval", {"seconds": 60})
    eventually(lambda: sample.status(instance)["runtimeStatus"] == "Running")
    if crash:
        sample.crash()
    assert sample.call("POST", f"{INSTANCES}/{instance}/raiseEvent/Answer", {"by": "Ada"})[0] == 202
    if crash:
        sample.crash()
    assert sample.finish(instance) == {"approved": {"by": "Ada"}}


@crashes
def test_missing_approval_escalates(host: HostFactory, crash: bool) -> None:
    sample = host("human_interaction")
    instance = sample.begin("approval", {"seconds": 1})
    if crash:
        sample.crash()
    assert sample.finish(instance) == f"escalated {instance}"


def test_client_raises_text_and_early_events_wait(host: HostFactory) -> None:
    sample = host("human_interaction")
    instance = sample.begin("two_signatures")
    for name in ("Second", "First"):
        sample.call("POST", f"{INSTANCES}/{instance}/raiseEvent/{name}", name.lower())
    assert sample.finish(instance) == ["first", "second"]
    approval = sample.begin("approval", {"seconds": 60})
    assert sample.call("POST", f"/api/answers/{approval}", {"ok": True})[1]["instanceId"] == approval
    assert sample.finish(approval) == {"approved": '{"ok": true}'}  # the SDK sends text of text


@crashes
def test_eternal_orchestration_keeps_a_short_history(host: HostFactory, crash: bool) -> None:
    sample = host("eternal")
    instance = sample.begin("heartbeat", {"count": 0, "until": 12, "pause": 50})
    if crash:
        eventually(lambda: len(sample.effects) > 3)
        sample.crash()
    assert sample.finish(instance) == 12
    assert sorted(set(map(int, sample.effects))) == list(range(12))
    assert len(sample.status(instance, "showHistory=true")["historyEvents"]) < 8


@crashes
def test_family_of_orchestrations(host: HostFactory, crash: bool) -> None:
    sample = host("sub_orchestrations", STEP_SECONDS="0.4")
    instance = sample.begin("family", None, "smiths")
    if crash:
        eventually(lambda: sample.call("GET", f"{INSTANCES}/smiths-first")[0] != 404)
        sample.crash()
    assert sample.finish(instance) == [{"n": n, "parent": "smiths"} for n in (2, 4, 6)]
    assert sample.status("smiths-first")["runtimeStatus"] == "Completed"


def test_failed_child_reaches_its_parent(host: HostFactory) -> None:
    sample = host("sub_orchestrations")
    text = sample.finish(sample.begin("careful"))
    assert text.startswith("Orchestrator function 'broken' failed: the child is broken")
    assert sample.finish(sample.begin("stubborn")).startswith("gave up: Orchestrator function 'broken' failed")
    assert sum(i["name"] == "broken" for i in sample.call("GET", INSTANCES)[1]) == 4


@crashes
def test_entities_answer_in_order(host: HostFactory, crash: bool) -> None:
    sample = host("entities")
    if crash:
        assert sample.call("POST", "/api/counters/a?by=100")[0] == 202
        sample.crash()
    base = 100 if crash else 0
    first, both, problem = sample.finish(sample.begin("count", {"key": "a"}))
    assert [first, both] == [base + 11, [base + 13, base + 13]]
    assert "the counter is broken" in problem
    assert sample.call("GET", "/api/counters/a")[1] == {"exists": True, "state": base + 13}
    assert sample.call("GET", "/api/counters/nobody")[1]["exists"] is False


def test_entity_routes(host: HostFactory) -> None:
    sample = host("entities")
    base = "/runtime/webhooks/durabletask/entities"
    assert sample.call("GET", f"{base}/Counter/k")[0] == 404
    assert sample.call("POST", f"{base}/counter/k?op=add", "5")[0] == 202
    assert eventually(lambda: sample.call("GET", f"{base}/Counter/k")[1]) == 5
    assert sample.call("POST", f"{base}/nothing/k?op=add", "5")[0] == 400
    listed = sample.call("GET", f"{base}?fetchState=true")[1]
    assert [(item["entityId"], item["state"]) for item in listed] == [({"name": "counter", "key": "k"}, 5)]
    assert sample.call("DELETE", f"{base}/Counter/k")[0] == 202
    eventually(lambda: sample.call("GET", f"{base}/Counter/k")[0] == 404)


@crashes
def test_retries_until_it_works(host: HostFactory, crash: bool) -> None:
    sample = host("retries")
    instance = sample.begin("patient", {"attempts": 5, "fails": 2, "pause": 500})
    if crash:
        eventually(lambda: len(sample.effects) == 1)
        sample.crash()
    assert sample.finish(instance) == "AFTER 3"


def test_retries_end_in_the_last_error(host: HostFactory) -> None:
    sample = host("retries")
    assert sample.finish(sample.begin("patient", {"attempts": 2, "fails": 9})) == (
        "gave up: Activity function 'flaky' failed:  ValueError: attempt 2 "
    )
    assert sample.finish(sample.begin("patient_many")) == [0, 1, 2, 3]


def test_durable_http_call_returns_what_came(host: HostFactory) -> None:
    sample = host("retries")
    answer = sample.finish(sample.begin("ask", {"url": f"{sample.url}/api/echo"}))
    assert (answer["statusCode"], answer["content"], answer["headers"]["x-one"]) == (202, '{"a": 1}', "1")
    refused = sample.wait_for(sample.begin("ask", {"url": "http://127.0.0.1:9/"}))
    assert refused["runtimeStatus"] == "Failed"


def test_failures_say_why(host: HostFactory) -> None:
    sample = host("retries")
    lost = sample.wait_for(sample.begin("lost"))
    assert lost["runtimeStatus"] == "Failed"
    assert "The function 'nobody' doesn't exist, is disabled, or is not an activity function." in lost["output"]
    failed = sample.wait_for(sample.begin("fails"))
    assert failed["output"].startswith(
        "Orchestrator function 'fails' failed: Activity function 'flaky' failed:  ValueError: attempt 1"
    )


def test_blueprint_names_and_routes(host: HostFactory) -> None:
    sample = host("blueprint")
    assert sample.call("POST", "/api/greet", ["Ann", "Bo"])[:2] == (200, ["hello Ann", "hello Bo"])
    assert sample.call("GET", "/api/ping/7")[1] == "Ping 7 36"
    assert sample.call("GET", "/api/ping/x")[0] == 404
    assert sample.call("POST", "/api/ping/7")[0] == 404
