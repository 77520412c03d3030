"""One trace leads from the call that started a run to its jobs, its events, its row in the tables and its links."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure.functions as func
import pytest

from adapters.telemetry import AppTelemetry
from adapters.telemetry_log import LineLog
from dashboard.alert_check import read_log
from domain.runs import RunRequest
from domain.tracing import Trace, derived_trace, parse_traceparent
from http_api import traceparent
from orchestrators import runs
from orchestrators.reading import run_details
from orchestrators.replaying import replay_run
from tests.orchestrators.memory_lake import MemoryLake
from tests.orchestrators.world import WEEK, World, make_world

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
OTHER = f"00-{TRACE[::-1]}-{SPAN}-01"


@pytest.fixture
def world() -> World:
    return make_world(MemoryLake())


def operations(log: Path, run_id: str) -> dict[str, set[str]]:
    """The operation ids of each kind of event of a run."""
    found: dict[str, set[str]] = {}
    for row in read_log(log)["customEvents"]:
        if row["customDimensions"].get("run_id") == run_id:
            found.setdefault(row["name"], set()).add(row["operation_Id"])
    return found


def test_everything_of_a_run_has_the_trace_of_its_start(world: World, tmp_path: Path) -> None:
    world.services.telemetry = AppTelemetry(LineLog(tmp_path / "log.jsonl"))  # type: ignore[assignment]
    wish = RunRequest.from_dict({"kind": "weekly", "sales_week": WEEK, "requested_by": "t", "correlation_id": "adf-9"})
    run_id, _ = runs.start_run(world.services, wish, PARENT)
    assert runs.start_run(world.services, wish, OTHER) == (run_id, False)
    world.drive(str(run_id))

    assert {job.spec.tags["traceparent"] for job in world.jobs.jobs.values()} == {PARENT}
    told = operations(tmp_path / "log.jsonl", str(run_id))
    assert {"run_started", "run_step", "aml_job_state", "model_evaluated", "region_scored", "week_published",
            "run_succeeded"} <= set(told)
    assert all(found == {TRACE} for found in told.values()), told
    assert run_details(world.services, str(run_id))["operation_id"] == TRACE
    rows = [row for row in world.services.results.runs if "operation_id" in row]
    assert rows and {row["operation_id"] for row in rows} == {TRACE}

    # A replay is a call of its own: its jobs that are adopted keep the trace that they were submitted under.
    world.services.settings = replace(world.services.settings, code_version="c2")
    again = replay_run(world.services, str(run_id), {"reason": "new code"}, "t", OTHER)["run_id"]
    world.drive(again)
    mine = [job for job in world.jobs.jobs.values() if job.spec.run_id == again]
    assert mine and {job.spec.tags["traceparent"] for job in mine} == {OTHER}
    assert run_details(world.services, again)["operation_id"] == TRACE[::-1]


def test_without_a_trace_the_correlation_id_names_the_operation(world: World) -> None:
    run_id = world.run(correlation_id="9B1DEB4D-3B7D-4BAD-9BDD-2B0D7B3DCB6D")  # the RunId of a Data Factory pipeline
    assert run_details(world.services, run_id)["operation_id"] == "9b1deb4d3b7d4bad9bdd2b0d7b3dcb6d"
    assert {job.spec.tags["traceparent"] for job in world.jobs.jobs.values()} == {""}


@pytest.mark.parametrize(
    ("text", "trace"),
    [(PARENT, Trace(TRACE, SPAN)), (f" {PARENT.upper()} ", Trace(TRACE, SPAN)), ("", None), (None, None),
     (f"00-{'0' * 32}-{SPAN}-01", None), (f"00-{TRACE}-{'0' * 16}-01", None), (f"{TRACE}-{SPAN}", None)],
)
def test_a_traceparent_is_read_or_is_none(text: Any, trace: Trace | None) -> None:
    assert parse_traceparent(text) == trace


def test_a_guid_is_its_own_trace_and_other_text_stands_for_one() -> None:
    assert derived_trace(TRACE).trace_id == TRACE
    assert derived_trace("00000000-0000-0000-0000-000000000000").trace_id != "0" * 32
    assert derived_trace("adf-9") == derived_trace("adf-9") != derived_trace("adf-8")
    assert len(derived_trace("").trace_id) == 32 and len(derived_trace("").span_id) == 16


@pytest.mark.parametrize(
    ("invocation", "header", "found"),
    [(PARENT, OTHER, PARENT), ("", OTHER, OTHER), (None, OTHER, OTHER), ("", "nonsense", ""), ("", None, "")],
)
def test_the_invocation_knows_its_trace_else_the_caller(invocation: Any, header: str | None, found: str) -> None:
    headers = {"traceparent": header} if header else {}
    request = func.HttpRequest("POST", "http://host/api/runs", headers=headers, body=b"")
    context: Any = SimpleNamespace(trace_context=SimpleNamespace(trace_parent=invocation))
    assert traceparent(request, context) == found
