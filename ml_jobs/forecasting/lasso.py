"""LASSO on Gram matrices: one pass over the rows, then a whole path of penalties in milliseconds.

A segment job fits three origins and a path each. Loading scikit-learn alone costs more CPU (1.7 s) than all of that, so
coordinate descent runs here on the p x p Gram matrix; a test holds it to scikit-learn's solution.
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
MAX_SWEEPS = 300
TOLERANCE = 5e-5  # of a coefficient of a standardised feature; the target is a log, so this is 0.005 % of the units
FLAT = 1e-12  # a feature with less variance than this is constant
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
        scaled = (values - self.mean.astype(np.float32)) / self.spread.astype(np.float32)
        return np.clip(np.nan_to_num(scaled, nan=0.0), -CLIP, CLIP).astype(np.float32)


@dataclass(frozen=True)
class Lasso:
    """A linear model of scaled features."""

    coefficients: FloatArray
    intercept: float
    penalty: float

    def predict(self, scaled: Matrix) -> FloatArray:
        """Return the predicted target per row."""
        return np.asarray(scaled.astype(np.float64) @ self.coefficients + self.intercept)


def fit_path(
    scaled: Matrix, target: Matrix, penalties: FloatArray | None = None, *, weight: Matrix | None = None,
    warm: Sequence[Lasso] = (), only: int | None = None,
) -> list[Lasso]:
    """Fit 1/(2n) |y - Xb|^2 + penalty |b|_1 for a falling path of penalties (each scikit-learn's `alpha`).

    Every penalty starts from the one before it, or from the same place of `warm`, a path fitted on nearly the same
    rows. `only` fits a single place of the path. `weight` weighs the rows (mean 1).
    """
    rows = scaled.astype(np.float64)
    weights = np.ones(len(rows)) if weight is None else weight.astype(np.float64)
    center = weights @ rows / weights.sum()
    mean = float(weights @ target.astype(np.float64) / weights.sum())
    rows = rows - center
    weighted = rows * weights[:, None]
    gram = weighted.T @ rows / len(rows)
    moment = weighted.T @ (target.astype(np.float64) - mean) / len(rows)
    if penalties is None:
        penalties = max(float(np.abs(moment).max()), 1e-9) * np.geomspace(PATH_START, PATH_END, PATH_POINTS)
    coefficients = np.zeros(len(moment))
    models = []
    for place, penalty in enumerate(penalties):
        if only is not None and place != only:
            continue
        if warm:
            coefficients = warm[place].coefficients
        coefficients = _descend(gram, moment, float(penalty), coefficients)
        models.append(Lasso(coefficients.copy(), mean - float(center @ coefficients), float(penalty)))
    return models


def _descend(gram: FloatArray, moment: FloatArray, penalty: float, start: FloatArray) -> FloatArray:
    """Return the minimiser by cyclic coordinate descent from `start`.

    Sweeps over all features alternate with sweeps over those in use until the latter settle: most features of a strong
    penalty are silent, and asking each of them every time would be most of the work.
    """
    weights = start.copy()
    fitted = gram @ weights
    diagonal = np.diag(gram).tolist()
    usable = [j for j, own in enumerate(diagonal) if own > FLAT]
    for _ in range(MAX_SWEEPS):
        if _sweep(gram, moment, diagonal, penalty, weights, fitted, usable) < TOLERANCE:
            break
        used = [j for j in usable if weights[j]]
        for _ in range(MAX_SWEEPS):
            if _sweep(gram, moment, diagonal, penalty, weights, fitted, used) < TOLERANCE:
                break
    return weights


def _sweep(
    gram: FloatArray, moment: FloatArray, diagonal: list[float], penalty: float, weights: FloatArray,
    fitted: FloatArray, features: list[int],
) -> float:
    """Minimise over each feature in turn, in place; return the largest change."""
    largest = 0.0
    for j in features:
        old = float(weights[j])
        pull = float(moment[j]) - float(fitted[j]) + diagonal[j] * old
        size = abs(pull) - penalty
        new = (size if pull > 0 else -size) / diagonal[j] if size > 0 else 0.0
        if new != old:
            fitted += gram[j] * (new - old)
            weights[j] = new
            largest = max(largest, abs(new - old))
    return largest
