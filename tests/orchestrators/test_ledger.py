"""The ledger under parallel writers and lost answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from adapters.lake import BlobLake
from domain.errors import BlobConflict
from domain.runs import RunRequest
from domain.sales_weeks import SalesWeek
from orchestrators.audit import read_audit
from orchestrators.job_watch import plan_phase, submit_units
from orchestrators.ledger import RunLedger
from orchestrators.runs import close_run, open_run, start_run
from tests.orchestrators.conftest import ScriptedServices

KEYS = [f"r{number:02d}-large-baseline" for number in range(1, 41)]
WISH = RunRequest.from_dict({"kind": "weekly", "sales_week": "2017-W45", "requested_by": "olga"})


def planned(services: ScriptedServices) -> str:
    run_id = str(start_run(services, WISH)[0])
    ledger = RunLedger(services.lake)
    facts = {"folder": "azureml://datastores/curated/paths/2017-W45/abc/", "as_of_version": "abc", "cutoff": "2017-W44"}
    ledger.change_run(run_id, lambda run: run.update(facts))
    ledger.note(run_id, "decisions", [{"segment": key, "action": "train", "reasons": ["new"]} for key in KEYS])
    plan_phase(services, {"run_id": run_id, "phase": "train"})
    return run_id


def test_parallel_submitters_of_one_run_lose_nothing(services: ScriptedServices) -> None:
    run_id = planned(services)
    chunks = [KEYS[start:start + 5] for start in range(0, 40, 5)]
    with ThreadPoolExecutor(8) as pool:
        wishes = [{"run_id": run_id, "phase": "train", "units": units} for units in chunks * 2]  # each of them twice
        list(pool.map(lambda wish: submit_units(services, wish), wishes))
    items = (RunLedger(services.lake).jobs(run_id, "train") or {})["items"].values()
    assert all(item["submitted_at"] and item["phase"] == "waiting" for item in items)
    assert sorted(services.jobs.payloads) == sorted(item["name"] for item in items)


def test_two_calls_at_once_start_one_run(services: ScriptedServices) -> None:
    with ThreadPoolExecutor(6) as pool:
        started = list(pool.map(lambda _: start_run(services, WISH), range(6)))
    assert {str(run_id) for run_id, _ in started} == {"weekly-2017-W45-a1"}
    assert sum(is_new for _, is_new in started) == 1
    assert [entry["action"] for entry in read_audit(services.lake)] == ["run_started"]


class AnswersTwice:
    """Storage whose first answer to a write is lost: the SDK asks again and is told that the blob exists."""

    def __init__(self, lake: BlobLake) -> None:
        self._lake = lake
        self.lost: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lake, name)

    def write_json(self, container: str, path: str, document: Any, **conditions: Any) -> str:
        etag = self._lake.write_json(container, path, document, **conditions)
        if path not in self.lost and any(conditions.values()):
            self.lost.add(path)
            raise BlobConflict(f"{path} was written by somebody else meanwhile")
        return etag


def test_a_run_whose_creation_was_never_answered_is_found_and_on_record(services: ScriptedServices) -> None:
    losing: Any = replace(services, lake=AnswersTwice(services.lake))  # type: ignore[arg-type]
    run_id, is_new = start_run(losing, WISH)
    assert (str(run_id), is_new) == ("weekly-2017-W45-a1", False)
    assert open_run(losing, {"run_id": str(run_id)})["steps"][0] == "data_gate"
    (line,) = read_audit(services.lake)
    assert (line["actor"], line["action"], line["subject"]) == ("olga", "run_started", "weekly-2017-W45-a1")


def test_intents_whose_writing_was_never_answered_are_planned_once(services: ScriptedServices) -> None:
    losing: Any = replace(services, lake=AnswersTwice(services.lake))  # type: ignore[arg-type]
    run_id = planned(losing)
    assert plan_phase(losing, {"run_id": run_id, "phase": "train"}) == {"jobs": 40, "adopted": 0}
    answer = submit_units(losing, {"run_id": run_id, "phase": "train", "units": KEYS[:3]})
    assert answer["submitted"] == 3 and len(services.jobs.payloads) == 3


@pytest.mark.parametrize("path", ["run.json", "jobs-train.json"])
def test_a_document_that_is_changed_by_many_at_once_keeps_every_change(services: ScriptedServices, path: str) -> None:
    run_id = planned(services)
    ledger = RunLedger(services.lake)

    def change(number: int) -> None:
        def put(document: dict[str, Any]) -> None:
            document[f"n{number}"] = number
        if path == "run.json":
            ledger.change_run(run_id, put)
        else:
            ledger.change_jobs(run_id, "train", put)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(change, range(24)))
    document = ledger.run(run_id) if path == "run.json" else ledger.jobs(run_id, "train") or {}
    assert {document[f"n{number}"] for number in range(24)} == set(range(24))


class Counting:
    """Storage that counts what is read."""

    def __init__(self, lake: BlobLake) -> None:
        self._lake = lake
        self.reads = 0

    def read_json(self, container: str, path: str) -> Any:
        self.reads += 1
        return self._lake.read_json(container, path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lake, name)


def test_lists_read_an_ended_run_once_and_a_running_one_every_time(services: ScriptedServices) -> None:
    counting = Counting(services.lake)
    ledger = RunLedger(counting)  # type: ignore[arg-type]
    for week in ("2017-W43", "2017-W44", "2017-W45"):
        start_run(services, replace(WISH, sales_week=SalesWeek.parse(week)))
        if week != "2017-W45":
            close_run(services, {"run_id": f"weekly-{week}-a1"})
    first = list(ledger.runs())
    assert [run["status"] for run in first] == ["running", "failed", "failed"] and counting.reads == 3
    first[1]["status"] = "whatever a reader does to its copy"
    assert [run["status"] for run in ledger.runs()] == ["running", "failed", "failed"] and counting.reads == 4
    close_run(services, {"run_id": "weekly-2017-W45-a1"})
    assert [run["status"] for run in ledger.runs(2)] == ["failed", "failed"]
    assert len(list(RunLedger(services.lake).runs())) == 3  # another storage account has its own runs
