"""The local testing data set: what is checked in is what the generator makes, and it is all that it says."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import statistics
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import icalendar
import pytest
from python_calamine import load_workbook
from pyx12.x12file import X12Reader

from domain.sales_weeks import SalesWeek
from domain.segments import Segment, velocity_of_products
from samples.local_testing import climate, demand
from samples.local_testing.__main__ import main
from samples.local_testing.dataset import DATA, drops, expected_json
from samples.local_testing.faults import Dropped
from samples.local_testing.weather_files import stations_csv
from samples.local_testing.world import (
    FIRST_WEEK,
    LAST_HISTORY_WEEK,
    LAST_WEEK,
    WEEKS,
    events,
    hashed_id,
    products,
    promotions,
    regions,
    stores,
)

SOURCES = {
    "deliveries", "returns", "weather_history", "weather_forecast", "shoppers", "special_events", "stores", "products",
    "promotions",
}  # fmt: skip
LIMIT = 3_000_000  # bytes; the repository's own limit is 5 MB


@pytest.fixture(scope="module")
def generated() -> list[Dropped]:
    return drops()


@pytest.fixture(scope="module")
def expected() -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = json.loads((DATA / "expected.json").read_text())
    return found


def checked_in(source: str, week: str) -> Path:
    (path,) = (DATA / source / week).iterdir()
    return path


def content(path: Path | str, data: bytes) -> object:
    """Return what a file says, without what a compressor of another version may say differently."""
    name = str(path)
    if name.endswith(".gz"):
        return gzip.decompress(data)
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {member: archive.read(member) for member in archive.namelist()}
    if name.endswith(".xlsx"):
        book = load_workbook(io.BytesIO(data))
        return {sheet: book.get_sheet_by_name(sheet).to_python() for sheet in book.sheet_names}
    return data


def test_the_checked_in_files_are_what_the_generator_makes(generated: list[Dropped]) -> None:
    made = {dropped.raw.path: dropped.raw.data for dropped in generated}
    made |= {"stations.csv": stations_csv(), "expected.json": expected_json(generated)}
    there = {path.relative_to(DATA).as_posix(): path for path in DATA.rglob("*") if path.is_file()}
    assert sorted(there) == sorted(made)
    differing = [name for name, data in made.items() if content(name, there[name].read_bytes()) != content(name, data)]
    assert not differing, "run `python -m samples.local_testing` and look at what changed"


def test_the_data_set_is_small() -> None:
    sizes = [path.stat().st_size for path in DATA.rglob("*") if path.is_file()]
    assert sum(sizes) < LIMIT


def test_every_source_comes_and_the_weeks_are_complete(expected: dict[str, Any]) -> None:
    assert set(expected) == SOURCES
    weeks = [str(week) for week in WEEKS]
    assert list(expected["deliveries"]) == list(expected["returns"]) == list(expected["weather_history"]) == weeks
    assert list(expected["promotions"]) == [*weeks, "2017-W47", "2017-W48"]
    assert LAST_HISTORY_WEEK.weeks_since(FIRST_WEEK) + 1 == 32
    assert LAST_HISTORY_WEEK.plus(2) == LAST_WEEK
    for source in ("stores", "products", "shoppers", "special_events"):
        assert next(iter(expected[source])) == str(FIRST_WEEK)  # any week from the first can be run


def test_every_segment_has_ten_series() -> None:
    sold = {product.product_id: 0 for product in products()}
    for week in WEEKS:
        for (_, product_id), units in demand.units_of(week).items():
            sold[product_id] += units
    velocity = velocity_of_products({product_id: float(units) for product_id, units in sold.items()})
    assert [velocity[product.product_id] for product in products()] == ["fast"] * 5 + ["slow"] * 5
    series = Counter(
        Segment(store.region.name, store.store_format, velocity[product.product_id])
        for store in stores()
        for product in products()
    )
    assert len(series) == 14 * 2 * 2
    assert set(series.values()) == {10}


def test_every_file_says_what_is_wrong_in_it_and_it_is_little(generated: list[Dropped]) -> None:
    for dropped in generated:
        wrong = sum(dropped.faults.values()) - dropped.faults.get("duplicate", 0)
        assert 1 <= wrong <= 0.05 * dropped.records, dropped.raw.path


# --- the rows themselves, read with other means than ours ---------------------------------------------------------


def delivery_rows(path: Path) -> Iterator[tuple[str, str, str, str, int]]:
    """Yield (store, department, product, day, units) of a delivery file in any of its dialects."""
    data = path.read_bytes()
    if path.name.endswith(".txt.gz"):
        for row in csv.reader(gzip.decompress(data).decode("cp1252").splitlines()[1:], delimiter="|"):
            yield row[0], row[2], row[3], _iso(row[4], "%m/%d/%Y"), int(row[5])
    elif path.suffix == ".csv":
        for row in csv.reader(data.decode("utf-8-sig").splitlines()[1:], delimiter=";"):
            units = float(row[5].replace(".", "").replace(",", "."))
            yield row[0], row[2], row[3], _iso(row[4], "%d.%m.%Y"), int(units)
    elif path.suffix == ".dat":
        for line in data.decode("ascii").splitlines():
            assert len(line) == 66
            day = _iso(line[42:50], "%Y%m%d")
            yield line[0:6], line[24:36].strip(), line[36:42].strip(), day, int(line[50:57])
    elif path.suffix == ".xlsx":
        for row in load_workbook(path).get_sheet_by_name("Deliveries").to_python()[1:]:
            yield str(row[0]), str(row[2]), str(row[3]), str(row[4])[:10], int(float(str(row[5])))
    else:
        with zipfile.ZipFile(path) as archive:
            text = archive.read(archive.namelist()[0]).decode()
        for row in csv.reader(text.splitlines()[1:]):
            yield row[0], row[2], row[3], _iso(row[4], "%Y-%m-%d"), int(row[5])


def _iso(text: str, pattern: str) -> str:
    try:
        return datetime.strptime(text, pattern).date().isoformat()
    except ValueError:
        return ""


def test_the_good_delivery_rows_of_every_dialect_are_the_units_that_were_drawn(expected: dict[str, Any]) -> None:
    known = {store.store_id for store in stores()}
    suffixes = set()
    for week in WEEKS:
        path = checked_in("deliveries", str(week))
        suffixes.add("".join(path.suffixes[-1:]))
        rows = list(delivery_rows(path))
        assert len(rows) == expected["deliveries"][str(week)]["records"]
        sums: Counter[tuple[str, str]] = Counter()
        last = rows.pop()
        assert last in rows  # the duplicate
        for store_id, department, product_id, day, units in rows:
            good = store_id in known and product_id and units > 0 and department not in ("FUEL", "COUPON")
            if good and day[:4] == "2017":
                assert week.holds(date.fromisoformat(day))
                sums[store_id, product_id] += units
        assert sums == Counter({key: units for key, units in demand.units_of(week).items() if units})
    assert suffixes == {".gz", ".csv", ".dat", ".xlsx", ".zip"}


def test_the_returns_interchange_is_sound_x12(expected: dict[str, Any]) -> None:
    path = checked_in("returns", "2017-W30")
    reader = X12Reader(io.StringIO(path.read_text()))
    lines, totals, documents = [], [], []
    for segment in reader:
        if segment.get_seg_id() == "G82":
            documents.append(segment.get_value("G8202"))
            lines.append([])
        elif segment.get_seg_id() == "G83":
            lines[-1].append((int(segment.get_value("G8302")), round(float(segment.get_value("G8308")) * 100)))
        elif segment.get_seg_id() == "G84":
            totals.append((int(segment.get_value("G8401")), int(segment.get_value("G8402"))))
    assert reader.pop_errors() == []
    assert len(set(documents)) == len(documents)
    assert sum(map(len, lines)) == expected["returns"]["2017-W30"]["records"]
    for document, (units, cents) in zip(lines, totals, strict=True):
        assert sum(quantity for quantity, _ in document) == units
        assert sum(quantity * price for quantity, price in document) == cents


def test_returns_in_every_dialect_have_the_declared_number_of_rows(expected: dict[str, Any]) -> None:
    for week in WEEKS:
        path = checked_in("returns", str(week))
        if path.suffix == ".gz":
            count = len(gzip.decompress(path.read_bytes()).splitlines()) - 1
        elif path.suffix == ".xlsx":
            count = len(load_workbook(path).get_sheet_by_index(0).to_python()) - 1
        else:
            continue
        assert count == expected["returns"][str(week)]["records"]


def test_weather_values_are_the_weather_in_the_units_of_ghcn() -> None:
    region = regions()[3]
    text = gzip.decompress(checked_in("weather_history", "2017-W33").read_bytes()).decode()
    rows = [row for row in csv.reader(text.splitlines()) if row[0] == region.station_id and row[2] == "TMAX"]
    seen = climate.history(region)
    assert len(rows) >= 7
    for _, day, _, value, *_ in rows[:7]:
        assert int(value) == round(seen[datetime.strptime(day, "%Y%m%d").date()].high * 10)


def test_dly_records_have_269_characters_and_one_value_a_day_of_the_week() -> None:
    lines = checked_in("weather_history", "2017-W20").read_text().splitlines()
    assert {len(line) for line in lines} == {269}
    week = SalesWeek(2017, 20)
    for line in lines[:-1]:
        days = {place + 1 for place in range(31) if line[21 + 8 * place : 26 + 8 * place] != "-9999"}
        assert days <= {(week.monday + timedelta(days=offset)).day for offset in range(7)}
        assert len(days) >= 6


def test_forecasts_are_issued_before_their_week_and_are_not_the_truth() -> None:
    errors = []
    for week in (week for week in WEEKS if week >= SalesWeek(2017, 40) and week.week != 42):
        answers = json.loads(gzip.decompress(checked_in("weather_forecast", str(week)).read_bytes()))
        assert {answer["zip"] for answer in answers} == {region.zip_code for region in regions()}
        for answer, region in zip(answers, regions(), strict=True):
            assert date.fromisoformat(answer["issued_at"][:10]) < week.monday
            days = [date.fromisoformat(text) for text in answer["daily"]["time"]]
            assert days == [week.monday + timedelta(days=offset) for offset in range(14)]
            if answer["daily_units"]["temperature_2m_max"] == "°C":
                pairs = zip(days, answer["daily"]["temperature_2m_max"], strict=True)
                errors += [high - climate.history(region)[day].high for day, high in pairs if high != 999.0]
    assert 0.5 < statistics.pstdev(errors) < 4.0
    assert abs(statistics.mean(errors)) < 0.3


def test_the_weather_service_file_covers_every_day_without_gap() -> None:
    document = json.loads(checked_in("weather_forecast", "2017-W42").read_text())
    assert len(document["features"]) == 14
    for feature in document["features"]:
        layer = feature["properties"]["quantitativePrecipitation"]
        assert layer["uom"] == "wmoUnit:mm"
        starts = [datetime.fromisoformat(entry["validTime"].split("/")[0]) for entry in layer["values"]]
        assert {later - earlier for earlier, later in pairwise(starts)} == {timedelta(hours=6)}
        assert len(starts) == 14 * 4


def test_both_event_files_tell_the_same_events() -> None:
    calendar = icalendar.Calendar.from_ical(checked_in("special_events", "2017-W13").read_bytes())
    names = {str(event["UID"]): str(event["SUMMARY"]) for event in calendar.walk("VEVENT")}
    assert {event.event_id: event.name for event in events()}.items() <= names.items()
    rows = list(csv.DictReader(checked_in("special_events", "2017-W31").read_text().splitlines()))
    assert {event.event_id: event.name for event in events()}.items() <= {
        row["event_id"]: row["name"] for row in rows
    }.items()


def test_promotions_are_planned_and_move_the_units() -> None:
    with_, without = [], []
    for week in WEEKS:
        promoted = promotions(week)
        for product in products()[:5]:
            for store in stores():
                key = (store.store_id, product.product_id)
                ratio = demand.units_of(week)[key] / (product.level * store.size)
                (with_ if promoted.get(key, (0, 0))[0] >= 75 else without).append(ratio)
    assert statistics.mean(with_) > 1.3 * statistics.mean(without)


def test_a_model_that_knows_the_causes_beats_the_history_average() -> None:
    history = [week for week in WEEKS if week <= LAST_HISTORY_WEEK]
    fast = {product.product_id for product in products()[:5]}
    knowing: dict[bool, list[float]] = defaultdict(list)
    average: dict[bool, list[float]] = defaultdict(list)
    for store in stores():
        for product in products():
            key = (store.store_id, product.product_id)
            mean = statistics.mean(demand.units_of(week)[key] for week in history)
            for week in (LAST_HISTORY_WEEK.plus(1), LAST_WEEK):
                units = demand.units_of(week)[key]
                if units:
                    group = product.product_id in fast
                    knowing[group].append(abs(demand.expected_units(store, product, week) - units) / units)
                    average[group].append(abs(mean - units) / units)
    assert statistics.mean(knowing[True]) < 0.25  # far under the mission's 0.45: there is something to learn
    assert statistics.mean(knowing[False]) < 0.45
    assert statistics.mean(knowing[True]) < 0.6 * statistics.mean(average[True])


# --- obfuscation -----------------------------------------------------------------------------------------------------


def test_ids_are_one_way_and_invented() -> None:
    assert all(re.fullmatch(r"S\d{5}", store.store_id) for store in stores())
    assert all(re.fullmatch(r"P\d{5}", product.product_id) for product in products())
    assert all(region.zip_code.startswith("000") for region in regions())
    assert len({store.store_id for store in stores()}) == 56
    # The id is a hash: neither region nor format nor order can be read from it.
    by_id = [store.region.name for store in sorted(stores(), key=lambda store: store.store_id)]
    assert by_id != sorted(by_id)
    assert hashed_id("S", 5, "x", set()) == hashed_id("S", 5, "x", set())


def test_a_clash_of_ids_takes_the_next_hash() -> None:
    taken: set[str] = set()
    found = [hashed_id("", 1, f"name {number}", taken) for number in range(9)]
    assert sorted(found) == list("123456789")


def test_no_file_holds_a_name_number_or_address_of_anybody() -> None:
    forbidden = re.compile(rb"[\w.]+@[\w.]+\.\w+|https?://|\b\d{3}-\d{2}-\d{4}\b|\(\d{3}\) ?\d{3}-\d{4}")
    for path in DATA.rglob("*"):
        if path.is_file():
            text = content(path, path.read_bytes())
            data = text if isinstance(text, bytes) else repr(text).encode()
            assert not forbidden.search(data), path


def test_the_command_writes_the_same_files_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stale = tmp_path / "returns" / "2016-W01" / "old.csv"
    stale.parent.mkdir(parents=True)
    stale.write_text("old")
    assert main(["--out", str(tmp_path)]) == 0
    assert not stale.exists()
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == len(drops()) + 2
    assert "weather_forecast" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_an_error_of_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["--out", str(tmp_path / "file")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
