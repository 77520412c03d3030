"""What a run tells beyond its forecasts: realised accuracy, drift, the next due week, and the raw rows of a number."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import azure.functions as func
import pyarrow as pa
import pytest

from adapters.lake import BlobLake
from adapters.telemetry import AppTelemetry
from adapters.telemetry_log import LineLog
from conditioning.raw_row_index import RawRows
from dashboard.alert_check import check, read_log
from domain import lake_paths
from domain.errors import NotFound
from domain.sales_weeks import SalesWeek
from orchestrators import drifting, realising, watchdog
from orchestrators.comparing import compare_versions
from orchestrators.explaining import raw_rows
from orchestrators.ledger import RunLedger
from orchestrators.reading import model_rows, run_details
from orchestrators.reading_routes import show_forecasts
from orchestrators.schedule import next_week
from tests.orchestrators.memory_lake import EPOCH, MemoryLake
from tests.orchestrators.world import WEEK, World, make_world

NEXT = "2017-W46"


@pytest.fixture
def world() -> World:
    return make_world(MemoryLake())


def deliver(world: World, sold: Callable[[int], float]) -> dict[str, Any]:
    """Return a later run whose curated deliveries know the published week: `sold(n)` units of the n-th pair."""
    lake, folder = world.services.lake, f"{NEXT}/later/"
    lines = ["store_id,product_id,sales_week,units"]
    for number, product in enumerate(("0001", "0002")):
        lines += [f"{number:04d},{product},{week},{units}" for week, units in
                  (("2017-W43", 6.0), ("2017-W44", 8.0), (WEEK, sold(number))) if units]
    lake.write(lake_paths.CURATED, f"{folder}deliveries.csv", ("\n".join(lines) + "\n").encode())
    lake.write_json(lake_paths.CURATED, f"{folder}manifest.json", {"pins": {"deliveries": {WEEK: "v"}}})
    return {"run_id": f"weekly-{NEXT}-a1", "kind": "weekly", "sales_week": NEXT, "correlation_id": "c",
            "folder": lake_paths.datastore_uri(lake_paths.CURATED, folder)}


def test_published_forecasts_are_measured_when_their_actuals_arrive(world: World) -> None:
    run_id = world.run()  # forecasts 9 units for each of the two pairs
    rows = realising.realise_weeks(world.services, deliver(world, lambda number: 10.0 if number == 0 else 0.0))
    fast, slow = rows
    assert (fast["run_id"], fast["sales_week"], fast["segment"]) == (run_id, WEEK, "r001-large-fast")
    assert fast["mape"] == pytest.approx(0.1) and fast["baseline_mape"] == pytest.approx(0.3)
    assert (slow["mape"], slow["rmse_0"], slow["evaluated"]) == (None, 9.0, 1)  # nothing sold: no percentage
    sums = ("mape_excluded", "actual_units", "over_units", "under_units")
    assert [[row[name] for name in sums] for row in rows] == [[0, 10.0, 0.0, 1.0], [1, 0.0, 9.0, 0.0]]
    assert world.services.results.realised == rows
    assert world.services.telemetry.events.count("forecast_realised") == 2


def test_a_week_without_actuals_or_without_forecasts_is_not_judged(world: World) -> None:
    assert realising.realise_weeks(world.services, deliver(world, lambda _: 1.0)) == []
    world.run()
    assert realising.realise_weeks(world.services, {**deliver(world, lambda _: 1.0), "sales_week": WEEK}) == []


@pytest.mark.parametrize(("lost", "weeks"), [([1, 1], 2), ([1, 0, 1], 1), ([0, 1, 1], 0), ([1], 1)])
def test_a_losing_streak_counts_from_the_newest_week(lost: list[int], weeks: int) -> None:
    rows = [{"segment": "s", "sales_week": str(SalesWeek.parse(WEEK).plus(-back)), "mape": 0.5,
             "baseline_mape": 0.4 if bad else 0.6} for back, bad in enumerate(lost)]
    assert realising.newest_realised(rows)["s"]["weeks"] == weeks


def test_the_drift_that_scoring_measured_reaches_ledger_tables_and_alert(world: World, tmp_path: Path) -> None:
    run_id = world.run()
    ledger = RunLedger(world.services.lake)
    (item,) = ledger.jobs(run_id, "score")["items"].values()  # type: ignore[index]
    container, prefix = lake_paths.parse_datastore_uri(item["output"])
    told = [{"feature": name, "psi": psi, "ks": 0.2, "threshold": 0.25, "verdict": verdict}
            for name, psi, verdict in (("lag_1", 0.4, "act"), ("lag_2", 0.12, "watch"))]
    world.services.lake.write_json(
        container, f"{prefix}forecasts.summary.json", {"segments": {"r001-large-fast": {"drift": told}}}
    )
    world.services.telemetry = AppTelemetry(LineLog(tmp_path / "log.jsonl"))  # type: ignore[assignment]
    rows = drifting.note_drift(world.services, ledger.run(run_id))
    assert [(row["feature"], row["breached"]) for row in rows] == [("lag_1", True), ("lag_2", False)]
    assert world.services.results.drift == rows == ledger.noted(run_id, drifting.NOTE)
    assert fired(world, tmp_path) == ["drift"]


def fired(world: World, folder: Path) -> list[str]:
    """Return the alert rules that fire on what was really emitted, with the watchdog's own sign of life."""
    tables = read_log(folder / "log.jsonl")
    now = max(row["timestamp"] for row in tables["customEvents"])
    moment = EPOCH.fromisoformat(now.replace("Z", "+00:00"))
    alive = {"timestamp": now, "name": "watchdog", "customDimensions": {"event_id": "w"}, "customMeasurements": {}}
    tables["customEvents"].append(alive)
    return [one.rule for one in check(tables, moment + timedelta(minutes=1))]


