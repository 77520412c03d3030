"""Each alert rule fires on its breach, on nothing else, and not in a healthy week."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from adapters.telemetry_events import EVENTS
from dashboard.alert_check import ALERTS, check, main, read_log, rules
from tests.alerts.samples import BREACHES, NOW, healthy, joined

INFRA = ALERTS.parent


def test_a_healthy_week_raises_nothing() -> None:
    assert check(healthy(), NOW) == []


@pytest.mark.parametrize("rule", BREACHES)
def test_a_breach_raises_exactly_its_rule(rule: str) -> None:
    fires, _ = BREACHES[rule]
    found = check(joined(healthy(), fires), NOW)
    assert [one.rule for one in found] == [rule]
    assert all(row["hits"] >= 1 for row in found[0].rows)


@pytest.mark.parametrize("rule", BREACHES)
def test_a_near_miss_stays_quiet(rule: str) -> None:
    _, quiet = BREACHES[rule]
    assert check(joined(healthy(), quiet), NOW) == []


def test_silence_is_an_alert_too() -> None:
    week = healthy()
    week["customEvents"] = [row for row in week["customEvents"] if row["name"] != "watchdog"]
    assert [one.rule for one in check(week, NOW)] == ["telemetry_silent"]


def test_a_repeated_event_counts_once() -> None:
    fires, _ = BREACHES["run_failed"]
    (found,) = check(joined(healthy(), fires), NOW)
    assert [row["hits"] for row in found.rows] == [1]


def test_lost_telemetry_is_told_by_the_log_and_by_an_event() -> None:
    fires, _ = BREACHES["telemetry_dropped"]
    (found,) = check(joined(healthy(), fires), NOW)
    assert [row["hits"] for row in found.rows] == [2]


def test_every_rule_has_a_query_a_sample_and_a_runbook() -> None:
    names = set(rules())
    assert names == {path.stem for path in ALERTS.glob("*.kql")}
    assert names == {*BREACHES, "telemetry_silent"}
    runbook = (INFRA.parent / "docs" / "runbooks.md").read_text("utf-8")
    assert names == set(re.findall(r"^## ([a-z_]+)$", runbook, re.MULTILINE))


def test_every_name_that_a_query_reads_exists_in_the_table_of_events() -> None:
    dimensions = {name for event in EVENTS.values() for name in event.all_dimensions}
    measures = {name for event in EVENTS.values() for name in event.measures}
    texts = {path.name: path.read_text("utf-8") for path in ALERTS.glob("*.kql")}
    workbook = json.loads((INFRA / "workbook" / "operations.workbook").read_text("utf-8"))
    texts |= {item["name"]: item["content"]["query"] for item in workbook["items"] if item["type"] == 3}
    for place, text in texts.items():
        assert set(re.findall(r"customDimensions\.(\w+)", text)) <= dimensions, place
        assert set(re.findall(r"customMeasurements\.(\w+)", text)) <= measures, place
        for listed in re.findall(r"name (?:==|in) (\([^)]*\)|\"[^\"]*\")", text):
            assert set(re.findall(r'"([^"]+)"', listed)) <= set(EVENTS), place


def test_bicep_deploys_every_rule_with_its_own_settings() -> None:
    text = (INFRA / "modules" / "alert-rules.bicep").read_text("utf-8")
    blocks = {
        re.findall(r"alerts/(\w+)\.kql", block)[0]: block for block in re.split(r"^resource ", text, flags=re.M)[1:]
    }
    assert set(blocks) == set(rules())
    for name, rule in rules().items():
        block = blocks[name]
        assert f"severity: {rule['severity']}\n" in block and f"evaluationFrequency: '{rule['frequency']}'" in block
        assert f"windowSize: '{rule['window']}'" in block
        assert f"autoMitigate: {str(rule['mitigate']).lower()}" in block
        assert re.findall(r"name: '(\w+)'\n +operator: 'Include'", block) == rule["dimensions"]
        assert f"#{name}'" in block


def test_the_local_check_reads_the_telemetry_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adapters.telemetry import AppTelemetry
    from adapters.telemetry_log import LineLog

    log = tmp_path / "telemetry.jsonl"
    telemetry = AppTelemetry(LineLog(log))
    telemetry.event("watchdog", {"checked_at": "now"}, {"findings": 1})
    telemetry.event("run_failed", {"run_id": "weekly-2017-W45-a1", "kind": "weekly", "sales_week": "2017-W45"})
    with log.open("a") as torn:
        torn.write('{"kind": "ev')
    assert len(read_log(log)["customEvents"]) == 2
    monkeypatch.setattr("sys.argv", ["alert_check", "--telemetry", str(log)])
    assert main() == 1
    monkeypatch.setattr("sys.argv", ["alert_check", "--telemetry", str(tmp_path / "none")])
    assert main() == 2
