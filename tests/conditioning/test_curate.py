"""The curated folder: immutable, named by content, blind to the run week's own deliveries, checked by hashes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.lake import BlobLake
from conditioning.curate import curate_week
from domain import lake_paths
from domain.errors import GateClosed, IntegrityError
from domain.sales_weeks import SalesWeek, weeks_between
from domain.scenario import Scenario

SCENARIO = json.loads((Path(__file__).resolve().parents[2] / "config" / "scenario.json").read_text("utf-8"))
FIRST, RUN_WEEK = SalesWeek(2017, 36), SalesWeek(2017, 45)


@dataclass
class CurateWorld:
    """The two things that curation is handed, and a writer of conditioned weeks."""

    lake: BlobLake
    scenario: Scenario

    def put(self, source: str, week: SalesWeek, rows: list[dict[str, object]], ended_at: str = "2017-01-01",
            file: str = "raw.csv") -> str:
        """Write one conditioned version and make it current; return its data version."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=[*rows[0], "source_file", "source_row"], lineterminator="\n")
        writer.writeheader()
        for number, row in enumerate(rows, start=1):
            writer.writerow(row | {"source_file": file, "source_row": number})
        data = text.getvalue().encode()
        version = hashlib.sha256(data).hexdigest()[:16]
        manifest = {"status": "accepted", "sales_week": str(week), "data_version": version, "ended_at": ended_at,
                    "outputs": {"data": {"sha256": hashlib.sha256(data).hexdigest()}}}
        self.lake.write("conditioned", lake_paths.conditioned_data(source, week, version), data)
        self.lake.write_json("conditioned", lake_paths.conditioned_manifest(source, week, version), manifest)
        self.lake.write_json("conditioned", lake_paths.conditioned_current(source, week), {"data_version": version})
        return version

    def table(self, summary: dict, name: str) -> list[dict[str, str]]:
        container, folder = lake_paths.parse_datastore_uri(summary["folder"])
        return list(csv.DictReader(io.StringIO(self.lake.read(container, f"{folder}{name}.csv").data.decode())))

    def curate(self, **more: str) -> dict:
        return curate_week(self, {"sales_week": str(RUN_WEEK)} | more)


@pytest.fixture
def world(lake: BlobLake) -> CurateWorld:
    world = CurateWorld(lake, Scenario.from_dict(SCENARIO))
    world.put("stores", FIRST, [
        {"store_id": "S1", "region": "r01", "store_format": "large", "zip": "60001", "opened_on": "2017-01-02",
         "closed_on": ""},
        {"store_id": "S2", "region": "r02", "store_format": "small", "zip": "60002", "opened_on": "2017-01-02",
         "closed_on": "2017-10-01"},
    ])
    world.put("products", FIRST, [
        {"product_id": product, "name": product, "department": "D", "category": "C", "brand": "", "pack_size": 6}
        for product in ("P1", "P2", "P3", "NEVER")
    ])
    for week in weeks_between(FIRST, RUN_WEEK.plus(1)):
        world.put("deliveries", week, deliveries(week))
    return world


def deliveries(week: SalesWeek) -> list[dict[str, object]]:
    day = week.monday.isoformat()
    rows = [("S1", "P1", 10), ("S1", "P1", 2), ("S1", "P2", 1), ("S2", "P1", 5), ("GONE", "P1", 7), ("S1", "LOST", 7)]
    if week == RUN_WEEK.plus(-1):
        rows.append(("S1", "P3", 4))
    return [
        {"document_id": f"{store}{product}{units}", "store_id": store, "product_id": product, "delivery_date": day,
         "units": units, "department": "D"}
        for store, product, units in rows
    ]


def test_nothing_of_the_run_week_or_later_is_in_the_folder(world: CurateWorld) -> None:
    summary = world.curate()
    weeks = {row["sales_week"] for row in world.table(summary, "deliveries")}
    assert max(weeks) == str(RUN_WEEK.plus(-1)) == summary["cutoff"] and min(weeks) == str(FIRST)
    before = summary["as_of_version"]
    world.put("deliveries", RUN_WEEK, deliveries(RUN_WEEK)[:1])
    assert world.curate()["as_of_version"] == before


def test_units_are_summed_and_pairs_explained(world: CurateWorld) -> None:
    summary = world.curate()
    first = [row for row in world.table(summary, "deliveries") if row["sales_week"] == str(FIRST)]
    assert [(r["store_id"], r["product_id"], float(r["units"])) for r in first] == [
        ("S1", "P1", 12.0), ("S1", "P2", 1.0), ("S2", "P1", 5.0)]
    pairs = {(r["store_id"], r["product_id"]): (r["segment"], r["state"]) for r in world.table(summary, "pairs")}
    assert pairs == {
        ("S1", "P1"): ("r01-large-fast", "active"), ("S1", "P2"): ("r01-large-slow", "active"),
        ("S1", "P3"): ("r01-large-slow", "thin_history"), ("S2", "P1"): ("r02-small-fast", "store_closed"),
    }
    assert summary["orphans"] == {
        "orphan_stores": 1, "orphan_store_rows": 9, "orphan_products": 1, "orphan_product_rows": 9,
    }
    assert "weather_history" in summary["absent_sources"]


