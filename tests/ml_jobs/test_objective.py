"""What a training minimises: WAPE plus a fixed share of MAPE, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from domain.metrics import mape, wape
from ml_jobs.forecasting.evaluation import cost, tally_arrays
from ml_jobs.forecasting.objective import LARGEST_SHARE, PERCENTAGE_RATE, objective, row_costs, typical_sale


def test_the_costs_of_all_rows_are_wape_and_its_share_of_mape() -> None:
    generator = np.random.default_rng(2)
    actual, forecast = generator.poisson(2.0, 500).astype(float), generator.gamma(2.0, 1.0, 500)
    total = tally_arrays(actual, forecast)
    expected = (wape(total) or 0) + PERCENTAGE_RATE * (mape(total) or 0)
    assert objective(actual, forecast, row_costs(actual, typical_sale(actual))) == pytest.approx(expected, rel=1e-9)
    assert cost(total) == pytest.approx(expected, rel=1e-9)


def test_one_accident_in_a_large_series_costs_no_more_than_a_bounded_share() -> None:
    costs = row_costs(np.array([1.0, 5_000.0, 0.0]), 5_000.0)
    assert costs == pytest.approx([1 + PERCENTAGE_RATE * LARGEST_SHARE, 1 + PERCENTAGE_RATE, 1.0])


def test_where_nothing_was_sold_the_mean_error_counts() -> None:
    nothing = np.zeros(4)
    assert typical_sale(nothing) == 1.0
    assert objective(nothing, np.array([0.0, 1.0, 2.0, 1.0]), row_costs(nothing, 1.0)) == 1.0
    assert cost(tally_arrays(nothing, np.array([0.0, 1.0, 2.0, 1.0]))) == 1.0
