"""LASSO on moments: one pass over the rows, then a whole path of penalties in milliseconds.

A segment job fits three origins and a path each. Loading scikit-learn alone costs more CPU (1.7 s) than all of that, so
the search for the solution runs here, on p x p moments; a test holds it to scikit-learn's solution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Matrix = np.ndarray[Any, np.dtype[np.float32]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
PATH_POINTS = 6
PATH_START, PATH_END = 0.3, 5e-3  # ends of the path, as shares of the penalty that silences every feature
MAX_STEPS = 1000
TOLERANCE = 1e-6  # of a gradient, where features are standardised and the target is a log
RIDGE = 1e-8  # keeps the system solvable where two features are the same
FLAT = 1e-6  # a feature with less variance than this is constant
CLIP = 6.0  # standardised features beyond this are treated as this: one odd week must not steer a linear model


@dataclass(frozen=True)
class Scaling:
    """Mean and spread per feature, learned on training rows; NaN (a column that the data lacks) becomes the mean."""

    mean: FloatArray
    spread: FloatArray

    @classmethod
    def of(cls, values: Matrix) -> Scaling:
        """Learn from training rows; a constant feature keeps spread 1."""
        if not len(values):
            return cls(np.zeros(values.shape[1]), np.ones(values.shape[1]))
        spread = values.std(axis=0, dtype=np.float64)
        return cls(values.mean(axis=0, dtype=np.float64), np.where(spread > 1e-6, spread, 1.0))

    def apply(self, values: Matrix) -> Matrix:
        """Return standardised, clipped single-precision values."""
        scaled = values - self.mean.astype(np.float32)
        scaled /= self.spread.astype(np.float32)
        np.nan_to_num(scaled, copy=False, nan=0.0)
        return np.clip(scaled, -CLIP, CLIP, out=scaled)


@dataclass(frozen=True)
class Lasso:
    """A linear model of scaled features."""

    coefficients: FloatArray
    intercept: float
    penalty: float

    def predict(self, scaled: Matrix) -> FloatArray:
        """Return the predicted target per row."""
        return np.asarray(scaled.astype(np.float64) @ self.coefficients + self.intercept)


@dataclass(frozen=True)
class Moments:
    """Weighted cross products of features, the constant 1 and the target; those of disjoint rows add up."""

    products: FloatArray

    @classmethod
    def of(cls, scaled: Matrix, target: Matrix, weight: FloatArray) -> Moments:
        """Add up the rows, each by its weight."""
        rows = np.ones((len(scaled), scaled.shape[1] + 2))
        rows[:, :-2], rows[:, -1] = scaled, target
        return cls((rows * weight[:, None]).T @ rows)

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both sets of rows together."""
        return Moments(self.products + other.products)


def median_weights(residual: Matrix, smallest: float) -> FloatArray:
    """Return row weights that turn squared errors into nearly absolute ones, as one re-weighting does.

    The mean of logs lies below the median of small counts, so a plain log fit forecasts too little.
    """
    return np.asarray(1.0 / np.maximum(np.abs(residual), max(smallest, 1e-3)), dtype=np.float64)


def fit_path(
    moments: Moments, penalties: FloatArray | None = None, *, warm: Sequence[Lasso] = (), only: int | None = None
) -> list[Lasso]:
    """Fit 1/(2n) |y - Xb|^2 + penalty |b|_1 for a falling path of penalties (each scikit-learn's `alpha`).

    Every penalty starts from the one before it, or from the same place of `warm`, a path fitted on nearly the same
    rows. `only` fits a single place of the path.
    """
    products, total = moments.products, moments.products[-2, -2]
    center, mean = products[:-2, -2] / total, float(products[-1, -2] / total)
    gram = products[:-2, :-2] / total - np.outer(center, center) + RIDGE * np.eye(len(center))
    moment = products[:-2, -1] / total - center * mean
    if penalties is None:
        penalties = max(float(np.abs(moment).max()), 1e-9) * np.geomspace(PATH_START, PATH_END, PATH_POINTS)
    coefficients = np.zeros(len(moment))
    models = []
    for place, penalty in enumerate(penalties):
        if only is not None and place != only:
            continue
        if warm:
            coefficients = warm[place].coefficients
        coefficients = _minimise(gram, moment, float(penalty), coefficients)
        models.append(Lasso(coefficients, mean - float(center @ coefficients), float(penalty)))
    return models


def _minimise(gram: FloatArray, moment: FloatArray, penalty: float, start: FloatArray) -> FloatArray:
    """Return the minimiser by feature-sign search from `start`.

    With the signs of the used features known, the minimiser is one linear system. So: solve it, walk there as far as
    the objective falls, and once the used features are right let in the silent one that pulls most.
    """
    usable = np.diag(gram) > FLAT
    weights = np.where(usable, start, 0.0)
    for _ in range(MAX_STEPS):
        gradient = gram @ weights - moment
        signs = np.sign(weights)
        used = signs != 0
        if (np.abs(gradient + penalty * signs)[used] <= TOLERANCE).all():
            pull = np.where(usable & ~used, np.abs(gradient), 0.0)
            strongest = int(np.argmax(pull))
            if pull[strongest] <= penalty + TOLERANCE:
                break
            signs[strongest] = -np.sign(gradient[strongest])
        active = np.flatnonzero(signs)
        goal = np.zeros_like(weights)
        goal[active] = np.linalg.solve(gram[np.ix_(active, active)], moment[active] - penalty * signs[active])
        weights = _walk(gram, moment, penalty, weights, goal)
    return weights


def _walk(gram: FloatArray, moment: FloatArray, penalty: float, start: FloatArray, goal: FloatArray) -> FloatArray:
    """Return the best of `goal` and the points on the way there at which a feature falls silent."""
    crossing = np.flatnonzero(start * goal < 0)
    if not len(crossing):
        return goal
    best, lowest = start, np.inf
    shares = start[crossing] / (start[crossing] - goal[crossing])
    for share, feature in [*zip(shares.tolist(), crossing.tolist(), strict=True), (1.0, -1)]:
        point = start + share * (goal - start)
        if feature >= 0:
            point[feature] = 0.0
        height = float(point @ (0.5 * (gram @ point) - moment) + penalty * np.abs(point).sum())
        if height < lowest:
            best, lowest = point, height
    return best
