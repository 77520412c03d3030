"""Another business, or a larger one, is configuration: a scenario file and column maps, on the same code.

Each test copies the product, changes only configuration files in the copy (a source is a module besides), and runs it
from raw files to forecasts, or to the gate that a run waits at.
"""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.lake import BlobLake
from domain import lake_paths
from domain.sales_weeks import SalesWeek

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("adapters", "conditioning", "config", "domain", "ml_jobs", "orchestrators")
FILES = ("bootstrap.py", "settings.py", "http_api.py")
WEEK = SalesWeek.parse("2017-W45")
WEEKS = 30

CONDITION_AND_CURATE = """
import json, sys
from bootstrap import services
from conditioning.curate import curate_week
from conditioning.service import ConditionRequest, condition_source
found = services()
outcomes = {}
for source in ("stores", "products", "deliveries"):
    wish = {"source": source, "sales_week": sys.argv[1], "correlation_id": "c", "reason": "test"}
    outcomes[source] = condition_source(found, ConditionRequest.from_dict(wish))
summary = curate_week(found, {"sales_week": sys.argv[1]})
segments = [segment.key for segment in found.scenario.segments()]
baselines = [segment.key for segment in found.scenario.baselines()]
print(json.dumps({"outcomes": outcomes, "summary": summary, "segments": segments, "baselines": baselines}))
"""

GATE_BEFORE_AND_AFTER = """
import json, sys
from bootstrap import services
from conditioning.gate import data_gate
from conditioning.service import ConditionRequest, condition_source
from conditioning.quality import sources_overview
from domain.sales_weeks import SalesWeek
found, name, run_week = services(), sys.argv[1], SalesWeek.parse(sys.argv[2])
before = data_gate(found.lake, found.scenario, run_week)
wish = {"source": name, "sales_week": str(run_week.plus(-1)), "correlation_id": "c", "reason": "test"}
outcome = condition_source(found, ConditionRequest.from_dict(wish))
after = data_gate(found.lake, found.scenario, run_week)
shown = [source["name"] for source in sources_overview(found)]
print(json.dumps({"before": before, "outcome": outcome, "after": after, "shown": shown}))
"""


def copy_of_the_product(folder: Path) -> Path:
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    return folder


def scenario(copy: Path, **changes: Any) -> None:
    document = json.loads((copy / "config" / "scenario.json").read_text("utf-8"))
    document["sources"] = {name: document["sources"][name] for name in ("deliveries", "stores", "products")}
    (copy / "config" / "scenario.json").write_text(json.dumps(document | changes))


def remap(copy: Path, source: str, names: list[str]) -> None:
    """Give the columns of a source's comma-separated files other names, in their order."""
    path = copy / "conditioning" / "column_maps" / f"{source}.csv"
    given = iter(names)
    lines = [line.split(",") for line in path.read_text("utf-8").splitlines()]
    renamed = [[line[0], next(given), *line[2:]] if line[0] == "comma" else line for line in lines]
    path.write_text("\n".join([",".join(line) for line in renamed] + [""]), "utf-8")


