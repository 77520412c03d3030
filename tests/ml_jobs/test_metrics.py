"""The metrics: edge cases by hand, additivity by property."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import BadRequest
from domain.metrics import (
    Tally,
    bias,
    mape,
    merge,
    metrics,
    over_share,
    rmse_all,
    rmse_zero,
    tally,
    under_share,
    value_added,
    wape,
)
from ml_jobs.forecasting.evaluation import tally_arrays

units = st.floats(min_value=0.001, max_value=1e4)
pairs = st.lists(st.tuples(st.one_of(st.just(0.0), units), units), max_size=30)


def test_a_hand_computed_case() -> None:
    total = tally([2.0, 4.0, 0.0], [3.0, 2.0, 1.0])
    assert mape(total) == pytest.approx((0.5 + 0.5) / 2)
    assert rmse_zero(total) == 1.0
    assert rmse_all(total) == pytest.approx(math.sqrt((1 + 4 + 1) / 3))
    assert wape(total) == pytest.approx(4 / 6)
    assert bias(total) == pytest.approx(0.0)
    assert over_share(total) == pytest.approx(2 / 6)
    assert under_share(total) == pytest.approx(2 / 6)
    assert metrics(total).n_excluded_from_mape == 1


def test_only_zeros_have_no_percentage_but_an_rmse_zero() -> None:
    total = tally([0.0, 0.0], [1.0, 3.0])
    assert mape(total) is None
    assert wape(total) is None
    assert rmse_zero(total) == pytest.approx(math.sqrt(5))
    assert metrics(total).n_excluded_from_mape == 2


def test_without_a_zero_there_is_no_rmse_zero() -> None:
    assert rmse_zero(tally([1.0], [1.0])) is None


def test_nothing_has_no_metric() -> None:
    empty = metrics(tally([], []))
    assert (empty.mape, empty.rmse_zero, empty.rmse_all, empty.wape, empty.bias) == (None,) * 5
    assert empty.n == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_never_enters_a_sum(bad: float) -> None:
    with pytest.raises(BadRequest):
        tally([1.0], [bad])
    with pytest.raises(BadRequest):
        tally_arrays(np.array([1.0]), np.array([bad]))


def test_lengths_must_agree() -> None:
    with pytest.raises(BadRequest, match="length"):
        tally([1.0, 2.0], [1.0])


def test_a_tally_survives_json_and_names_what_is_missing() -> None:
    total = tally([1.0, 0.0], [2.0, 1.0])
    assert Tally.from_dict(total.to_dict()) == total
    with pytest.raises(BadRequest, match="sum_ape"):
        Tally.from_dict({"n": 1})


def test_value_added_is_the_relative_reduction_of_mape() -> None:
    assert value_added(tally([10.0], [13.0]), tally([10.0], [15.0])) == pytest.approx(0.4)
    assert value_added(tally([0.0], [1.0]), tally([10.0], [15.0])) is None
    assert value_added(tally([10.0], [13.0]), tally([10.0], [10.0])) is None


@given(pairs, pairs)
def test_the_metric_of_a_group_is_that_of_its_rows(first: list[tuple[float, float]], second: list[tuple[float, float]]
                                                   ) -> None:
    together = tally([a for a, _ in first + second], [f for _, f in first + second])
    added = merge([tally([a for a, _ in part], [f for _, f in part]) for part in (first, second)])
    for name, value in together.to_dict().items():
        assert added.to_dict()[name] == pytest.approx(value, rel=1e-9, abs=1e-9)


@given(pairs)
def test_arrays_and_single_rows_give_the_same_tally(rows: list[tuple[float, float]]) -> None:
    one_by_one = tally([a for a, _ in rows], [f for _, f in rows])
    at_once = tally_arrays(np.array([a for a, _ in rows]), np.array([f for _, f in rows]))
    for name, value in one_by_one.to_dict().items():
        assert at_once.to_dict()[name] == pytest.approx(value, rel=1e-9, abs=1e-9)


@given(pairs)
def test_over_and_under_are_all_of_the_error(rows: list[tuple[float, float]]) -> None:
    total = tally([a for a, _ in rows], [f for _, f in rows])
    assert total.sum_over + total.sum_under == pytest.approx(total.sum_absolute_error, rel=1e-9, abs=1e-9)
    assert total.sum_over - total.sum_under == pytest.approx(total.sum_error, rel=1e-9, abs=1e-6)