def test_what_the_watchdog_finds_raises_the_alert_that_is_meant_for_it(world: World, tmp_path: Path) -> None:
    run_id = world.run()
    weeks = [WEEK, "2017-W44"]
    RunLedger(world.services.lake).note(run_id, realising.NOTE, [
        {"segment": "r001-large-fast", "sales_week": week, "mape": 0.4, "baseline_mape": 0.3} for week in weeks
    ])
    assert model_rows(world.services)["models"][1]["realised"]["weeks"] == 2
    world.services.telemetry = AppTelemetry(LineLog(tmp_path / "log.jsonl"))  # type: ignore[assignment]
    watchdog.look_around(world.services)
    assert fired(world, tmp_path) == ["model_worse_than_baseline"]
    world.services.scenario = replace(world.services.scenario, mape_target=0.05)
    old = watchdog.Instance("weekly-2017-W40-a1", False, world.services.clock.now() - timedelta(hours=25))
    late = watchdog.Instance("weekly-2017-W41-a1", True, world.services.clock.now() - timedelta(minutes=16))
    world.services.lake.write_json("conditioned", "deliveries/2017-W45/current.json", {})
    world.services.clock.time = EPOCH + timedelta(hours=30)
    told = watchdog.look_around(world.services, [old, late])["findings"]
    assert {one["cause"] for one in told if one["event"] == "queue_backlog"} == {
        "orchestrations wait to start", "orchestrations run for a day",
    }
    assert sorted(fired(world, tmp_path)) == ["model_worse_than_baseline", "queue_backlog", "run_overdue"]


def test_a_segment_that_never_had_a_model_is_shown_in_failover(world: World) -> None:
    run_id = world.run()
    path = f"{run_id}/lineup.json"
    lineup, _ = world.services.lake.read_json("runs", path)
    lineup["lineup"]["r002-large-fast"] = {"failover": True, "source": "baseline", "reason": "too few series"}
    world.services.lake.write_json("runs", path, lineup)
    row = next(row for row in model_rows(world.services)["models"] if row["segment"] == "r002-large-fast")
    assert (row["stage"], row["failover"], row["failover_reason"]) == ("none", True, "too few series")
    assert sum(row["failover"] for row in model_rows(world.services)["models"]) == 1


