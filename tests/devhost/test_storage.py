"""Storage triggers on a real Azurite: blobs, queues, Event Grid, timers, and Azurite or the host dying."""

from __future__ import annotations

import base64
import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueClient

from tests.devhost.conftest import HostFactory, SampleHost, eventually

WEBHOOK = "/runtime/webhooks"


@pytest.fixture
def sample(host: HostFactory) -> Iterator[SampleHost]:
    yield host("storage")


def records(sample: SampleHost, function: str) -> list[dict[str, object]]:
    return [item for item in map(json.loads, sample.effects) if item["fn"] == function]


def blobs(sample: SampleHost) -> BlobServiceClient:
    assert sample.state.azurite is not None
    return BlobServiceClient.from_connection_string(sample.state.azurite["connection_string"])


def upload(sample: SampleHost, container: str, name: str, text: str) -> None:
    client = blobs(sample).get_container_client(container)
    if not client.exists():
        client.create_container()
    client.upload_blob(name, text, overwrite=True)


def test_new_and_changed_blobs_arrive(sample: SampleHost) -> None:
    upload(sample, "landing", "deliveries/2017-W45/a b.csv", "one")
    (first,) = eventually(lambda: records(sample, "arrived"))
    assert first["name"] == "landing/deliveries/2017-W45/a b.csv" and first["text"] == "one" and first["length"] == 3
    assert str(first["uri"]).endswith("/devstoreaccount1/landing/deliveries/2017-W45/a%20b.csv")
    upload(sample, "landing", "deliveries/2017-W45/a b.csv", "two")
    upload(sample, "landing", "not-below-a-week.csv", "")
    eventually(lambda: [r["text"] for r in records(sample, "arrived")] == ["one", "two"])
    sample.kill()
    sample.start()
    upload(sample, "landing", "returns/2017-W45/b.csv", "three")
    eventually(lambda: len(records(sample, "arrived")) >= 3)
    assert [r["text"] for r in records(sample, "arrived")] == ["one", "two", "three"]  # what was seen stays seen


def test_bad_blob_is_tried_five_times_then_poison(sample: SampleHost) -> None:
    upload(sample, "landing", "x/y/bad.csv", "z")
    eventually(lambda: "queue=webjobs-blobtrigger-poison" in sample.log)
    assert len(records(sample, "arrived")) == 5


def test_polled_blob_writes_its_output(sample: SampleHost) -> None:
    upload(sample, "polled", "note.txt", "quiet")
    assert eventually(lambda: sample.call("GET", "/api/copies/note")[1]) == "QUIET"
    assert sample.call("GET", "/api/copies/none")[0] == 404


def test_queue_message_is_done_or_poison(sample: SampleHost) -> None:
    for text in ("good", "bad"):
        assert sample.call("POST", "/api/send/jobs", text, {"Content-Type": "text/plain"})[0] == 200
    eventually(lambda: "queue=jobs-poison" in sample.log)
    assert [r["count"] for r in records(sample, "job") if r["text"] == '"bad"'] == [1, 2, 3, 4, 5]
    eventually(lambda: [r["count"] for r in records(sample, "job") if r["text"] == '"good"'] == [1])


def test_event_grid_webhooks(sample: SampleHost) -> None:
    validation = [{"data": {"validationCode": "1234"}}]
    for path in (f"{WEBHOOK}/blobs?functionName=Host.Functions.arrived", f"{WEBHOOK}/eventgrid?functionName=noticed"):

        def post(kind: str, body: object, path: str = path) -> tuple[int, object, dict[str, str]]:
            return sample.call("POST", path, body, {"aeg-event-type": kind} if kind else {})

        assert post("SubscriptionValidation", validation)[:2] == (200, {"validationResponse": "1234"})
        assert post("Unsubscribe", [])[0] == 202
        assert post("", [])[0] == 400
        assert post("Other", [])[0] == 400
    assert (
        sample.call("POST", f"{WEBHOOK}/eventgrid?functionName=nobody", [], {"aeg-event-type": "Notification"})[0]
        == 404
    )
    event = {"id": "7", "topic": "t", "subject": "s", "eventType": "e", "eventTime": "2024-01-01T00:00:00Z",
             "data": {"a": 1}, "dataVersion": "1"}  # fmt: skip
    notify = {"aeg-event-type": "Notification"}
    assert sample.call("POST", f"{WEBHOOK}/eventgrid?functionName=noticed", [event], notify)[0] == 202
    assert eventually(lambda: records(sample, "noticed")) == [
        {"fn": "noticed", "id": "7", "subject": "s", "data": {"a": 1}}
    ]
    upload(sample, "landing", "w/x/y.csv", "by hand")
    eventually(lambda: records(sample, "arrived"))
    url = f"{sample.state.azurite['blob']}/landing/w/x/y.csv"  # type: ignore[index]
    body = [{**event, "data": {"url": url, "eTag": "0x1", "blobType": "BlockBlob"}}]
    assert sample.call("POST", f"{WEBHOOK}/blobs?functionName=Host.Functions.arrived", body, notify)[0] == 202
    eventually(lambda: len(records(sample, "arrived")) == 2)
    del body[0]["data"]["eTag"]  # type: ignore[attr-defined]
    assert sample.call("POST", f"{WEBHOOK}/blobs?functionName=Host.Functions.arrived", body, notify)[0] == 400


