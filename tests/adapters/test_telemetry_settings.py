"""Telemetry without a server: its settings, its table of events, what it never does to the app."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.telemetry import AppTelemetry, open_telemetry
from adapters.telemetry_connection import Connection, parse_client_id, parse_connection
from adapters.telemetry_events import EVENTS
from settings import Settings
from tests.adapters.test_telemetry import emit
from tests.ingestion_server.server import IngestionServer

ROOT = Path(__file__).resolve().parents[2]
KEY = IngestionServer.key


def settings(**changes: str) -> Settings:
    return replace(Settings.from_env({"LAKE": "x", "TELEMETRY_BACKEND": "opencensus"}), **changes)  # type: ignore[arg-type]


GOOD = [
    f"InstrumentationKey={KEY};IngestionEndpoint=https://x.in.applicationinsights.azure.com/",
    f"InstrumentationKey={KEY.upper()};IngestionEndpoint=https://x.in.applicationinsights.azure.com/;",
    f"instrumentationkey={KEY};INGESTIONENDPOINT=https://x.in.applicationinsights.azure.com;ApplicationId=a=b",
]


@pytest.mark.parametrize("text", GOOD)
def test_7_every_spelling_of_a_connection_string_is_read(text: str) -> None:
    assert parse_connection(text) == Connection(KEY, "https://x.in.applicationinsights.azure.com")


def test_7_endpoints_are_derived_from_the_suffix() -> None:
    text = f"InstrumentationKey={KEY};EndpointSuffix=applicationinsights.us;Location=west"
    assert parse_connection(text).endpoint == "https://west.dc.applicationinsights.us"
    assert parse_connection(f"InstrumentationKey={KEY}").endpoint == "https://dc.services.visualstudio.com"


BAD = [
    "", "@Microsoft.KeyVault(SecretUri=https://v)", "nonsense", "InstrumentationKey=1",
    f"InstrumentationKey={KEY};IngestionEndpoint=x", f"InstrumentationKey={KEY};Authorization=aad",
]


@pytest.mark.parametrize("text", BAD)
def test_7_a_bad_connection_string_costs_one_warning_and_not_the_app(
    text: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("APPLICATIONINSIGHTS_CONNECTION_STRING", text)
    with caplog.at_level(logging.WARNING):
        telemetry = open_telemetry(settings(applicationinsights_connection_string=text, data_dir=str(tmp_path)))
        emit(telemetry, 2)
    assert len(caplog.records) == 1
    assert "telemetry stays on this machine" in caplog.text
    lines = [json.loads(line) for line in (tmp_path / "telemetry.jsonl").read_text().splitlines()]
    assert [line["dimensions"]["run_id"] for line in lines] == ["weekly-2017-W45-a0", "weekly-2017-W45-a1"]


def test_11_the_authentication_setting_is_read() -> None:
    assert parse_client_id("Authorization=AAD;ClientId=abc") == (True, "abc")
    assert parse_client_id("Authorization=AAD") == (True, "")
    assert parse_client_id("") == (False, "")


def test_telemetry_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def put(self, item: object) -> None:
            raise RuntimeError("broken")

        def flush(self, seconds: float) -> bool:
            raise RuntimeError("broken")

    telemetry = AppTelemetry(Broken())
    telemetry.event("no_such_event", {"a": object()}, {"b": object()})  # type: ignore[dict-item]
    telemetry.exception(ValueError("x"), {})
    telemetry.gauge("g", 1)
    with pytest.raises(KeyError), telemetry.span("s"):
        raise KeyError("the block's own error goes on")
    assert telemetry.flush() is False
    assert "telemetry failed" in caplog.text


def test_a_name_that_is_not_in_the_table_is_told_once(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    telemetry = open_telemetry(settings(telemetry_backend="log", data_dir=str(tmp_path)))
    for _ in range(2):
        telemetry.event("run_startd", {})
        telemetry.event("run_started", {"run_id": "r", "colour": "red"})
    assert len(caplog.records) == 2


def test_none_keeps_nothing(tmp_path: Path) -> None:
    telemetry = open_telemetry(settings(telemetry_backend="none", data_dir=str(tmp_path)))
    emit(telemetry, 1)
    assert telemetry.flush() and list(tmp_path.iterdir()) == []


def test_a_log_that_cannot_be_written_goes_to_logging(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.INFO):
        telemetry = open_telemetry(settings(telemetry_backend="log", data_dir=str(tmp_path / "file")))
        emit(telemetry, 1)
    assert "weekly-2017-W45-a0" in caplog.text


def test_every_event_names_what_makes_it_unique() -> None:
    for event in EVENTS.values():
        assert event.identity, event.name
        assert not set(event.measures) & event.all_dimensions, event.name


def test_only_the_telemetry_module_imports_opencensus() -> None:
    pattern = re.compile(r"^\s*(from|import) opencensus", re.MULTILINE)
    folders = ("domain", "conditioning", "orchestrators", "adapters", "ml_jobs", "dashboard", "devhost")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")] + list(ROOT.glob("*.py"))
    assert {path.name for path in files if pattern.search(path.read_text())} == {"telemetry.py"}


def test_importing_the_module_loads_no_opencensus() -> None:
    code = "import sys, adapters.telemetry; sys.exit(any(n.startswith(('opencensus', 'azure')) for n in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ}, check=False).returncode == 0


def test_the_documentation_lists_every_event_with_its_names() -> None:
    text = (ROOT / "docs" / "telemetry.md").read_text("utf-8")
    for event in EVENTS.values():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{event.name}` |")]
        assert {*event.identity, *event.dimensions, *event.measures} <= set(re.findall(r"`(\w+)`", line)), event.name