def python(copy: Path, lake_connection: str, *words: str) -> str:
    environment = {
        **os.environ,
        "LAKE": lake_connection,
        "PYTHONPATH": str(copy),
        "TELEMETRY_BACKEND": "none",
        "DATA_DIR": str(copy / "local"),
        "SCENARIO_FILE": "config/scenario.json",
    }
    done = subprocess.run(
        [sys.executable, *words], cwd=copy, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def as_csv(header: str, rows: Iterable[Iterable[object]]) -> bytes:
    return "\n".join([header, *(",".join(map(str, row)) for row in rows), ""]).encode()


def land(lake: BlobLake, places: list[tuple[str, str, str]], things: list[str], headers: dict[str, str]) -> None:
    """Thirty weeks of sales, with a rhythm, a level a place and a level a thing."""
    random.seed(7)
    week = WEEK.plus(-WEEKS)
    stores = ((place, region, kind, "", "", "") for place, region, kind in places)
    lake.write(lake_paths.LANDING, f"stores/{week}/stores.csv", as_csv(headers["stores"], stores))
    products = ((thing, f"thing {thing}", "general", "all", "own", 1) for thing in things)
    lake.write(lake_paths.LANDING, f"products/{week}/products.csv", as_csv(headers["products"], products))
    for number in range(WEEKS):
        week = WEEK.plus(number - WEEKS)
        day = (week.monday + timedelta(days=2)).isoformat()
        rows = [
            (
                place,
                f"D{number}{place}",
                "general",
                thing,
                day,
                round(12 * (1 + i % 3) * (1 + j) * random.uniform(0.9, 1.1)),
                0,
            )
            for i, (place, _, _) in enumerate(places)
            for j, thing in enumerate(things)
        ]
        lake.write(lake_paths.LANDING, f"deliveries/{week}/sold.csv", as_csv(headers["deliveries"], rows))


def forecasts(copy: Path, lake: BlobLake, connection: str, folder: str, keys: str) -> list[dict[str, str]]:
    container, prefix = lake_paths.parse_datastore_uri(folder)
    data = copy / "curated"
    data.mkdir()
    for blob in lake.list(container, prefix):
        (data / Path(blob.path).name).write_bytes(lake.read(container, blob.path).data)
    shared = ("--data", str(data), "--segments", keys)
    python(
        copy,
        connection,
        "-m",
        "ml_jobs.train",
        *shared,
        "--out",
        str(copy / "models"),
        "--cutoff",
        str(WEEK.plus(-1)),
        "--effort",
        "quick",
    )
    out = copy / "forecasts.csv"
    python(
        copy,
        connection,
        "-m",
        "ml_jobs.score",
        *shared,
        "--models",
        str(copy / "models"),
        "--week",
        str(WEEK),
        "--out",
        str(out),
    )
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.long
def test_bike_rentals_run_on_the_same_code(tmp_path: Path, azurite: str, lake: BlobLake) -> None:
    copy = copy_of_the_product(tmp_path)
    scenario(
        copy,
        name="bike rentals",
        regions=["north", "south"],
        store_formats=["dock", "kerb"],
        velocities=["fast", "slow"],
    )
    remap(copy, "deliveries", ["station", "ledger", "kind", "bike", "day", "rentals", "fees"])
    remap(copy, "stores", ["station", "district", "parking", "postcode", "since", "until"])
    stations = [(f"B{n:05d}", ("north", "south")[n % 2], ("dock", "kerb")[n // 2 % 2]) for n in range(8)]
    headers = {
        "stores": "station,district,parking,postcode,since,until",
        "products": "ITEM_CD,ITEM_NAME,DEPARTMENT,CATEGORY,BRAND,PACK",
        "deliveries": "station,ledger,kind,bike,day,rentals,fees",
    }
    land(lake, stations, ["1001", "1002", "1003", "1004"], headers)
    found = json.loads(python(copy, azurite, "-c", CONDITION_AND_CURATE, str(WEEK)).splitlines()[-1])
    assert {name: one["status"] for name, one in found["outcomes"].items()} == dict.fromkeys(
        ("stores", "products", "deliveries"), "accepted"
    )
    assert len(found["segments"]) == 8 and "north-dock-fast" in found["segments"]
    rows = forecasts(
        copy, lake, azurite, found["summary"]["folder"], "north-dock-fast,north-dock-slow,north-dock-baseline"
    )
    scored = {(row["store_id"], row["product_id"]) for row in rows if row["kind"] == "ensemble"}
    docks = [station for station, district, parking in stations if (district, parking) == ("north", "dock")]
    assert scored == {(station, bike) for station in docks for bike in ("1001", "1002", "1003", "1004")}
    assert all(float(row["units"]) > 0 for row in rows)


@pytest.mark.long
def test_a_fifteenth_region_is_one_row_of_configuration(tmp_path: Path, azurite: str, lake: BlobLake) -> None:
    copy = copy_of_the_product(tmp_path)
    known = json.loads((ROOT / "config" / "scenario.json").read_text("utf-8"))["regions"]
    scenario(copy, regions=[*known, "r15"])
    headers = {
        "stores": "STORE_NBR,REGION,FORMAT,ZIP,OPENED,CLOSED",
        "products": "ITEM_CD,ITEM_NAME,DEPARTMENT,CATEGORY,BRAND,PACK",
        "deliveries": "store,document,department,item,delivered_on,units,amount",
    }
    stores = [("S00001", "r01", "large"), ("S00015", "r15", "large"), ("S00016", "r15", "large")]
    land(lake, stores, ["1001", "1002"], headers)
    found = json.loads(python(copy, azurite, "-c", CONDITION_AND_CURATE, str(WEEK)).splitlines()[-1])
    assert len(found["segments"]) == 60 and len(found["baselines"]) == 30
    rows = forecasts(
        copy, lake, azurite, found["summary"]["folder"], "r15-large-fast,r15-large-slow,r15-large-baseline"
    )
    assert {row["store_id"] for row in rows} == {"S00015", "S00016"}


@pytest.mark.long
def test_a_cluster_segmentation_is_configuration(tmp_path: Path, azurite: str, lake: BlobLake) -> None:
    """Stores belong to clusters that the provider names; they take the place of the formats in every segment."""
    copy = copy_of_the_product(tmp_path)
    scenario(copy, regions=["r01", "r02"], store_formats=["c1", "c2", "c3"])
    remap(copy, "stores", ["STORE_NBR", "REGION", "CLUSTER", "ZIP", "OPENED", "CLOSED"])
    headers = {
        "stores": "STORE_NBR,REGION,CLUSTER,ZIP,OPENED,CLOSED",
        "products": "ITEM_CD,ITEM_NAME,DEPARTMENT,CATEGORY,BRAND,PACK",
        "deliveries": "store,document,department,item,delivered_on,units,amount",
    }
    stores = [(f"S{n:05d}", ("r01", "r02")[n % 2], ("C1", "C2", "C3")[n // 2 % 3]) for n in range(12)]
    land(lake, stores, ["1001", "1002", "1003", "1004"], headers)
    found = json.loads(python(copy, azurite, "-c", CONDITION_AND_CURATE, str(WEEK)).splitlines()[-1])
    rows = forecasts(copy, lake, azurite, found["summary"]["folder"], "r01-c3-fast,r01-c3-slow,r01-c3-baseline")
    with (copy / "curated" / "pairs.csv").open(newline="") as file:
        assert {pair["segment"] for pair in csv.DictReader(file)} == set(found["segments"])
    assert len(found["segments"]) == 2 * 3 * 2
    scored = {row["store_id"] for row in rows if row["kind"] == "ensemble"}
    assert scored == {store for store, region, cluster in stores if (region, cluster) == ("r01", "C3")}
    assert {row["segment"] for row in rows} >= {"r01-c3-fast", "r01-c3-slow"}


@pytest.mark.long
def test_another_source_is_a_module_its_contract_and_map_and_a_row_that_the_gate_asks_for(
    tmp_path: Path, azurite: str, lake: BlobLake
) -> None:
    copy = copy_of_the_product(tmp_path)
    page = (ROOT / "docs" / "add-a-source.md").read_text("utf-8")
    raw, contract, column_map, module, _ = re.findall(r"```\w*\n(.*?)```", page, re.DOTALL)
    name = "competitor_prices"
    (copy / "conditioning" / "contracts" / f"{name}.json").write_text(contract)
    (copy / "conditioning" / "column_maps" / f"{name}.csv").write_text(column_map)
    (copy / "conditioning" / "sources" / f"{name}.py").write_text(module)
    row = {"cadence": "weekly", "required": True, "owner": "marketing", "origin": "public", "max_age_weeks": 1}
    scenario(copy, sources={name: row})
    lake.write(lake_paths.LANDING, f"{name}/{WEEK}/prices_{WEEK}.csv", raw.encode())
    told = json.loads(python(copy, azurite, "-c", GATE_BEFORE_AND_AFTER, name, str(WEEK.plus(1))).splitlines()[-1])
    assert not told["before"]["open"] and told["before"]["reasons"][0].startswith(f"{name}: nothing was conditioned")
    assert told["outcome"]["status"] == "accepted"
    assert told["after"]["open"] and told["after"]["sources"][name]["rows"] == 1
    assert name in told["shown"]
