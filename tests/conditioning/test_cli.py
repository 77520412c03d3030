"""The command line: what it prints, how it exits, what it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conditioning.__main__ import main
from tests.conditioning.conftest import ORDERS, ROOT

GOOD = "id,day,amount,note\n001,2017-11-06,1.50,first\n"


@pytest.mark.parametrize(
    ("raw", "code", "status"),
    [
        (GOOD, 0, "accepted"),
        (GOOD + "002,soon,1,x\n", 3, "partial"),
        ("a,b\n1,2\n", 4, "rejected"),
        ("", 4, "rejected"),
    ],
)
def test_exit_codes_follow_the_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], raw: str, code: int, status: str
) -> None:
    (tmp_path / "orders.csv").write_text(raw)
    (tmp_path / "contract.json").write_text(json.dumps(ORDERS))
    out = tmp_path / "out"
    assert (
        main([str(tmp_path / "orders.csv"), "--contract", str(tmp_path / "contract.json"), "--out", str(out)]) == code
    )
    printed = json.loads(capsys.readouterr().out)
    assert printed["status"] == status
    assert json.loads((out / "manifest.json").read_text()) == printed
    assert (out / "data.csv").exists() == (status != "rejected")
    assert (out / "quarantine.csv").exists()


def test_a_refused_file_takes_the_data_of_an_earlier_call_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "contract.json").write_text(json.dumps(ORDERS))
    for raw, left in ((GOOD, True), ("", False)):
        (tmp_path / "orders.csv").write_text(raw)
        main(
            [
                str(tmp_path / "orders.csv"),
                "--contract",
                str(tmp_path / "contract.json"),
                "--out",
                str(tmp_path / "out"),
            ]
        )
        assert (tmp_path / "out" / "data.csv").exists() == left
    capsys.readouterr()


@pytest.mark.parametrize(
    "contract",
    [
        "not json",
        "[]",
        "{}",
        '{"fields": [{"name": "a", "type": "what"}]}',
        '{"fields": [{"name": "a"}, {"name": "a"}]}',
        '{"fields": [{"name": "a", "constraints": {"pattern": "("}}]}',
        '{"fields": [{"name": "a", "constraints": [1]}]}',
        '{"fields": [{"name": "a", "constraints": {"minLength": "two"}}]}',
        '{"fields": [{"name": "a", "constraints": {"enum": 5}}]}',
        '{"fields": [{"name": "a", "missingValues": "NA"}]}',
        '{"fields": [{"name": "a"}], "dialect": "semicolon"}',
        '{"fields": [{"name": "a"}], "dialect": {"sheetNumber": "first"}}',
        "[" * 100_000,
    ],
)
def test_an_unusable_contract_is_a_wrong_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], contract: str
) -> None:
    (tmp_path / "orders.csv").write_text(GOOD)
    (tmp_path / "contract.json").write_text(contract)
    assert (
        main(
            [
                str(tmp_path / "orders.csv"),
                "--contract",
                str(tmp_path / "contract.json"),
                "--out",
                str(tmp_path / "out"),
            ]
        )
        == 2
    )
    assert json.loads(capsys.readouterr().out)["status"] == 400


def test_a_missing_file_is_a_wrong_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.csv"), "--source", "deliveries", "--out", str(tmp_path)]) == 2
    assert "none.csv" in json.loads(capsys.readouterr().out)["detail"]


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text(GOOD)
    (tmp_path / "contract.json").write_text(json.dumps({"resources": [{"name": "orders", "schema": ORDERS}]}))
    command = [sys.executable, "-m", "conditioning", "orders.csv", "--contract", "contract.json", "--out", "out"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["outputs"]["data"]["rows"] == 1
