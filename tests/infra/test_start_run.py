"""What pipelines call to start a run and to look at a deployment, against the app on the local host."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from scripts import deploy, start_run
from scripts.host_process import HostProcess

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def app(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    settings = {"DATA_DIR": str(folder / "local"), "TELEMETRY_BACKEND": "none", "CODE_VERSION": "abc123"}
    with HostProcess(ROOT, folder / "host", env=settings, options=["--auth"]) as host:
        key = json.loads((folder / "host" / "keys.json").read_text("utf-8"))["function"]
        yield host.url, {"FUNCTION_KEY": key, "FUNCTION_APP_URL": host.url}


def test_a_run_without_data_ends_with_the_reason_and_fails_the_pipeline(
    app: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in app[1].items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("FUNCTIONS_AUDIENCE", raising=False)
    assert start_run.main(["--kind", "validate", "--week", "2017-W45", "--minutes", "2"]) == 1
    said = capsys.readouterr().out
    assert "validate-2017-W45-a1 (new)" in said and '"status": "failed"' in said and "gate" in said


def test_an_orchestration_carries_the_version_of_host_json(
    app: tuple[str, dict[str, str]], folder: Path, tmp_path: Path
) -> None:
    durable = json.loads((ROOT / "host.json").read_text("utf-8"))["extensions"]["durableTask"]
    wish = {"kind": "validate", "sales_week": "2017-W44", "reason": "test"}
    start_run.run(app[0], wish, start_run.headers(app[1]), minutes=2)
    for name in ("hub.sqlite", "hub.sqlite-wal"):  # the host keeps the hub to itself: look at a copy
        shutil.copy(folder / "host" / name, tmp_path)
    with closing(sqlite3.connect(tmp_path / "hub.sqlite")) as hub:
        found = hub.execute("SELECT version FROM instances WHERE id = 'validate-2017-W44-a1'").fetchall()
    assert found == [(durable["defaultVersion"],)]
    assert durable["versionMatchStrategy"] == "CurrentOrOlder"  # old instances leave runs of a newer version alone


def test_a_wrong_wish_is_refused_with_the_apps_words(
    app: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in app[1].items():
        monkeypatch.setenv(name, value)
    assert start_run.main(["--kind", "validate", "--week", "2017-45"]) == 1
    assert "refused" in capsys.readouterr().err


def test_draining_ends_when_no_run_is_in_flight(app: tuple[str, dict[str, str]]) -> None:
    assert deploy.drain(app[0], start_run.headers(app[1]), minutes=1, pause=0.2)
    assert not deploy.drain(app[0], {}, minutes=0, pause=0.1)  # who may not look cannot say that nothing runs


def test_the_smoke_test_wants_the_version_just_deployed(app: tuple[str, dict[str, str]]) -> None:
    assert deploy.smoke(app[0], "abc123", minutes=1, pause=0.1)
    assert not deploy.smoke(app[0], "another", minutes=0.02, pause=0.1)
