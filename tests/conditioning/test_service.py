"""Conditioning in the lake: idempotent, atomic, the same for every caller."""

from __future__ import annotations

import json
import random
import threading
import time
from typing import Any

import pytest

from conditioning import publish, service
from conditioning.service import ConditionRequest, condition_source, current_pointer
from domain.errors import BadRequest, NotFound
from domain.sales_weeks import SalesWeek
from tests.conditioning.conftest import SAMPLES, Services

WEEK = "2017-W45"
HEADER = "STORE_NBR|DLV_DOC|DEPT|ITEM_CD|DLV_DT|QTY|NET_AMT\r\n"
LINES = "S00001|D1|SNACKS|P00001|11/06/2017|3|7.50\r\nS00001|D1|SNACKS|P00002|11/07/2017|4|7.50\r\n"
BAD = "S00001|D1|SNACKS|P00003|11/31/2017|4|7.50\r\n"


def drop(services: Services, text: str | bytes, path: str = f"deliveries/{WEEK}/dsd.txt") -> str:
    return services.lake.write("landing", path, text.encode() if isinstance(text, str) else text)


def condition(services: Services, source: str = "deliveries", week: str = WEEK, **more: Any) -> dict[str, Any]:
    return condition_source(
        services, ConditionRequest.from_dict({"source": source, "sales_week": week, "correlation_id": "c-1", **more})
    )


def lake_state(services: Services, *containers: str) -> dict[str, bytes]:
    """Every blob whose bytes do not depend on when or by whom the work was done."""
    found = {}
    for container in containers or ("conditioned", "quarantine"):
        for info in services.lake.list(container):
            if info.path.endswith(".csv"):
                found[f"{container}/{info.path}"] = services.lake.read(container, info.path).data
            elif info.path.endswith("current.json"):
                found[f"{container}/{info.path}"] = services.lake.read_json(container, info.path)[0][
                    "data_version"
                ].encode()
    return found


def test_a_file_becomes_data_quarantine_outcome_and_pointer(services: Services) -> None:
    etag = drop(services, HEADER + LINES + BAD)
    answer = condition(services)
    assert (answer["status"], answer["conditioned_files"], answer["correlation_id"]) == ("partial", 1, "c-1")
    assert answer["counts"] == {
        "records_read": 3,
        "conditioned": 2,
        "quarantined": 1,
        "duplicates": 0,
        "by_reason": {"bad_date": 1},
    }
    pointer = current_pointer(services.lake, "deliveries", SalesWeek.parse(WEEK))
    assert pointer is not None
    data = services.lake.read("conditioned", pointer["data_path"]).data.decode()
    assert data.splitlines() == [
        "document_id,store_id,product_id,delivery_date,units,department,source_file,source_row",
        "D1,S00001,P00001,2017-11-06,3,SNACKS,dsd.txt,1",
        "D1,S00001,P00002,2017-11-07,4,SNACKS,dsd.txt,2",
    ]
    outcome, _ = services.lake.read_json("conditioned", pointer["manifest_path"])
    assert outcome["schema"] == "shelfcast.outcome/1"
    assert outcome["input"]["etag"] == etag
    assert (outcome["code_version"], outcome["contract_version"], outcome["correlation_id"]) == ("test", "1.0.0", "c-1")
    events = services.lake.read(
        "conditioned", pointer["manifest_path"].replace(".manifest.json", ".openlineage.jsonl")
    ).data
    assert [json.loads(line)["eventType"] for line in events.splitlines()] == ["START", "COMPLETE"]
    assert services.telemetry.events[0][0] == "source_conditioned"
    assert services.telemetry.events[0][1]["rows"] == 3


def counted(calls: list[str], name: str, real: Any) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        return real(*arguments, **options)

    return call


def test_a_second_call_costs_two_listings_and_changes_nothing(services: Services, monkeypatch: Any) -> None:
    for at in range(30, 46):
        drop(services, HEADER + LINES, f"deliveries/2017-W{at}/dsd.txt")
    condition(services)
    before = [(info.path, info.etag) for info in services.lake.list("conditioned")]
    calls: list[str] = []
    with monkeypatch.context() as patch:
        for name in ("read", "write", "list", "info", "open_reader", "open_writer"):
            patch.setattr(services.lake, name, counted(calls, name, getattr(services.lake, name)))
        answer = condition(services)
    assert calls == ["list", "list"]
    assert (answer["status"], answer["unchanged_files"], answer["conditioned_files"]) == ("unchanged", 16, 0)
    assert [(info.path, info.etag) for info in services.lake.list("conditioned")] == before