def test_the_same_versions_are_the_same_folder_and_one_changed_row_is_another(world: CurateWorld) -> None:
    first = world.curate()
    assert world.curate()["folder"] == first["folder"]
    changed = deliveries(FIRST)
    changed[0]["units"] = 11
    world.put("deliveries", FIRST, changed)
    second = world.curate()
    assert second["as_of_version"] != first["as_of_version"]
    assert world.table(first, "deliveries")[0]["units"] != world.table(second, "deliveries")[0]["units"]


def test_the_lineage_of_one_changed_row_names_its_file(world: CurateWorld) -> None:
    """A model's data version is its folder's: the two manifests differ in one week's pin, and name the new file."""
    def manifest(summary: dict) -> dict:
        container, folder = lake_paths.parse_datastore_uri(summary["folder"])
        return world.lake.read_json(container, f"{folder}manifest.json")[0]

    first = manifest(world.curate())
    changed = deliveries(FIRST)
    changed[0]["units"] = 11
    version = world.put("deliveries", FIRST, changed, file="correction.csv")
    second = manifest(world.curate())
    pins = second["pins"]["deliveries"]
    assert {week for week, pinned in pins.items() if first["pins"]["deliveries"][week] != pinned} == {str(FIRST)}
    assert pins[str(FIRST)] == version
    assert {key for key in second["pins"] if second["pins"][key] != first["pins"][key]} == {"deliveries"}
    assert first["raw_files"][str(FIRST)] == "raw.csv"
    assert second["raw_files"] == first["raw_files"] | {str(FIRST): "correction.csv"}


def test_a_back_fill_uses_what_was_known_then(world: CurateWorld) -> None:
    before = world.curate(as_of="2017-02-01")
    late = deliveries(FIRST)
    late[0]["units"] = 99
    world.put("deliveries", FIRST, late, ended_at="2017-03-01")
    assert world.curate(as_of="2017-02-01")["as_of_version"] == before["as_of_version"]
    after = world.curate(as_of="2017-03-02")
    assert after["as_of_version"] != before["as_of_version"]
    assert world.table(after, "deliveries")[0]["units"] == "101.0000"


def test_bytes_that_differ_from_their_manifest_stop_the_run(world: CurateWorld) -> None:
    version = world.put("deliveries", FIRST, deliveries(FIRST))
    path = lake_paths.conditioned_data("deliveries", FIRST, version)
    world.lake.write("conditioned", path, world.lake.read("conditioned", path).data.replace(b",10,", b",19,"))
    with pytest.raises(IntegrityError, match=version):
        world.curate()


def test_nothing_to_curate_is_a_closed_gate(lake: BlobLake) -> None:
    with pytest.raises(GateClosed):
        CurateWorld(lake, Scenario.from_dict(SCENARIO)).curate()


def test_a_region_that_the_scenario_lacks_is_named(world: CurateWorld) -> None:
    world.put("stores", FIRST, [{"store_id": "S1", "region": "r99", "store_format": "large", "zip": "", "opened_on": "",
                                 "closed_on": ""}])
    with pytest.raises(IntegrityError, match="r99-large"):
        world.curate()


def test_the_horizon_knows_weather_forecasts_only_and_the_past_what_was_measured(world: CurateWorld) -> None:
    def days(week: SalesWeek, **more: str) -> list[dict[str, object]]:
        return [more | {"zip": "60001", "date": week.monday.isoformat(), "tmax_c": 10, "tmin_c": 1, "precip_mm": 2,
                        "snow_mm": 0, "wind_ms": 3}]

    for week in (RUN_WEEK.plus(-1), RUN_WEEK):
        world.put("weather_history", week, days(week))
        world.put("weather_forecast", week, days(week, issued_on=week.plus(-1).sunday.isoformat()))
    rows = {(row["sales_week"], row["origin"]) for row in world.table(world.curate(), "weather")}
    assert rows == {(str(RUN_WEEK.plus(-1)), "history"), (str(RUN_WEEK), "forecast")}


def test_events_count_their_days_in_each_week_and_end_at_the_horizon(world: CurateWorld) -> None:
    world.put("special_events", FIRST, [{
        "event_id": "E", "name": "Campaign", "kind": "campaign", "start_date": RUN_WEEK.plus(-1).sunday.isoformat(),
        "end_date": RUN_WEEK.plus(3).sunday.isoformat(), "region": "",
    }])
    rows = [(row["sales_week"], row["days"]) for row in world.table(world.curate(), "special_events")]
    assert rows == [(str(RUN_WEEK.plus(-1)), "1"), (str(RUN_WEEK), "7")]