def test_disabled_function_is_only_run_by_hand(host: HostFactory) -> None:
    sample = host("storage", **{"AzureWebJobs_arrived_Disabled": "true"})
    upload(sample, "landing", "w/x/y.csv", "by hand")
    notify = {"aeg-event-type": "Notification"}
    path = f"{WEBHOOK}/blobs?functionName=Host.Functions.arrived"
    assert sample.call("POST", path, [], notify)[0] == 404  # Event Grid keeps the event and tries again
    assert sample.call("POST", "/admin/functions/arrived", {"input": "landing/w/x/y.csv"})[0] == 202
    assert eventually(lambda: records(sample, "arrived"))[0]["text"] == "by hand"


def test_outputs_of_an_activity(host: HostFactory, tmp_path: Path) -> None:
    """Its result goes to the orchestration, and what it sets to where its bindings say."""
    app = tmp_path / "app"
    app.mkdir()
    (app / "host.json").write_text('{"version": "2.0"}')
    (app / "local.settings.json").write_text('{"Values": {"LAKE": "UseDevelopmentStorage=true"}}')
    (app / "function_app.py").write_text(
        "import azure.functions as func\n"
        "import azure.durable_functions as df\n"
        "app = df.DFApp()\n"
        "@app.orchestration_trigger(context_name='context')\n"
        "def chain(context):\n"
        "    return (yield context.call_activity('note', 'hello'))\n"
        "@app.activity_trigger(input_name='text')\n"
        "@app.blob_output(arg_name='copy', path='notes/last.txt', connection='LAKE')\n"
        "@app.queue_output(arg_name='told', queue_name='told', connection='LAKE')\n"
        "def note(text: str, copy: func.Out[str], told: func.Out[str]) -> str:\n"
        "    copy.set(text)\n"
        "    told.set(text + ' all')\n"
        "    return text.upper()\n"
    )
    sample = host(app)
    assert sample.finish(sample.begin("chain")) == "HELLO"
    assert blobs(sample).get_blob_client("notes", "last.txt").download_blob().readall() == b"hello"
    assert sample.state.azurite is not None
    queue = QueueClient.from_connection_string(sample.state.azurite["connection_string"], "told")
    assert base64.b64decode(next(iter(queue.receive_messages())).content) == b"hello all"


def test_timer_fires_and_missed_one_is_past_due(sample: SampleHost) -> None:
    eventually(lambda: len(records(sample, "tick")) >= 2)
    sample.stop()
    with closing(sqlite3.connect(sample.data / "hub.sqlite")) as hub, hub:
        hub.execute("UPDATE schedules SET next='2020-01-06T04:00:00.000000Z' WHERE function='nightly'")
    sample.start()
    assert eventually(lambda: records(sample, "nightly")) == [{"fn": "nightly", "past_due": True}]
    assert sample.call("POST", "/admin/functions/nightly", {"input": ""})[0] == 202
    eventually(lambda: len(records(sample, "nightly")) == 2)


def test_azurite_is_started_again_when_it_dies(sample: SampleHost) -> None:
    first = sample.state.azurite
    assert first is not None
    os.kill(first["pid"], signal.SIGKILL)
    eventually(lambda: "devhost azurite died" in sample.log and sample.log.count("devhost azurite pid=") == 2)
    upload(sample, "landing", "after/the/crash.csv", "still here")
    assert eventually(lambda: records(sample, "arrived"))[0]["text"] == "still here"


def test_azurite_of_a_killed_host_is_taken_over_and_ended(host: HostFactory) -> None:
    sample = host("storage")
    first = sample.state.azurite
    assert first is not None
    sample.crash()
    second = sample.state.azurite
    assert second is not None and second["pid"] == first["pid"]
    sample.stop()
    command = Path(f"/proc/{first['pid']}/cmdline")
    assert not command.exists() or not command.read_text()  # gone, or ended and not yet reaped by its new parent


def test_azurite_of_a_killed_host_ends_by_itself(host: HostFactory) -> None:
    """Nobody takes it over: it sees that its owner is gone and ends after its grace."""
    sample = host("storage", DEVHOST_AZURITE_GRACE="1")
    assert sample.state.azurite is not None
    emulator = psutil.Process(sample.state.azurite["pid"])
    sample.kill()
    eventually(lambda: not emulator.is_running() or emulator.status() == psutil.STATUS_ZOMBIE)


def test_message_that_is_not_base64_is_poison(sample: SampleHost) -> None:
    """Functions get text; what cannot be decoded as host.json says never reaches them."""
    assert sample.state.azurite is not None
    queue = QueueClient.from_connection_string(sample.state.azurite["connection_string"], "jobs")
    queue.create_queue()
    queue.send_message("<not base64>")
    eventually(lambda: "queue=jobs-poison" in sample.log)
    assert records(sample, "job") == []
