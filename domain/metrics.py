"""Forecast quality as sums: tallies that add up exactly over any group, and the metrics read from them.

A tally keeps sufficient statistics, so the metric of a region, of a segment or of everything is computed from
added tallies and never as a mean of means. Units are sales units per week; MAPE, WAPE and bias are ratios.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from domain.errors import BadRequest


@dataclass(frozen=True)
class Tally:
    """Sums over forecasts and what really happened; `+` merges two groups.

    `sum_over` is what was forecast too much (returns risk) and `sum_under` what was forecast too little
    (lost-sales risk); both are positive, and together they are `sum_absolute_error`.
    """

    n_positive: int = 0
    sum_ape: float = 0.0
    n_zero: int = 0
    sum_squared_error_zero: float = 0.0
    n: int = 0
    sum_squared_error: float = 0.0
    sum_absolute_error: float = 0.0
    sum_error: float = 0.0
    sum_actual: float = 0.0
    sum_over: float = 0.0
    sum_under: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        """Return the tally of both groups together."""
        return Tally(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def to_dict(self) -> dict[str, float]:
        """Return the sums by name, as stored in metrics.json."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, float]) -> Tally:
        """Read what `to_dict` wrote; raise BadRequest naming the sums that are missing."""
        missing = [f.name for f in fields(cls) if f.name not in data]
        if missing:
            raise BadRequest(f"a tally lacks {', '.join(missing)}", field=missing[0], remedy="write it with to_dict")
        sums: dict[str, Any] = {
            f.name: int(data[f.name]) if f.name in _COUNTS else float(data[f.name]) for f in fields(cls)
        }
        return cls(**sums)


_COUNTS = frozenset({"n_positive", "n_zero", "n"})


@dataclass(frozen=True)
class Metrics:
    """What the business reads; None where nothing was there to measure (no positive actual, no zero, no row)."""

    n: int
    n_excluded_from_mape: int
    mape: float | None
    rmse_zero: float | None
    rmse_all: float | None
    wape: float | None
    bias: float | None
    over_share: float | None
    under_share: float | None

    def to_dict(self) -> dict[str, float | None]:
        """Return the metrics by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def tally_one(actual: float, forecast: float) -> Tally:
    """Return the tally of one forecast; an actual of zero or less counts as zero demand and not in MAPE.

    Raises BadRequest if either number is not finite: a NaN must never hide inside a sum.
    """
    if not (math.isfinite(actual) and math.isfinite(forecast)):
        raise BadRequest(f"actual {actual} and forecast {forecast} must be finite", field="forecast", value=forecast)
    error = forecast - actual
    positive = actual > 0
    return Tally(
        n_positive=int(positive),
        sum_ape=abs(error) / actual if positive else 0.0,
        n_zero=int(not positive),
        sum_squared_error_zero=0.0 if positive else error * error,
        n=1,
        sum_squared_error=error * error,
        sum_absolute_error=abs(error),
        sum_error=error,
        sum_actual=actual,
        sum_over=max(error, 0.0),
        sum_under=max(-error, 0.0),
    )


def tally(actuals: Iterable[float], forecasts: Iterable[float]) -> Tally:
    """Return the tally of paired actuals and forecasts, in order; raise BadRequest if the lengths differ."""
    total = Tally()
    try:
        for actual, forecast in zip(actuals, forecasts, strict=True):
            total = total + tally_one(float(actual), float(forecast))
    except ValueError as error:
        raise BadRequest("actuals and forecasts differ in length", field="forecasts") from error
    return total


def merge(tallies: Iterable[Tally]) -> Tally:
    """Return the tally of all groups together; of none, the empty tally."""
    total = Tally()
    for one in tallies:
        total = total + one
    return total


def mape(total: Tally) -> float | None:
    """Mean absolute percentage error over actual > 0, as a ratio."""
    return total.sum_ape / total.n_positive if total.n_positive else None


def rmse_zero(total: Tally) -> float | None:
    """Root mean squared error where nothing was sold (RMSE 0), in units."""
    return math.sqrt(total.sum_squared_error_zero / total.n_zero) if total.n_zero else None


def rmse_all(total: Tally) -> float | None:
    """Root mean squared error over everything (RMSE All), in units."""
    return math.sqrt(total.sum_squared_error / total.n) if total.n else None


def wape(total: Tally) -> float | None:
    """Sum of absolute errors over sum of actuals."""
    return total.sum_absolute_error / total.sum_actual if total.sum_actual > 0 else None


def bias(total: Tally) -> float | None:
    """Sum of errors over sum of actuals; positive means that too much was forecast."""
    return total.sum_error / total.sum_actual if total.sum_actual > 0 else None


def over_share(total: Tally) -> float | None:
    """Units forecast too much over units sold: the returns risk."""
    return total.sum_over / total.sum_actual if total.sum_actual > 0 else None


def under_share(total: Tally) -> float | None:
    """Units forecast too little over units sold: the lost-sales risk."""
    return total.sum_under / total.sum_actual if total.sum_actual > 0 else None


def metrics(total: Tally) -> Metrics:
    """Return every metric of a group at once."""
    return Metrics(
        n=total.n,
        n_excluded_from_mape=total.n - total.n_positive,
        mape=mape(total),
        rmse_zero=rmse_zero(total),
        rmse_all=rmse_all(total),
        wape=wape(total),
        bias=bias(total),
        over_share=over_share(total),
        under_share=under_share(total),
    )


def value_added(total: Tally, baseline: Tally) -> float | None:
    """Relative reduction of MAPE against the baseline: 0.4 is the pilot's "40 % lower"; None if not comparable."""
    own, other = mape(total), mape(baseline)
    if own is None or other is None or other == 0:
        return None
    return 1.0 - own / other
