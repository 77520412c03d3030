"""Reading folders: accepted spellings, derived attributes, refusals that name the remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from domain.assortment import ACTIVE
from domain.errors import BadRequest
from domain.sales_weeks import SalesWeek
from ml_jobs.forecasting import features, rows
from ml_jobs.forecasting.panel import ACTIVITY, read_panel
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
    everything = np.arange(panel.series)
    was = panel.was_active(everything)
    for week in (0, 1, 9, 30, panel.weeks):
        sold = panel.units[:, :week] > 0
        idle = np.argmax(np.column_stack([sold[:, ::-1], np.ones(panel.series, dtype=bool)]), axis=1) + 1
        states = [
            ACTIVITY.state(selling_weeks=int(sold[own].sum()), weeks_since_last_sale=int(idle[own]),
                           weeks_of_history=week, store_open=True) for own in everything
        ]
        assert was[:, week].tolist() == [week > 0 and state == ACTIVE for state in states]


def test_nothing_is_learned_from_weeks_in_which_a_series_would_not_have_been_forecast(tmp_path: Path) -> None:
    folder = small_folder().write(tmp_path)
    (folder / "pairs.csv").write_text("store_id,product_id,segment,state\n001,p00,r01-large-fast,active\n")
    rare = "001,p11"
    lines = (folder / "deliveries.csv").read_text().splitlines()
    own = [line for line in lines if line.startswith(rare)]
    (folder / "deliveries.csv").write_text("\n".join([*(x for x in lines if x not in own[3:]), ""]))
    panel = read_panel(folder, CUTOFF)
    everything = np.arange(panel.series)
    found = rows.collect(panel, features.Groups(panel), everything)
    assert found.complete
    assert panel.was_active(everything)[found.series, found.week].all()
    pair = [f"{panel.stores[s]},{panel.products[p]}" for s, p in zip(panel.store_of, panel.product_of, strict=True)]
    taught = found.week[found.series == pair.index(rare)]
    assert len(taught) < 12 < (found.series == pair.index("001,p00")).sum()


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
