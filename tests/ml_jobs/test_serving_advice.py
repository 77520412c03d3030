"""The eight questions and their tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.serving_advice import BATCH, BOTH, ONLINE, OURS, QUESTIONS, advice, main

RECORD = Path(__file__).resolve().parents[2] / "docs/decisions/0007-batch-with-an-online-door.md"


@pytest.mark.parametrize(("yes", "chosen"), [
    (OURS, BATCH), (OURS | {1}, BOTH), ({2, 4, 5}, ONLINE), ({3}, ONLINE), (set(), BATCH), ({1, 2, 3}, ONLINE),
])
def test_the_tree(yes: set[int], chosen: str) -> None:
    assert advice(yes)[0] == chosen


def test_the_record_answers_every_question_as_the_function_assumes() -> None:
    rows = {int(line.split(".")[0].strip("| ")): line.split("|")[2].strip()
            for line in RECORD.read_text().splitlines() if line.startswith("| ") and line[2].isdigit()}
    assert set(rows) == set(QUESTIONS)
    assert {number for number, answer in rows.items() if answer.startswith("yes")} == OURS


def test_a_number_without_a_question_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--yes", "9"]) == 1
    assert "1 to 8" in capsys.readouterr().err
    assert main([]) == 0
    assert f"-> {BATCH}" in capsys.readouterr().out
