"""The audit trail: whole under parallel writers and lost answers, and every kind of tampering shows."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from adapters.lake import BlobLake
from domain.errors import BlobConflict
from orchestrators import audit
from orchestrators.audit import AuditEntry, append_audit, append_entries, read_audit, verify_audit

NOW = datetime(2017, 11, 6, tzinfo=UTC)


def filled(lake: BlobLake, count: int = 6) -> list[bytes]:
    for number in range(count):
        append_audit(lake, NOW, "olga", "run_started", f"run {number}", {"reason": "tëst"})
    return lake.read("audit", "trail-00001.jsonl").data.splitlines(keepends=True)


def put(lake: BlobLake, lines: list[bytes]) -> list[str]:
    lake.delete("audit", "trail-00001.jsonl")
    lake.append("audit", "trail-00001.jsonl", b"".join(lines), if_length=0)
    return verify_audit(lake)


def test_an_untouched_trail_is_whole_and_read_newest_first(lake: BlobLake) -> None:
    filled(lake)
    assert verify_audit(lake) == []
    assert [entry["subject"] for entry in read_audit(lake, 2)] == ["run 5", "run 4"]


def test_changing_a_line_shows(lake: BlobLake) -> None:
    lines = filled(lake)
    lines[2] = lines[2].replace(b"olga", b"otto")
    assert put(lake, lines) == ["trail-00001.jsonl line 3: was changed after it was written"]


def test_a_line_rewritten_with_a_hash_of_its_own_breaks_the_chain(lake: BlobLake) -> None:
    lines = filled(lake)
    entry = json.loads(lines[2]) | {"actor": "otto"}
    del entry["hash"]
    entry["hash"] = audit._hash(entry)
    lines[2] = (json.dumps(entry, sort_keys=True, ensure_ascii=False) + "\n").encode()
    assert put(lake, lines) == ["trail-00001.jsonl line 4: does not follow the line before it"]


@pytest.mark.parametrize("missing", [0, 3])
def test_removing_a_line_shows(lake: BlobLake, missing: int) -> None:
    lines = filled(lake)
    assert put(lake, lines[:missing] + lines[missing + 1:]) == [
        f"trail-00001.jsonl line {missing + 1}: does not follow the line before it"
    ]


def test_swapping_lines_shows(lake: BlobLake) -> None:
    lines = filled(lake)
    lines[1], lines[2] = lines[2], lines[1]
    assert len(put(lake, lines)) == 3


def test_cutting_lines_off_the_end_shows(lake: BlobLake) -> None:
    assert "lines were cut off the end" in put(lake, filled(lake)[:-2])[0]


def test_an_unreadable_line_shows_and_does_not_stop_the_trail(lake: BlobLake) -> None:
    lines = filled(lake)
    assert put(lake, [*lines[:-1], b"garbage\n"])[0] == "trail-00001.jsonl line 6: not an audit line"
    append_audit(lake, NOW, "olga", "run_started", "later", {})
    assert read_audit(lake, 1)[0]["subject"] == "later"


def test_a_missing_file_in_the_middle_shows(lake: BlobLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "SEALED_BYTES", 500)
    filled(lake, 12)
    files = [blob.path for blob in lake.list("audit", "trail-")]
    assert len(files) > 3 and verify_audit(lake) == []
    lake.delete("audit", files[1])
    assert verify_audit(lake) == [f"{files[2]} line 1: does not follow the line before it"]


def test_parallel_writers_make_one_chain(lake: BlobLake) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: append_audit(lake, NOW, f"writer {n}", "run_started", str(n), {}), range(40)))
    assert verify_audit(lake) == []
    assert {entry["subject"] for entry in read_audit(lake, 100)} == {str(n) for n in range(40)}


def test_a_key_is_written_once_and_a_batch_is_one_append(lake: BlobLake) -> None:
    batch = [AuditEntry("run", "model_promoted", f"m{n}", {}, key=f"k{n}") for n in range(50)]
    append_entries(lake, NOW, batch[:30])
    append_entries(lake, NOW, batch)
    assert [entry["subject"] for entry in reversed(read_audit(lake, 100))] == [f"m{n}" for n in range(50)]
    assert verify_audit(lake) == []


class LosesAnswers:
    """A lake that appends, then says that somebody else was quicker: what a lost answer looks like after a retry."""

    def __init__(self, lake: BlobLake) -> None:
        self._lake, self.lost = lake, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lake, name)

    def append(self, container: str, path: str, data: bytes, *, if_length: int) -> int:
        length = self._lake.append(container, path, data, if_length=if_length)
        if not self.lost:
            self.lost = True
            raise BlobConflict("the position is not the end any more")
        return length


def test_a_lost_answer_makes_no_second_line(lake: BlobLake) -> None:
    losing: Any = LosesAnswers(lake)
    append_audit(losing, NOW, "olga", "week_published", "2017-W45", {})
    assert losing.lost and len(read_audit(lake)) == 1
    append_audit(losing, NOW, "olga", "week_published", "2017-W45", {})
    assert verify_audit(lake) == [] and len(read_audit(lake)) == 2
