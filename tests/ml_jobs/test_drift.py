"""Drift measures: zero for the same data, large for other data, quiet for noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import BadRequest
from ml_jobs.forecasting.drift import Snapshot, compare, ks, psi

numbers = st.lists(st.floats(min_value=-1e6, max_value=1e6), min_size=1, max_size=50)


@given(numbers)
def test_the_training_data_itself_has_not_drifted(values: list[float]) -> None:
    own = np.array(values)
    assert psi(Snapshot.of(own), own) == pytest.approx(0.0, abs=1e-12)
    assert ks(Snapshot.of(own), own) == pytest.approx(0.0, abs=1e-12)


@given(numbers, numbers)
def test_measures_stay_in_their_ranges(then: list[float], now: list[float]) -> None:
    snapshot = Snapshot.of(np.array(then))
    assert psi(snapshot, np.array(now)) >= 0
    assert 0 <= ks(snapshot, np.array(now)) <= 1 + 1e-12


def test_a_shift_is_caught_and_noise_is_not() -> None:
    generator = np.random.default_rng(1)
    snapshots = {name: Snapshot.of(generator.normal(size=5000)) for name in ("level", "promotion")}
    found = compare(snapshots, {"level": generator.normal(size=2000) + 1.0, "promotion": generator.normal(size=2000),
                                "new": np.ones(3)})
    assert [(drift.feature, drift.verdict) for drift in found] == [("level", "act"), ("promotion", "quiet")]
    assert found[0].ks > 0.3


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(BadRequest):
        Snapshot.of(np.array([np.nan]))
    with pytest.raises(BadRequest):
        psi(Snapshot.of(np.array([1.0, 2.0])), np.array([]))