def test_the_same_bytes_again_are_the_same_version(services: Services) -> None:
    drop(services, HEADER + LINES)
    condition(services)
    before = lake_state(services)
    drop(services, HEADER + LINES)  # a new ETag
    condition(services)
    assert lake_state(services) == before
    assert condition(services)["status"] == "unchanged"
    time.sleep(1.1)  # blob times have seconds
    drop(services, HEADER + LINES, f"deliveries/{WEEK}/delivered_again.txt")
    condition(services)
    assert lake_state(services) == before
    assert condition(services)["status"] == "unchanged", "the next sweep does not read them again"


def test_no_file_is_absent_and_an_unknown_source_lists_the_valid_ones(services: Services) -> None:
    assert condition(services)["status"] == "absent"
    with pytest.raises(NotFound, match="deliveries, products"):
        condition(services, "nothing")


def test_a_newer_file_supersedes_and_the_old_version_stays(services: Services) -> None:
    drop(services, HEADER + LINES, f"deliveries/{WEEK}/first.txt")
    condition(services)
    old = current_pointer(services.lake, "deliveries", SalesWeek.parse(WEEK))
    time.sleep(1.1)  # blob times have seconds
    drop(services, HEADER + LINES.replace("|3|", "|9|"), f"deliveries/{WEEK}/second.txt")
    condition(services)
    new = current_pointer(services.lake, "deliveries", SalesWeek.parse(WEEK))
    assert old is not None and new is not None
    assert old["data_version"] != new["data_version"]
    assert services.lake.info("conditioned", old["data_path"]) is not None
    condition(services, blob_path=f"deliveries/{WEEK}/first.txt")  # its event comes late
    assert current_pointer(services.lake, "deliveries", SalesWeek.parse(WEEK)) == new
    condition(services, blob_path=f"deliveries/{WEEK}/first.txt", force=True)
    forced = current_pointer(services.lake, "deliveries", SalesWeek.parse(WEEK))
    assert forced is not None and forced["data_version"] == old["data_version"]


def test_a_refused_file_leaves_the_pointer_alone(services: Services) -> None:
    drop(services, HEADER + LINES)
    condition(services)
    before = current_pointer(services.lake, "deliveries", SalesWeek.parse(WEEK))
    drop(services, b"\x1f\x8b\x08broken")
    answer = condition(services)
    assert (answer["status"], answer["rejected_files"]) == ("rejected", 1)
    assert "dsd.txt" in answer["files"][0]["error"]["message"]
    assert current_pointer(services.lake, "deliveries", SalesWeek.parse(WEEK)) == before
    assert condition(services)["status"] == "unchanged"


def test_one_bad_file_does_not_stop_the_other_weeks(services: Services) -> None:
    drop(services, HEADER + LINES)
    drop(services, b"", "deliveries/2017-W44/dsd.txt")
    answer = condition(services)
    assert (answer["status"], answer["conditioned_files"], answer["rejected_files"]) == ("partial", 1, 1)


