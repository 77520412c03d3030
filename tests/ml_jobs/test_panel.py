"""Reading folders: accepted spellings, derived attributes, refusals that name the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.errors import BadRequest
from domain.sales_weeks import SalesWeek
from ml_jobs.forecasting.panel import read_panel
from ml_jobs.forecasting.scheme import Segments
from tests.ml_jobs.small_folder import CUTOFF, small_folder


def _write(folder: Path, text: str, name: str = "deliveries.csv") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder


def test_only_deliveries_are_needed(tmp_path: Path) -> None:
    rows = "".join(f"{store},{product},2015-W{week:02d},{units}\n" for week in range(1, 21)
                   for store, product, units in (("01", "a", 9), ("01", "b", 1.5), ("02", "a", 2)))
    panel = read_panel(_write(tmp_path, "store_id,product_id,sales_week,units\n" + rows), SalesWeek(2015, 20))
    assert panel.stores == ("01", "02")
    assert panel.label("region") == ["r01"] * 3
    assert panel.label("store_format") == ["large", "large", "small"]
    assert panel.label("velocity") == ["fast", "slow", "fast"]
    assert panel.units[1].tolist() == [1.5] * 20
    assert sorted(set(Segments.of(panel).keys.tolist())) == ["r01-large-fast", "r01-large-slow", "r01-small-fast"]


@pytest.mark.parametrize("column", ["week_start", "date", "week"])
def test_weeks_may_be_dates(tmp_path: Path, column: str) -> None:
    panel = read_panel(
        _write(tmp_path, f"store_id,product_id,{column},units\n1,a,2015-05-11,3\n1,a,2015-05-20,4\n"),
        SalesWeek(2015, 21),
    )
    assert str(panel.cutoff) == "2015-W21"
    assert panel.units.tolist() == [[3.0, 4.0]]


def test_gaps_are_zeros_and_weeks_before_the_first_delivery_are_not_part_of_a_series(tmp_path: Path) -> None:
    text = "store_id,product_id,sales_week,units\n1,a,2017-W01,3\n1,a,2017-W04,1\n2,a,2017-W03,5\n"
    panel = read_panel(_write(tmp_path, text), SalesWeek(2017, 5))
    assert panel.units.tolist() == [[3, 0, 0, 1, 0], [0, 0, 5, 0, 0]]
    assert panel.start.tolist() == [0, 2]


def test_what_comes_after_the_cutoff_is_not_read(tmp_path: Path) -> None:
    folder = small_folder(ahead=6).write(tmp_path)
    panel = read_panel(folder, CUTOFF.plus(-5))
    assert panel.weeks == 35
    assert panel.known.flags.shape[1] == 36
    assert panel.known.weather is not None
    assert not (panel.known.weather[:, 35:] == panel.known.weather[:, 35:]).any()  # measured weather: NaN only


def test_pairs_decides_what_is_active_when_it_is_there(tmp_path: Path) -> None:
    folder = small_folder().write(tmp_path)
    (folder / "pairs.csv").write_text(
        "store_id,product_id,segment,state\n001,p00,r01-large-fast,active\n001,p01,r01-large-fast,store_closed\n"
    )
    panel = read_panel(folder, CUTOFF)
    assert panel.active().sum() == 1
    assert panel.active(panel.weeks - 4).sum() > 1


@pytest.mark.parametrize(("text", "named"), [
    ("store_id,product_id,units\n1,a,2\n", "sales_week"),
    ("store_id,product_id,sales_week\n1,a,2017-W01\n", "units"),
    ("store_id,product_id,sales_week,units\n1,a,2017-W54,2\n", "2017-W54"),
    ("store_id,product_id,sales_week,units\n1,a,2017-W01,many\n", "units"),
    ("store_id,product_id,sales_week,units\n1,a,2017-W01,\n", "line 2"),
    ("store_id,product_id,sales_week,units\n1,a,2018-W01,2\n", "2017-W10"),
])
def test_unusable_deliveries_are_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(BadRequest, match=named) as caught:
        read_panel(_write(tmp_path, text), SalesWeek(2017, 10))
    assert caught.value.fields["remedy"]


def test_a_folder_without_deliveries_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"deliveries\.csv"):
        read_panel(tmp_path, SalesWeek(2017, 10))


def test_another_scheme_is_an_argument(tmp_path: Path) -> None:
    folder = small_folder()
    for row in folder.tables["stores"]:
        row["cluster"] = "c1" if row["store_id"] < "004" else "c2"
    panel = read_panel(folder.write(tmp_path), CUTOFF)
    clustered = Segments.of(panel, "cluster-velocity")
    assert sorted(set(clustered.keys.tolist())) == ["c1-fast", "c1-slow", "c2-fast", "c2-slow"]
    assert sorted(set(clustered.baselines.tolist())) == ["c1-baseline", "c2-baseline"]
    plan = clustered.plan(panel)
    assert sum(int(entry["series"]) for entry in plan.values()) == panel.series
    with pytest.raises(BadRequest, match="one model per"):
        Segments.of(panel, "region-product_id")
    with pytest.raises(BadRequest, match="planet"):
        Segments.of(panel, "planet-velocity")