def test_the_next_week_is_due_a_day_after_its_deliveries_and_gaps_are_missing() -> None:
    lake: Any = MemoryLake()
    assert next_week(lake) is None
    for week in ("2017-W43", "2017-W44"):
        lake.write_json("conditioned", f"deliveries/{week}/current.json", {})
    lake.write_json("conditioned", f"deliveries/{WEEK}/v.manifest.json", {})  # conditioned at this moment
    due = next_week(lake)
    assert due is not None and (str(due.sales_week), due.due_at) == (WEEK, EPOCH + timedelta(hours=24))
    assert due.has_arrived and due.missing == ()
    for week in ("2017-W42", WEEK):
        lake.write_json("published", f"{week}/current.json", {})
    due = next_week(lake)
    assert due is not None and (str(due.sales_week), due.has_arrived) == (NEXT, False)
    assert due.due_at == EPOCH + timedelta(days=8)
    assert [str(week) for week in due.missing] == ["2017-W43", "2017-W44"]


def test_every_raw_row_of_a_pair_is_found_in_an_index_of_any_size(lake: BlobLake) -> None:
    index, expected = RawRows(), {}
    weeks = [str(SalesWeek.parse(WEEK).plus(-back)) for back in range(30, 0, -1)]
    for week in weeks:
        rows = [(f"S{store:05d}", f"P{product:05d}") for product in range(40) for store in range(30)]
        rows += [("S00007", "P00003")]  # a second delivery of the same week
        monday = SalesWeek.parse(week).monday.isoformat()
        index.add(week, pa.table({
            "store_id": [row[0] for row in rows], "product_id": [row[1] for row in rows],
            "delivery_date": [monday] * len(rows), "units": [str(number) for number in range(len(rows))],
            "source_file": [f"{week}.csv"] * len(rows), "source_row": [str(n) for n in range(1, len(rows) + 1)],
        }))
        for number, pair in enumerate(rows, 1):
            expected.setdefault(pair, []).append([*pair, week, monday, str(number - 1), str(number)])
    assert index.write(lake, lake_paths.CURATED, "w/v.raw_rows.csv") == 30 * 1201
    assert index.files[weeks[0]] == f"{weeks[0]}.csv"
    assert lake.info(lake_paths.CURATED, "w/v.raw_rows.csv").size > 1_000_000  # type: ignore[union-attr]
    for pair in (("S00000", "P00000"), ("S00007", "P00003"), ("S00015", "P00020"), ("S00029", "P00039")):
        assert list(raw_rows(lake, lake_paths.CURATED, "w/v.raw_rows.csv", *pair)) == expected[pair]
    for pair in (("A", "P00000"), ("S00007", "P00003x"), ("Z", "Z")):
        assert list(raw_rows(lake, lake_paths.CURATED, "w/v.raw_rows.csv", *pair)) == []
    assert list(raw_rows(lake, lake_paths.CURATED, "w/none.raw_rows.csv", "S00000", "P00000")) == []
    assert lake.read_range(lake_paths.CURATED, "w/v.raw_rows.csv", 10**9, 10) == b""


