"""Other retailers' folders, plain CSVs and nothing else: each is trained and scored, or refused with the remedy."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest

from domain.sales_weeks import SalesWeek
from ml_jobs import score, train

HEADER = ("store_id", "product_id", "sales_week", "units")
FIRST, WEEKS = SalesWeek(2014, 20), 60
CUTOFF = FIRST.plus(WEEKS - 1)
Row = tuple[str, str, str, float]


def rows(*, stores: int = 4, products: int = 6, weeks: int = WEEKS, level: float = 5.0, first: SalesWeek = FIRST
         ) -> list[Row]:
    generator = np.random.default_rng(1)
    levels = level * generator.uniform(0.4, 1.8, (stores, products))
    units = generator.poisson(levels[:, :, None], (stores, products, weeks))
    return [(f"S{s}", f"P{p}", str(first.plus(w)), int(units[s, p, w])) for s in range(stores)
            for p in range(products) for w in range(weeks)]


def write(folder: Path, name: str, header: Sequence[str], records: Iterable[Sequence[object]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([header, *records])
    return folder


def forecasts(data: Path, work: Path, cutoff: SalesWeek = CUTOFF) -> dict[tuple[str, str], float]:
    """Train and score the week after the cutoff by the command lines."""
    models = str(work / "m")
    assert train.main(["--data", str(data), "--out", models, "--cutoff", str(cutoff), "--effort", "quick"]) == 0
    assert score.main(["--data", str(data), "--models", models, "--week", str(cutoff.plus(1)), "--out",
                       str(work / "f.csv")]) == 0
    with (work / "f.csv").open(encoding="utf-8", newline="") as handle:
        found = list(csv.DictReader(handle))
    assert {row["sales_week"] for row in found} == {str(cutoff.plus(1))}
    return {(row["store_id"], row["product_id"]): float(row["units"]) for row in found}


def _only_deliveries(folder: Path) -> int:
    write(folder, "deliveries.csv", HEADER, [row for row in rows() if row[3]])
    return 24


def _one_store(folder: Path) -> int:
    write(folder, "deliveries.csv", HEADER, rows(stores=1))
    return 6


def _one_series(folder: Path) -> int:
    write(folder, "deliveries.csv", HEADER, rows(stores=1, products=1))
    return 1


def _ids_of_any_text(folder: Path) -> int:
    write(folder, "deliveries.csv", HEADER, [(f'Köln "{s}"', f"007,{p}", w, u) for s, p, w, u in rows()])
    return 24


def _regions_of_any_text(folder: Path) -> int:
    write(folder, "deliveries.csv", HEADER, rows())
    write(folder, "stores.csv", ("store_id", "region", "store_format"),
          [(f"S{i}", ("../North-East / 1", "South")[i // 2], "big box") for i in range(4)])
    return 24


def _negative_units(folder: Path) -> int:
    write(folder, "deliveries.csv", HEADER, [(*row[:3], -row[3] if i % 17 == 0 else row[3])
                                             for i, row in enumerate(rows())])
    return 24


def _enormous_units(folder: Path) -> int:
    write(folder, "deliveries.csv", HEADER, [(*row[:3], row[3] * 10**9) for row in rows()])
    return 24


def _intermittent(folder: Path) -> int:
    records = [row for row in rows(stores=8, level=0.3) if row[3]]
    write(folder, "deliveries.csv", HEADER, records)
    return len({row[:2] for row in records})


def _always_the_same(folder: Path) -> int:
    write(folder, "deliveries.csv", HEADER, [(*row[:3], 4) for row in rows()])
    return 24


def _fractions(folder: Path) -> int:
    write(folder, "deliveries.csv", HEADER, [(*row[:3], row[3] * 0.37) for row in rows()])
    return 24


def _returns_larger_than_deliveries(folder: Path) -> int:
    write(folder, "deliveries.csv", HEADER, [*rows(), *((*row[:3], -2 * row[3]) for row in rows()[::5])])
    return 24


def _ten_years(folder: Path) -> int:
    write(folder, "deliveries.csv", HEADER, rows(stores=2, weeks=520, first=CUTOFF.plus(-519)))
    return 12


def _unsorted_with_more_columns_and_other_case(folder: Path) -> int:
    records = [("x, y", *row, 1.5, "f.csv", 3) for row in rows()]
    shuffled = [records[i] for i in np.random.default_rng(0).permutation(len(records))]
    write(folder, "deliveries.csv", ("Note", *(name.title() for name in HEADER), "Price", "source_file", "source_row"),
          shuffled)
    return 24


def _empty_optional_files(folder: Path) -> int:
    write(folder, "deliveries.csv", HEADER, rows())
    for name, header in (("stores", "store_id,region,store_format"), ("products", "product_id,category"),
                         ("promotions", "store_id,product_id,sales_week,display"), ("returns", ",".join(HEADER)),
                         ("special_events", "sales_week,event"), ("shoppers", "store_id,households"),
                         ("weather", "zip,sales_week,origin,tmax_c")):
        write(folder, f"{name}.csv", header.split(","), [])
    return 24


@pytest.mark.parametrize("make", [
    _only_deliveries, _one_store, _one_series, _ids_of_any_text, _regions_of_any_text, _negative_units, _enormous_units,
    _intermittent, _fractions, _returns_larger_than_deliveries, _ten_years, _always_the_same,
    _unsorted_with_more_columns_and_other_case, _empty_optional_files,
], ids=lambda make: make.__name__.strip("_"))
def test_every_pair_that_sold_is_forecast(make: Callable[[Path], int], tmp_path: Path) -> None:
    expected = make(tmp_path / "data")
    found = forecasts(tmp_path / "data", tmp_path)
    assert len(found) == expected
    assert all(np.isfinite(units) and units >= 0 for units in found.values())
    written = {path.parent.name for path in tmp_path.glob("m/*/MLmodel")}
    assert written
    assert {path.parent.name for path in tmp_path.rglob("MLmodel")} == written


@pytest.mark.parametrize("weeks", [1, 3, 8])
def test_a_short_history_gives_its_average(weeks: int, tmp_path: Path) -> None:
    records = rows(weeks=weeks)
    data = write(tmp_path / "data", "deliveries.csv", HEADER, records)
    found = forecasts(data, tmp_path, FIRST.plus(weeks - 1))
    for (store, product), units in found.items():
        own = [row[3] for row in records if row[:2] == (store, product)]
        assert units == pytest.approx(sum(own) / weeks, abs=1e-3)


def test_a_year_of_53_weeks(tmp_path: Path) -> None:
    data = write(tmp_path / "data", "deliveries.csv", HEADER, rows(first=SalesWeek(2015, 10), weeks=44))
    assert len(forecasts(data, tmp_path, SalesWeek(2015, 53))) == 24


def test_an_event_that_is_known_ahead_moves_the_forecast(tmp_path: Path) -> None:
    """Demand doubles in event weeks; the flag is a word, and the coming week is one of them or not."""
    weeks = [str(FIRST.plus(i)) for i in range(WEEKS + 1)]
    records = [(*row[:3], row[3] * (2 if weeks.index(row[2]) % 5 == 0 else 1)) for row in rows(products=10)]
    found = []
    for name, coming in (("with", "yes"), ("without", "no")):
        data = write(tmp_path / name, "deliveries.csv", HEADER, records)
        write(data, "events.csv", ("sales_week", "fair"),
              [(week, "yes" if i % 5 == 0 else "no") for i, week in enumerate(weeks[:-1])] + [(weeks[-1], coming)])
        found.append(sum(forecasts(data, tmp_path / f"work-{name}").values()))
    assert found[0] > 1.2 * found[1]


def test_a_week_whose_file_never_came_is_not_demand(tmp_path: Path) -> None:
    lost = {str(FIRST.plus(WEEKS - back)) for back in (2, 3, 4)}
    whole = write(tmp_path / "whole", "deliveries.csv", HEADER, rows())
    holes = write(tmp_path / "holes", "deliveries.csv", HEADER, [row for row in rows() if row[2] not in lost])
    before = sum(forecasts(whole, tmp_path / "a").values())
    assert sum(forecasts(holes, tmp_path / "b").values()) == pytest.approx(before, rel=0.15)


def test_the_conditioned_files_are_read_as_they_are(tmp_path: Path) -> None:
    """Contract form: dated deliveries, events from day to day, daily weather with the day of issue."""
    data = write(tmp_path, "deliveries.csv", ("document_id", "store_id", "product_id", "delivery_date", "units"),
                 [("d1", store, product, SalesWeek.parse(week).monday.isoformat(), units)
                  for store, product, week, units in rows()])
    write(data, "stores.csv", ("store_id", "region", "zip"), [(f"S{i}", "r01", "90001") for i in range(4)])
    write(data, "special_events.csv", ("event_id", "name", "kind", "start_date", "end_date", "region"),
          [(f"e{i}", "fair", "campaign", FIRST.plus(i).monday.isoformat(), FIRST.plus(i).sunday.isoformat(), "")
           for i in range(0, WEEKS + 1, 4)])
    write(data, "weather_history.csv", ("zip", "date", "tmax_c", "precip_mm"),
          [("90001", FIRST.plus(i).monday.isoformat(), 10, 2) for i in range(WEEKS)]
          + [("90001", FIRST.plus(i).sunday.isoformat(), 20, 3) for i in range(WEEKS)])
    after = CUTOFF.plus(1)
    write(data, "weather_forecast.csv", ("zip", "issued_on", "date", "tmax_c", "precip_mm"),
          [("90001", day.isoformat(), after.monday.isoformat(), tmax, 1)
           for day, tmax in ((CUTOFF.monday, 1), (CUTOFF.sunday, 25), (after.monday, 99))])
    from ml_jobs.forecasting.panel import read_panel

    panel = read_panel(data, CUTOFF)
    known = panel.known
    assert known.event_names == ("all:all", "kind:campaign", "event:fair")
    assert known.events[0, 4].tolist() == [7, 7, 7]
    assert known.events[0, 5].tolist() == [0, 0, 0]
    assert known.weather is not None
    assert known.weather_ahead is not None
    assert known.weather[0, 0, :3].tolist()[0] == 15
    assert known.weather[0, 0, 2] == 5
    assert known.weather_ahead[0, -1, 0] == 25


@pytest.mark.parametrize(("text", "named"), [
    ("store_id;product_id;sales_week;units\n1;a;2015-W01;2\n", "not separated by commas"),
    ("store_id,product_id,sales_week,units,Units\n1,a,2015-W01,2,3\n", "a column twice: units"),
    ("store_id,product_id,sales_week,units\n", "no row up to"),
    ("", "deliveries.csv"),
])
def test_a_file_that_cannot_be_read_is_refused(text: str, named: str, tmp_path: Path,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "deliveries.csv").write_text(text)
    assert train.main(["--data", str(tmp_path), "--out", str(tmp_path / "m"), "--cutoff", str(CUTOFF)]) == 1
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(("records", "named"), [
    (rows(weeks=WEEKS - 1), "ends with 2015-W26, before the last week of history, 2015-W27"),
    ([("S0", "P0", str(FIRST.plus(-80)), 3.0), *rows()], "no row for 79 weeks after 2012-W44"),
], ids=["the last week", "a mistyped year"])
def test_missing_weeks_are_refused_where_they_matter(
    records: list[Row], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data", "deliveries.csv", HEADER, records)
    assert train.main(["--data", str(data), "--out", str(tmp_path / "m"), "--cutoff", str(CUTOFF)]) == 1
    assert named in capsys.readouterr().err


def test_a_realistic_retailer_is_forecast_better_than_by_its_average(tmp_path: Path) -> None:
    """Levels that drift, promotions that lift, noise of counts: the ensemble must win over every week's mean."""
    generator = np.random.default_rng(5)
    stores, products = 6, 20
    drift = np.exp(np.cumsum(generator.normal(0, 0.06, (stores, products, WEEKS + 1)), axis=2))
    promoted = generator.random((stores, products, WEEKS + 1)) < 0.12
    mean = generator.lognormal(1.5, 0.8, (stores, products, 1)) * drift * np.where(promoted, 1.8, 1.0)
    units = generator.poisson(mean)
    names = [[(f"S{s}", f"P{p:02d}") for p in range(products)] for s in range(stores)]
    weeks = [str(FIRST.plus(i)) for i in range(WEEKS + 1)]
    data = write(tmp_path / "data", "deliveries.csv", HEADER,
                 [(*names[s][p], weeks[w], units[s, p, w]) for s, p, w in np.argwhere(units[:, :, :-1] > 0)])
    write(data, "promotions.csv", ("store_id", "product_id", "sales_week", "promo_flag"),
          [(*names[s][p], weeks[w], 1) for s, p, w in np.argwhere(promoted)])
    found = forecasts(data, tmp_path)
    actual = units[:, :, -1]
    ours = np.array([[found[name] for name in row] for row in names])
    average = units[:, :, :-1].mean(axis=2)
    assert np.abs(ours - actual).sum() < 0.9 * np.abs(average - actual).sum()
