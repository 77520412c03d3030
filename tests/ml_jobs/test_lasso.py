"""Our LASSO against scikit-learn's, on correlated features."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Lasso as Reference

from ml_jobs.forecasting.lasso import Moments, Scaling, fit_path


def _problem(rows: int = 400, features: int = 12) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(5)
    common = generator.normal(size=(rows, 1))
    values = (generator.normal(size=(rows, features)) + 0.7 * common).astype(np.float32)
    target = values[:, 0] - 0.5 * values[:, 3] + 0.2 * generator.normal(size=rows) + 2.0
    return values, target.astype(np.float32)


@pytest.mark.parametrize("penalty", [0.3, 0.05, 0.005])
def test_equals_the_reference_solution(penalty: float) -> None:
    values, target = _problem()
    values = values.astype(np.float64)
    weight = np.random.default_rng(6).uniform(0.2, 3.0, len(values))
    reference = Reference(alpha=penalty, tol=1e-9, max_iter=100_000).fit(values, target, sample_weight=weight)
    first, second = slice(None, 150), slice(150, None)
    parts = [Moments.of(values[part].astype(np.float32), target[part], weight[part]) for part in (first, second)]
    (own,) = fit_path(parts[0] + parts[1], np.array([penalty]))
    assert own.coefficients == pytest.approx(reference.coef_, abs=2e-4)
    assert own.intercept == pytest.approx(reference.intercept_, abs=5e-4)


def test_the_path_goes_from_silent_to_rich() -> None:
    values, target = _problem()
    path = fit_path(Moments.of(values, target, np.ones(len(target))))
    used = [int((model.coefficients != 0).sum()) for model in path]
    assert used == sorted(used)
    assert used[0] >= 1
    assert [model.penalty for model in path] == sorted((model.penalty for model in path), reverse=True)


def test_constant_and_missing_features_do_no_harm() -> None:
    values, target = _problem()
    values[:, 5] = 3.0
    values[7, 2] = np.nan
    scaling = Scaling.of(np.nan_to_num(values))
    scaled = scaling.apply(values)
    assert np.isfinite(scaled).all()
    assert scaled[7, 2] == 0.0
    assert fit_path(Moments.of(scaled, target, np.ones(len(target))))[-1].coefficients[5] == 0.0


def test_two_equal_features_do_not_break_the_search() -> None:
    values, target = _problem()
    values[:, 1] = values[:, 0]
    path = fit_path(Moments.of(values, target, np.ones(len(target))))
    (alone,) = fit_path(Moments.of(np.delete(values, 1, axis=1), target, np.ones(len(target))),
                        np.array([path[-1].penalty]))
    assert values.astype(float) @ path[-1].coefficients == pytest.approx(
        np.delete(values, 1, axis=1).astype(float) @ alone.coefficients, abs=1e-4)