def test_a_corrected_raw_row_names_exactly_the_forecasts_that_it_moved(world: World) -> None:
    lake, services = world.services.lake, world.services
    world.run()
    with pytest.raises(NotFound, match="one version only"):
        compare_versions(services, WEEK, "", "", 10)
    _pin(world, "v1", {"1": 10, "2": 20})
    # The row is corrected: new data version, new curated folder, and the second pair's forecast moves.
    world.as_of_version = "def"
    world.jobs.units_of = lambda pair, units: units + 2 if pair == ("0001", "0002") else units
    second = world.run(force=True, reason="the row was corrected")
    _pin(world, "v2", {"1": 10, "2": 26})
    told = compare_versions(services, WEEK, "", "", 10)
    assert (told["total"], told["to_run_id"]) == (1, second)
    (row,) = told["rows"]
    assert (row["store_id"], row["product_id"], row["segment"]) == ("0001", "0002", "r001-large-slow")
    assert (row["before"]["units"], row["after"]["units"]) == (9.0, 11.0)
    (source,) = told["sources"]
    assert (source["source"], source["sales_week"], source["to_version"]) == ("deliveries", "2017-W44", "v2")
    assert source["rows"] == [{"source_row": 2, "source_file": "dsd.csv", "fields": {"units": ["20", "26"]}}]
    back = compare_versions(services, WEEK, told["to_version"], told["from_version"], 0)
    assert (back["total"], back["rows"]) == (1, [])
    with pytest.raises(NotFound, match="never had version nonsense"):
        compare_versions(services, WEEK, "nonsense", "", 10)
    assert lake.info("published", f"{WEEK}/{told['to_version']}/forecasts.csv")


def _pin(world: World, version: str, units: dict[str, int]) -> None:
    """Give the curated folder in use the pin of a conditioned file with these units by raw row."""
    lake, path = world.services.lake, f"{WEEK}/{world.as_of_version}/manifest.json"
    manifest, _ = lake.read_json(lake_paths.CURATED, path)
    lake.write_json(lake_paths.CURATED, path, manifest | {"pins": {"deliveries": {"2017-W44": version}}})
    lines = ["store_id,product_id,units,source_file,source_row"]
    lines += [f"000{row},0001,{sold},dsd.csv,{row}" for row, sold in units.items()]
    lake.write("conditioned", f"deliveries/2017-W44/{version}.csv", ("\n".join(lines) + "\n").encode())


def test_a_run_leads_to_the_services_that_did_the_work_by_their_ids(world: World, tmp_path: Path) -> None:
    run_id = world.run(correlation_id="adf-77")
    world.services.settings = replace(
        world.services.settings, ml_platform="azureml", aml_subscription_id="s", aml_resource_group="g",
        aml_workspace="w", applicationinsights_resource_id="/subscriptions/s/ai", data_factory_resource_id="/s/factory",
    )
    told = run_details(world.services, run_id)
    assert told["links"]["adf"] == "https://adf.azure.com/monitoring/pipelineruns/adf-77?factory=%2Fs%2Ffactory"
    assert "%2Fsubscriptions%2Fs%2Fai" in told["links"]["trace"] and told["operation_id"] in told["links"]["trace"]
    job = told["jobs"]["train"]["items"][0]
    place = f"https://ml.azure.com/runs/{job['name']}?wsid=/subscriptions/s/resourcegroups/g/workspaces/w"
    assert job["link"] == place
    telemetry = AppTelemetry(LineLog(tmp_path / "log.jsonl"))
    telemetry.event("run_started", {"run_id": run_id, "correlation_id": "adf-77"})
    assert read_log(tmp_path / "log.jsonl")["customEvents"][0]["operation_Id"] == told["operation_id"]
    world.services.settings = replace(world.services.settings, ml_platform="local", data_factory_resource_id="")
    told = run_details(world.services, run_id)
    assert "adf" not in told["links"] and told["jobs"]["train"]["items"][0]["link"] == ""


def test_the_order_export_brings_its_checksum_and_what_it_rests_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run()
    monkeypatch.setattr("bootstrap._services", world.services)
    request = func.HttpRequest("GET", f"http://host/api/forecasts/{WEEK}", params={"format": "csv"},
                               route_params={"sales_week": WEEK}, body=b"")
    answer = show_forecasts.build().get_user_function()(request)
    assert answer.status_code == 200 and b"order_units" in answer.get_body().splitlines()[0]
    assert hashlib.sha256(answer.get_body()).hexdigest() == answer.headers["X-Content-SHA256"]
    assert answer.headers["X-As-Of-Version"] == world.as_of_version
    assert answer.headers["X-Produced-At"].startswith("2017-11-06")
