"""The thirteen weak spots of OpenCensus, each against a real HTTP endpoint that fails on purpose."""

from __future__ import annotations

import logging
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy
import pytest

from adapters import telemetry_context
from adapters.telemetry import AppTelemetry, OpenCensusExporter
from adapters.telemetry_connection import Connection
from tests.ingestion_server.server import Fault, IngestionServer

ROOT = Path(__file__).resolve().parents[2]
KEY = IngestionServer.key
Open = Callable[..., tuple[AppTelemetry, OpenCensusExporter]]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    exporters: list[OpenCensusExporter] = []

    def make(url: str, **options: Any) -> tuple[AppTelemetry, OpenCensusExporter]:
        options.setdefault("folder", tmp_path / "waiting")
        options.setdefault("export_seconds", 0.1)
        exporter = OpenCensusExporter(Connection(KEY, url), **options)
        exporters.append(exporter)
        return AppTelemetry(exporter, "abc123"), exporter

    yield make
    for exporter in exporters:
        exporter.close(0.2)


def emit(telemetry: AppTelemetry, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        telemetry.event("run_started", {"run_id": f"weekly-2017-W45-a{number}"}, None)


def assert_each_once(server: IngestionServer, count: int) -> None:
    counted = server.counted()
    assert len(counted) == count, f"{count - len(counted)} lost"
    assert set(counted.values()) == {1}, "some came twice"


PLANS: dict[str, list[Fault]] = {
    "clean": [], "503": [503], "429 and 503 twice": [429, 503, 503], "500, 502, 504": [500, 502, 504],
    "reset": ["reset"], "reset twice": ["reset", "reset"], "402 quota": [402], "439 quota": [439],
    "401 then fine": [401], "403 then fine": [403], "408": [408], "partial": ["partial"],
    "partial then 503": ["partial", 503],
    "partial in any order and packed": ["partial-shuffled"], "unreadable 206": ["unreadable"], "empty 206": ["empty"],
    "slow": ["slow"], "half an answer": ["half"], "an answer byte by byte": ["trickle"],
    "a head without end": ["trickle-head", "trickle-head"],
}
SLOW = ("slow", "an answer byte by byte", "a head without end")


@pytest.mark.parametrize("plan", PLANS)
def test_nothing_is_lost_and_nothing_doubled(plan: str, opened: Open) -> None:
    with IngestionServer(PLANS[plan], slow_seconds=2.0) as server:
        telemetry, exporter = opened(server.url, post_seconds=0.5 if plan in SLOW else 5.0)
        emit(telemetry, 10)
        assert telemetry.flush(10)
        assert_each_once(server, 10)
        assert (exporter.sent, exporter.dropped) == (10, 0)
        assert {request["content-encoding"] for request in server.requests} == {"gzip"}


def test_1_a_refused_connection_keeps_the_batch_until_the_service_is_there(opened: Open) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    telemetry, _ = opened(f"http://127.0.0.1:{port}")
    emit(telemetry, 5)
    assert not telemetry.flush(0.4)
    with IngestionServer(port=port) as server:
        assert telemetry.flush(10)
        assert_each_once(server, 5)


def test_2_flush_sends_what_the_worker_already_holds(opened: Open) -> None:
    with IngestionServer() as server:
        telemetry, _ = opened(server.url, export_seconds=30.0)
        emit(telemetry, 1)
        time.sleep(0.1)  # the worker has taken the item and waits for more
        started = time.monotonic()
        assert telemetry.flush(5)
        assert time.monotonic() - started < 2
        assert_each_once(server, 1)


def test_3_values_that_are_no_json_survive_the_way_over_the_disk(opened: Open) -> None:
    with IngestionServer([503]) as server:
        telemetry, _ = opened(server.url)
        telemetry.event("source_conditioned", {
            "source": "deliveries", "sales_week": "2017-W45", "data_version": Path("a/b"), "status": numpy.int64(3),
            "message": datetime(2026, 1, 5, tzinfo=UTC), "contract_version": Decimal("1.5"), "schema_changed": True,
            "source_file": "caf\udce9.csv", "reasons": ["a", "b"],
        }, {"rows": numpy.int64(7), "seconds": float("nan")})
        assert telemetry.flush(10)
        (event,) = server.events()
        assert event["properties"]["message"] == "2026-01-05T00:00:00+00:00"
        assert event["properties"]["data_version"] == "a/b"
        assert event["properties"]["schema_changed"] == "true"
        assert event["properties"]["reasons"] == '["a", "b"]'
        assert event["measurements"] == {"rows": 7.0}


def test_4_what_a_dead_process_left_on_disk_is_sent_by_the_next(opened: Open, tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from adapters.telemetry import *; "
        "from adapters.telemetry_connection import Connection; "
        "e = OpenCensusExporter(Connection(sys.argv[1], sys.argv[2]), folder=Path(sys.argv[3]), export_seconds=0.1); "
        "AppTelemetry(e).event('run_started', {'run_id': 'left-behind'}); e.flush(0.6); os._exit(9)"
    )
    with IngestionServer([503] * 8) as server:
        done = subprocess.run(
            [sys.executable, "-c", script, KEY, server.url, str(tmp_path / "waiting")], cwd=ROOT, check=False
        )
        assert done.returncode == 9
        server.faults.clear()
        telemetry, _ = opened(server.url)
        assert telemetry.flush(20)
        assert set(server.counted("run_id")) == {"left-behind"}


def test_5_an_idle_process_drains_the_disk_by_itself(opened: Open) -> None:
    with IngestionServer([503, 503]) as server:
        telemetry, _ = opened(server.url)
        emit(telemetry, 3)
        deadline = time.monotonic() + 10
        while len(server.items) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert_each_once(server, 3)


def test_6_a_burst_of_twenty_thousand_arrives_whole(opened: Open) -> None:
    with IngestionServer([503, "reset", 429]) as server:
        telemetry, exporter = opened(server.url)
        started = time.monotonic()
        emit(telemetry, 20_000)
        assert time.monotonic() - started < 15  # the emitter is not held up
        assert telemetry.flush(60)
        assert_each_once(server, 20_000)
        assert exporter.dropped == 0


def test_6_a_full_queue_holds_the_emitter_up_for_a_bounded_time(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.telemetry.EMIT_WAIT_SECONDS", 0.05)
    with IngestionServer(["slow"], slow_seconds=3) as server:
        telemetry, exporter = opened(server.url, capacity=2)
        emit(telemetry, 1)
        time.sleep(0.3)  # the worker is now inside the slow request
        started = time.monotonic()
        emit(telemetry, 6, first=1)
        assert time.monotonic() - started < 2
        assert exporter.dropped == 4


def test_8_events_carry_the_trace_of_the_invocation(opened: Open) -> None:
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    with IngestionServer() as server:
        telemetry, _ = opened(server.url)
        with telemetry.bind(traceparent=f"00-{trace}-{span}-01", run_id="weekly-2017-W45-a1"):
            telemetry.event("run_step", {"step": "train", "status": "succeeded"}, {"seconds": 3})
        telemetry.event("run_step", {"step": "score", "run_id": "r", "traceparent": f"00-{trace}-{span}-01"})
        assert telemetry.flush()
        for item in server.items:
            assert item["tags"]["ai.operation.id"] == trace
            assert item["tags"]["ai.operation.parentId"] == span
        first, second = (item["data"]["baseData"]["properties"] for item in server.items)
        assert first["run_id"] == "weekly-2017-W45-a1" and first["code_version"] == "abc123"
        assert "traceparent" not in second


def test_8_without_a_trace_one_run_still_has_one_operation(opened: Open) -> None:
    with IngestionServer() as server:
        telemetry, _ = opened(server.url)
        emit(telemetry, 1)
        telemetry.event("run_step", {"run_id": "weekly-2017-W45-a0", "step": "train", "status": "succeeded"})
        telemetry.event("run_started", {"run_id": "another"})
        assert telemetry.flush()
        operations = [item["tags"]["ai.operation.id"] for item in server.items]
        assert operations[0] == operations[1] != operations[2]
        assert all(re.fullmatch("[0-9a-f]{32}", operation) and set(operation) != {"0"} for operation in operations)


def test_9_nothing_is_sampled(opened: Open) -> None:
    with IngestionServer() as server:
        telemetry, _ = opened(server.url)
        for _ in range(500):
            with telemetry.span("read"):
                pass
        emit(telemetry, 500)
        assert telemetry.flush(20)
        assert len(server.items) == 1000
        assert not any(item.get("sampleRate") for item in server.items)


def test_10_a_gauge_is_sent_once_and_not_for_ever(opened: Open) -> None:
    with IngestionServer() as server:
        telemetry, _ = opened(server.url, export_seconds=0.05)
        telemetry.gauge("jobs_in_flight", 3, {"run_id": "r"})
        time.sleep(0.5)
        assert telemetry.flush()
        (item,) = server.items
        assert item["data"]["baseData"]["metrics"][0]["value"] == 3.0


def test_11_entra_tokens_are_sent_and_a_failing_identity_is_tried_again(opened: Open) -> None:
    from azure.core.credentials import AccessToken
    from azure.core.exceptions import ClientAuthenticationError

    class Identity:
        calls = 0

        def get_token(self, scope: str) -> AccessToken:
            assert scope == "https://monitor.azure.com//.default"
            self.calls += 1
            if self.calls == 1:
                raise ClientAuthenticationError("the identity service is not ready")
            return AccessToken("secret-token", int(time.time()) + 3600)

    with IngestionServer() as server:
        telemetry, _ = opened(server.url, credential=Identity())
        emit(telemetry, 2)
        assert telemetry.flush(10)
        assert_each_once(server, 2)
        assert {request["authorization"] for request in server.requests} == {"Bearer secret-token"}


def test_12_threads_take_the_run_along_when_told(opened: Open) -> None:
    with IngestionServer() as server:
        telemetry, _ = opened(server.url)
        with telemetry.bind(run_id="weekly-2017-W45-a1"), telemetry.span("train"):
            work = telemetry_context.carried(telemetry.event)
            thread = threading.Thread(target=work, args=("run_step", {"step": "x", "status": "succeeded"}))
            thread.start()
            thread.join()
        assert telemetry.flush()
        event, span = server.items
        assert event["data"]["baseData"]["properties"]["run_id"] == "weekly-2017-W45-a1"
        assert event["tags"]["ai.operation.id"] == span["tags"]["ai.operation.id"]
        assert event["tags"]["ai.operation.parentId"] == span["data"]["baseData"]["id"]


def test_13_no_logging_handler_is_involved(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    before = logging.getLogger().handlers[:]
    with IngestionServer() as server, caplog.at_level(logging.DEBUG):
        telemetry, _ = opened(server.url)
        emit(telemetry, 1)
        assert telemetry.flush()
    assert logging.getLogger().handlers == before
    assert not [record for record in caplog.records if "run_started" in record.getMessage()]


def test_exceptions_carry_stack_code_and_fields(opened: Open) -> None:
    from domain.errors import NotFound

    with IngestionServer() as server:
        telemetry, _ = opened(server.url)
        try:
            raise NotFound("no such run", wanted="r9")
        except NotFound as error:
            telemetry.exception(error, {"run_id": "r"})
        assert telemetry.flush()
        data = server.items[0]["data"]["baseData"]
        assert data["exceptions"][0]["typeName"] == "NotFound"
        assert data["exceptions"][0]["parsedStack"][0]["method"] == "test_exceptions_carry_stack_code_and_fields"
        assert data["properties"] | {"error_code": "not_found", "wanted": "r9", "run_id": "r"} == data["properties"]


def test_a_redirect_is_followed_and_remembered(opened: Open) -> None:
    with IngestionServer() as home, IngestionServer(["redirect"], redirect_to=home.url) as door:
        telemetry, _ = opened(door.url)
        emit(telemetry, 1)
        assert telemetry.flush()
        emit(telemetry, 1, first=1)
        assert telemetry.flush()
        assert_each_once(home, 2)
        assert len(door.requests) == 1


def test_a_redirect_to_a_host_that_is_gone_is_forgotten(opened: Open) -> None:
    with IngestionServer() as gone:
        pass
    with IngestionServer(["redirect"], redirect_to=gone.url) as door:
        telemetry, _ = opened(door.url)
        emit(telemetry, 3)
        assert telemetry.flush(10)
        assert_each_once(door, 3)


@pytest.mark.parametrize("fault", ["partial-bad-items", "partial-400", 400])
def test_an_item_that_is_refused_for_good_is_counted_told_and_does_not_block(fault: Fault, opened: Open) -> None:
    with IngestionServer([fault]) as server:
        telemetry, exporter = opened(server.url)
        emit(telemetry, 1 if fault == 400 else 3)
        assert telemetry.flush()
        emit(telemetry, 2, first=3)
        assert telemetry.flush()
        assert exporter.dropped == 1
        (event,) = server.named("telemetry_dropped")
        assert event["measurements"] == {"dropped": 1.0}
        assert "refused" in event["properties"]["cause"] and event["properties"]["instance"]
        assert exporter.sent == len(server.items) == (3 if fault == 400 else 5)


def test_one_bad_item_does_not_take_the_others_of_its_batch_along(opened: Open) -> None:
    with IngestionServer(refuses=("weekly-2017-W45-a7",)) as server:
        telemetry, exporter = opened(server.url)
        emit(telemetry, 50)
        assert telemetry.flush()
        assert exporter.dropped == 1
        runs = [event["properties"]["run_id"] for event in server.named("run_started")]
        assert len(runs) == len(set(runs)) == 49


def test_a_batch_that_is_too_large_is_halved(opened: Open) -> None:
    with IngestionServer([413, 413]) as server:
        telemetry, _ = opened(server.url)
        emit(telemetry, 8)
        assert telemetry.flush()
        assert_each_once(server, 8)


@pytest.mark.parametrize("is_date", [False, True])
def test_the_wish_for_patience_is_respected(is_date: bool, opened: Open) -> None:
    # A date has whole seconds and is read against the answer's own Date: two or three seconds ahead are at least two.
    wish = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True) if is_date else "2"
    with IngestionServer([429], retry_after=wish) as server:
        telemetry, _ = opened(server.url)
        emit(telemetry, 1)
        started = time.monotonic()
        assert telemetry.flush(10)
        assert time.monotonic() - started > 1.5
        assert len(server.requests) == 2


def test_a_disk_that_refuses_keeps_the_items_in_memory(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    with IngestionServer([503]) as server:
        telemetry, exporter = opened(server.url)
        monkeypatch.setattr(exporter._storage, "put", lambda *_: None)
        emit(telemetry, 4)
        assert telemetry.flush(10)
        assert_each_once(server, 4)


def test_the_same_facts_have_the_same_event_id(opened: Open) -> None:
    with IngestionServer() as server:
        telemetry, _ = opened(server.url)
        for _ in range(3):  # an orchestrator that is replayed
            telemetry.event("region_scored", {"run_id": "r", "segment": "r01-large-fast"}, {"rows": 4})
        assert telemetry.flush()
        assert set(server.counted()) == {"region_scored/r/r01-large-fast"}
