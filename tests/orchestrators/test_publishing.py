"""Readers see whole weeks only: while publishing is killed at every call, and while others publish."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from typing import Any

import pytest

from adapters.lake import BlobLake
from domain.errors import IntegrityError, NotFound
from domain.runs import RunRequest
from domain.sales_weeks import SalesWeek
from orchestrators.audit import read_audit
from orchestrators.ledger import RunLedger
from orchestrators.publishing import publish_week, published_bytes
from orchestrators.runs import start_run
from tests.orchestrators.conftest import ScriptedServices
from tests.orchestrators.durable_driver import Crash, Fuse, Fused

WEEK = SalesWeek.parse("2017-W45")
ROWS = 500


def staged(services: ScriptedServices, number: int) -> str:
    """Stage a whole week of forecasts whose rows all carry one number."""
    request = RunRequest.from_dict({"kind": "weekly", "sales_week": str(WEEK), "force": True})
    run_id, _ = start_run(services, request)
    data = ("store_id,units\n" + f"0001,{number}\n" * ROWS).encode()
    services.lake.write("staging", f"{WEEK}/{run_id}/forecasts.csv", data)
    facts = {
        "path": f"{WEEK}/{run_id}/forecasts.csv", "rows": ROWS, "sha256": hashlib.sha256(data).hexdigest(),
        "units": float(number * ROWS), "base": "", "segment_runs": {},
    }
    RunLedger(services.lake).change_run(
        str(run_id), lambda run: run.update({"staged": facts, "as_of_version": "abc", "status": "succeeded"})
    )
    return str(run_id)


def publish_killed(services: ScriptedServices, run_id: str, at: int, after: bool) -> tuple[bool, int]:
    """Publish on a host that dies at one call, then again on its successor; return (it died, calls of the port)."""
    fuse = Fuse(at, after)
    fused: Any = replace(services, lake=Fused(services.lake, fuse, "lake"))  # type: ignore[arg-type]
    try:
        publish_week(fused, {"run_id": run_id})
    except Crash:
        publish_week(services, {"run_id": run_id})
        return True, fuse.calls
    return False, fuse.calls


@pytest.mark.long
def test_a_reader_sees_only_whole_weeks_during_a_hundred_killed_publishes(
    services: ScriptedServices, capsys: pytest.CaptureFixture[str]
) -> None:
    whole: set[bytes] = set()
    seen = {"reads": 0, "halves": 0, "none": 0}
    stop = threading.Event()
    # The first publish of a week makes the pointer and the trail; a later one reads and changes them.
    calls = [publish_killed(services, staged(services, -number), at=-1, after=False)[1] for number in (2, 1)][-1]

    def read() -> None:
        while not stop.wait(0.02):  # at any moment of a publish, and yet it is the publishing that has the processor
            try:
                data, manifest = published_bytes(services.lake, WEEK)
            except NotFound:
                seen["none"] += 1
                continue
            seen["reads"] += 1
            numbers = set(data.splitlines()[1:])
            seen["halves"] += len(numbers) != 1 or len(data.splitlines()) != ROWS + 1 or manifest["rows"] != ROWS
            whole.add(next(iter(numbers)))

    reader = threading.Thread(target=read)
    reader.start()
    killed = 0
    try:
        for number in range(100):  # every call of a publish, before and after it, some of them several times
            run_id = staged(services, number)
            killed += publish_killed(services, run_id, at=(number // 2) % calls, after=bool(number % 2))[0]
    finally:
        stop.set()
        reader.join()
    told = [entry for entry in read_audit(services.lake, 1000) if entry["action"] == "week_published"]
    with capsys.disabled():
        print(f"\n100 publishes, {killed} killed, at {calls} calls, before and after; {seen['reads']} reads saw "
              f"{len(whole)} different weeks, {seen['halves']} halves; {len(told)} lines in the audit trail")
    assert killed == 100 and seen["reads"] > 50 and seen["halves"] == 0
    assert len(told) == 102
    assert published_bytes(services.lake, WEEK)[0].endswith(b"0001,99\n")


def test_bytes_that_changed_after_they_were_judged_are_not_published(services: ScriptedServices) -> None:
    run_id = staged(services, 1)
    services.lake.write("staging", f"{WEEK}/{run_id}/forecasts.csv", b"store_id,units\n0001,7\n")
    with pytest.raises(IntegrityError, match="nothing was published"):
        publish_week(services, {"run_id": run_id})
    with pytest.raises(NotFound):
        published_bytes(services.lake, WEEK)


def test_a_published_file_that_was_tampered_with_is_refused(services: ScriptedServices, lake: BlobLake) -> None:
    run_id = staged(services, 1)
    facts = publish_week(services, {"run_id": run_id})["facts"]["publish"]
    lake.write("published", facts["path"], b"store_id,units\n0001,7\n")
    with pytest.raises(IntegrityError):
        published_bytes(lake, WEEK)