def test_two_conditioners_at_once_answer_the_same(services: Services) -> None:
    drop(services, HEADER + LINES * 500 + BAD)
    answers: list[dict[str, Any]] = []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        answers.append(condition(services, blob_path=f"deliveries/{WEEK}/dsd.txt"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    versions = {file["data_version"] for answer in answers for file in answer["files"]}
    assert len(versions) == 1
    assert all(
        answer["files"][0]["counts"] == answers[0]["files"][0]["counts"] for answer in answers if answer["files"]
    )
    manifests = [info for info in services.lake.list("conditioned") if info.path.endswith(".manifest.json")]
    assert len(manifests) == 1


class HostKilledError(BaseException):
    """The process is gone: nothing after it runs."""


def test_a_kill_at_any_write_leaves_nothing_half_written_and_a_repeat_ends_the_same(
    services: Services, monkeypatch: Any
) -> None:
    drop(services, HEADER + LINES + LINES + BAD)
    condition(services)
    undisturbed = lake_state(services)
    lake = services.lake
    real = lake.write
    kills = 0
    for step in range(1, 12):
        for container in ("conditioned", "quarantine"):
            for info in list(lake.list(container)):
                lake.delete(container, info.path)
        left = step

        def dying(*arguments: Any, **options: Any) -> str:
            nonlocal left
            left -= 1
            if left == 0:
                raise HostKilledError
            return real(*arguments, **options)

        monkeypatch.setattr(lake, "write", dying)
        try:
            condition(services)
        except HostKilledError:
            kills += 1
        monkeypatch.setattr(lake, "write", real)
        pointer = current_pointer(lake, "deliveries", SalesWeek.parse(WEEK))
        if pointer is not None:
            assert lake.info("conditioned", pointer["manifest_path"]) is not None
        condition(services)
        assert lake_state(services) == undisturbed, f"killed at write {step}"
    assert kills >= 5


def test_lost_and_doubled_events_in_any_order_end_in_the_same_lake(services: Services) -> None:
    files = {
        path.relative_to(SAMPLES).as_posix(): path.read_bytes() for path in sorted(SAMPLES.glob("*/2017-W3[0-3]/*"))
    }
    for path, raw in files.items():
        services.lake.write("landing", path, raw)
    for source in {path.split("/")[0] for path in files}:
        condition(services, source)
    undisturbed = lake_state(services)
    for container in ("conditioned", "quarantine"):
        for info in list(services.lake.list(container)):
            services.lake.delete(container, info.path)
    rng = random.Random(5)
    events = [path for path in files if rng.random() > 0.2]
    events += [path for path in events if rng.random() < 0.2]
    rng.shuffle(events)
    for path in events:
        condition(services, path.split("/")[0], blob_path=path)
    for source in {path.split("/")[0] for path in files}:  # the hourly sweep
        condition(services, source)
    assert lake_state(services) == undisturbed


def test_a_file_replaced_while_it_is_read_is_conditioned_in_its_new_form(services: Services, monkeypatch: Any) -> None:
    drop(services, HEADER + LINES)
    real = service.judge
    replaced = False

    def replacing(*arguments: Any, **options: Any) -> Any:
        nonlocal replaced
        if not replaced:
            replaced = True
            drop(services, HEADER + LINES.replace("|3|", "|9|"))
        return real(*arguments, **options)

    monkeypatch.setattr(service, "judge", replacing)
    condition(services)
    pointer = current_pointer(services.lake, "deliveries", SalesWeek.parse(WEEK))
    assert pointer is not None
    assert b",9,SNACKS" in services.lake.read("conditioned", pointer["data_path"]).data


def test_a_file_that_breaks_us_five_times_is_set_aside_whole(services: Services, monkeypatch: Any) -> None:
    drop(services, HEADER + LINES)
    monkeypatch.setattr(service, "judge", lambda *_, **__: 1 / 0)
    for _ in range(4):
        with pytest.raises(ZeroDivisionError):
            condition(services)
    answer = condition(services)
    assert answer["status"] == "rejected"
    assert answer["files"][0]["error"]["code"] == "poison"
    aside = [info.path for info in services.lake.list("quarantine") if "/poison/" in info.path]
    assert len(aside) == 1
    assert services.lake.read("quarantine", aside[0]).data == (HEADER + LINES).encode()
    assert any(name == "blob_poisoned" for name, _ in services.telemetry.events)
    assert condition(services)["status"] == "unchanged"


def test_large_outputs_pass_through_a_temporary_blob_that_is_gone_afterwards(
    services: Services, monkeypatch: Any
) -> None:
    from conditioning import spool

    drop(
        services,
        HEADER + "".join(f"S00001|D{at}|SNACKS|P00001|11/06/2017|3|7.50\r\n" for at in range(3000)) + LINES + LINES,
    )
    condition(services)
    plain = lake_state(services)
    for container in ("conditioned", "quarantine"):
        for info in list(services.lake.list(container)):
            services.lake.delete(container, info.path)
    monkeypatch.setattr(spool.Spool.__init__, "__defaults__", (1000,))
    monkeypatch.setattr(publish, "SMALL_BYTES", 5000)
    condition(services)
    assert lake_state(services) == plain
    assert list(services.lake.list("staging")) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sales_week", "2017-45"),
        ("sales_week", ""),
        ("blob_path", "deliveries/x"),
        ("blob_path", "stores/2017-W45/a.csv"),
        ("force", "yes"),
        ("colour", "red"),
        ("correlation_id", "a b"),
        ("reason", 5),
    ],
)
def test_a_wrong_request_names_field_and_value(field: str, value: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        ConditionRequest.from_dict({"source": "deliveries", "sales_week": WEEK, "correlation_id": "c", field: value})
    assert field in str(caught.value.fields.get("field")) or field in caught.value.message
