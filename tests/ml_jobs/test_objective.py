"""What a training minimises: WAPE plus a share of MAPE, row by row; and forecasts in whole units."""

from __future__ import annotations

import numpy as np
import pytest

from domain.metrics import mape, wape
from ml_jobs.forecasting.evaluation import cost, tally_arrays
from ml_jobs.forecasting.objective import (
    BASE_RATE,
    LARGEST_SHARE,
    RATES,
    UNDECIDED,
    objective,
    percentage_rate,
    row_costs,
    to_units,
    typical_sale,
)


def test_the_costs_of_all_rows_are_wape_and_its_share_of_mape() -> None:
    generator = np.random.default_rng(2)
    actual, forecast = generator.poisson(2.0, 500).astype(float), generator.gamma(2.0, 1.0, 500)
    total = tally_arrays(actual, forecast)
    expected = (wape(total) or 0) + 0.15 * (mape(total) or 0)
    costs = row_costs(actual, typical_sale(actual), 0.15)
    assert objective(actual, forecast, costs) == pytest.approx(expected, rel=1e-9)
    assert cost(total, 0.15) == pytest.approx(expected, rel=1e-9)


def test_one_accident_in_a_large_series_costs_no_more_than_a_bounded_share() -> None:
    costs = row_costs(np.array([1.0, 5_000.0, 0.0]), 5_000.0, 0.1)
    assert costs == pytest.approx([1 + 0.1 * LARGEST_SHARE, 1.1, 1.0])


def test_a_percentage_point_is_worth_more_where_few_large_series_carry_the_volume() -> None:
    alike, usual = np.array([4.0, 6.0, 5.0, 0.0]), np.array([5.0, 5.0, 5.0, 0.0])
    skewed, usual_skewed = np.array([1.0, 2.0, 3.0, 500.0]), np.array([2.0, 1.0, 1.0, 510.0])
    assert percentage_rate(alike, usual) == pytest.approx(BASE_RATE * ((1 / 4 + 1 / 6) / 3) / (2 / 15))
    assert percentage_rate(skewed, usual_skewed) == RATES[1]
    assert percentage_rate(np.array([100.0, 0.0]), np.array([100.0001, 900.0])) == RATES[0]


def test_without_an_error_or_a_sale_the_rate_is_the_base() -> None:
    assert percentage_rate(np.array([2.0, 0.0]), np.array([2.0, 3.0])) == BASE_RATE
    assert percentage_rate(np.zeros(2), np.ones(2)) == BASE_RATE
    assert percentage_rate(np.zeros(0), np.zeros(0)) == BASE_RATE


def test_where_nothing_was_sold_the_mean_error_counts() -> None:
    nothing = np.zeros(4)
    assert typical_sale(nothing) == 1.0
    assert objective(nothing, np.array([0.0, 1.0, 2.0, 1.0]), row_costs(nothing, 1.0, 0.1)) == 1.0
    assert cost(tally_arrays(nothing, np.array([0.0, 1.0, 2.0, 1.0])), 0.1) == 1.0


def test_forecasts_of_whole_sales_lie_on_whole_numbers_but_for_a_ramp_between_them() -> None:
    smooth = np.array([0.0, 0.3, 0.5, 0.7, 1.0, 2.44, 2.5, 1000.4, 1000.9])
    pulled = to_units(np.log1p(smooth), whole=True)
    assert pulled == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.0, 2.26, 2.5, 1000.1, 1001.0], abs=1e-6)
    assert to_units(np.log1p(smooth), whole=False) == pytest.approx(smooth)
    assert to_units(np.array([-2.0]), whole=True) == [0.0]


def test_the_ramp_never_falls_never_jumps_and_never_changes_an_order() -> None:
    smooth = np.linspace(0.0, 12.0, 4801)
    pulled = to_units(np.log1p(smooth), whole=True)
    steps = np.diff(pulled)
    assert (steps >= -1e-9).all()
    assert steps.max() <= (smooth[1] - smooth[0]) / UNDECIDED + 1e-9
    clear = np.abs(smooth % 1 - 0.5) > 1e-6
    assert (np.floor(pulled + 0.5) == np.floor(smooth + 0.5))[clear].all()
