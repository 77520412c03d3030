"""Features of (series, target week): one function for training and for scoring, so that they cannot differ.

A forecast for week t made `horizon` weeks ahead may look at units of weeks before t - horizon + 1 only; what is known
ahead (calendar, events, flags, weather forecast) is read at t itself. Levels are in log1p units and relative to the
series' recent level, so one model fits series of every size and the target is a ratio to that level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml_jobs.forecasting.panel import ALL, Panel
from ml_jobs.forecasting.tables import FloatArray, IntArray
from ml_jobs.forecasting.weather import WEATHER

Matrix = np.ndarray[Any, np.dtype[np.float32]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
LEVEL_WEEKS = 8  # the recent level that targets are relative to
MIN_OBSERVED = 4  # weeks that must be known before a target week for it to be learned from
YEAR = 52
SEASONAL_HISTORY = 78
CATEGORIES = ("store", "product", "region", "store_format", "category", "department", "brand", "velocity")


@dataclass(frozen=True)
class FeatureBlock:
    """Features of a block of series and target weeks, flattened series by series.

    `values` is rows x `names`; `level` the log level each target is relative to; `ready` says which rows have enough
    history; `series` and `week` say which series and week index a row is about.
    """

    names: tuple[str, ...]
    values: Matrix
    level: Matrix
    ready: Mask
    series: IntArray
    week: IntArray

    def aligned(self, names: tuple[str, ...]) -> Matrix:
        """Return the values in the order of `names`, NaN for columns that this data does not have."""
        if names == self.names:
            return self.values
        here = {name: i for i, name in enumerate(self.names)}
        result = np.full((len(self.values), len(names)), np.nan, dtype=np.float32)
        for column, name in enumerate(names):
            if name in here:
                result[:, column] = self.values[:, here[name]]
        return result


class _Windows:
    """Window means over the known weeks before each target, from one cumulative sum."""

    def __init__(self, values: FloatArray, start: IntArray, known: IntArray) -> None:
        self._sums = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
        self._rows = np.arange(len(values))[:, None]
        self._start = np.minimum(start, values.shape[1])[:, None]
        self._known = known[None, :]

    def count(self, weeks: int | None) -> FloatArray:
        """Return how many known weeks the window holds."""
        return np.asarray(np.maximum(self._known - self._low(weeks), 0), dtype=np.float64)

    def mean(self, weeks: int | None) -> FloatArray:
        """Return the mean of the last `weeks` known weeks (None: all); 0 where there is none."""
        high = np.maximum(self._known, self._low(weeks))
        total = self._sums[self._rows, high] - self._sums[self._rows, self._low(weeks)]
        return np.asarray(total / np.maximum(self.count(weeks), 1.0))

    def _low(self, weeks: int | None) -> IntArray:
        low = self._start if weeks is None else np.maximum(self._start, self._known - weeks)
        return np.broadcast_to(np.maximum(low, 0), (len(self._start), self._known.shape[1]))


def build(panel: Panel, groups: Groups, series: IntArray, first: int, last: int, ahead: int = 1) -> FeatureBlock:
    """Return the features of `series` for target week indices first..last (included), made `ahead` weeks ahead."""
    targets = np.arange(first, last + 1)
    known = np.minimum(targets - ahead + 1, panel.weeks)
    units = panel.units[series].astype(np.float64)
    start = panel.start[series]
    columns: dict[str, FloatArray] = {}
    level = _history_features(columns, units, start, known)
    _season_features(columns, np.log1p(units), start, targets, known)
    groups.add(columns, series, targets, known)
    _calendar_features(columns, panel, len(series), targets)
    _known_features(columns, panel, series, targets, known)
    _static_features(columns, panel, series, len(targets))
    if panel.horizon > 1:
        columns["weeks_ahead"] = np.full(level.shape, float(ahead))
    observed = np.maximum(known[None, :] - start[:, None], 0)
    names = tuple(columns)
    values = np.stack([columns[name] for name in names], axis=2).astype(np.float32)
    return FeatureBlock(
        names=names, values=values.reshape(-1, len(names)), level=level.astype(np.float32).ravel(),
        ready=(observed >= MIN_OBSERVED).ravel(), series=np.repeat(series, len(targets)),
        week=np.tile(targets, len(series)),
    )


def _history_features(
    columns: dict[str, FloatArray], units: FloatArray, start: IntArray, known: IntArray
) -> FloatArray:
    """Add what a series' own past says; return its recent log level."""
    logs = np.log1p(units)
    log_windows, raw_windows = _Windows(logs, start, known), _Windows(units, start, known)
    squares = _Windows(logs * logs, start, known)
    zeros = _Windows((units <= 0).astype(np.float64), start, known)
    level = log_windows.mean(LEVEL_WEEKS)
    columns["level"] = level
    rows = np.arange(len(units))[:, None]
    for lag in (1, 2, 3, 4):
        at = known[None, :] - lag
        seen = at >= start[:, None]
        columns[f"lag_{lag}"] = np.where(seen, logs[rows, np.maximum(at, 0)] - level, 0.0)
    for weeks in (4, 13, 26, None):
        columns[f"mean_{weeks or 'all'}"] = log_windows.mean(weeks) - level
    for weeks in (LEVEL_WEEKS, 26, None):
        columns[f"log_of_mean_{weeks or 'all'}"] = np.log1p(raw_windows.mean(weeks)) - level
    for weeks in (LEVEL_WEEKS, 26):
        spread = squares.mean(weeks) - log_windows.mean(weeks) ** 2
        columns[f"spread_{weeks}"] = np.sqrt(np.maximum(spread, 0.0))
        columns[f"zero_share_{weeks}"] = zeros.mean(weeks)
    for name, weight in (("smooth_fast", 0.3), ("smooth_slow", 0.1)):
        columns[name] = _smoothed(logs, start, weight)[rows, known[None, :]] - level
    columns["median_13"] = _median(logs, known, 13, log_windows) - level
    columns["weeks_without_sale"] = np.log1p(np.minimum(_idle(units)[rows, known[None, :]], 13.0))
    return level


def _smoothed(logs: FloatArray, start: IntArray, weight: float) -> FloatArray:
    """Return the exponentially smoothed log level before each week, started at the first value."""
    result = np.zeros((len(logs), logs.shape[1] + 1))
    state = np.zeros(len(logs))
    for week in range(logs.shape[1]):
        own = np.where(week == start, 1.0, np.where(week > start, weight, 0.0))
        state = state + own * (logs[:, week] - state)
        result[:, week + 1] = state
    return result


def _idle(units: FloatArray) -> FloatArray:
    """Return how many weeks ended without a sale before each week."""
    result = np.zeros((len(units), units.shape[1] + 1))
    for week in range(units.shape[1]):
        result[:, week + 1] = np.where(units[:, week] > 0, 0.0, result[:, week] + 1.0)
    return result


def _median(logs: FloatArray, known: IntArray, weeks: int, windows: _Windows) -> FloatArray:
    """Return the median of the last known weeks, and their mean where the series is younger."""
    result = windows.mean(weeks)
    full = windows.count(weeks) >= weeks
    for column, end in enumerate(known):
        rows = np.flatnonzero(full[:, column])
        if len(rows):
            result[rows, column] = np.median(logs[rows, end - weeks : end], axis=1)
    return result


def _season_features(
    columns: dict[str, FloatArray], logs: FloatArray, start: IntArray, targets: IntArray, known: IntArray
) -> None:
    """Add last year's same week relative to the weeks before it, where the series is that old."""
    if known.max(initial=0) <= YEAR + LEVEL_WEEKS:
        return
    rows = np.arange(len(logs))[:, None]
    at = np.maximum(targets - YEAR, 0)
    before = _Windows(logs, start, np.maximum(known - YEAR, 0)).mean(LEVEL_WEEKS)
    old = (known[None, :] - YEAR - LEVEL_WEEKS) >= start[:, None]
    now = np.where(at < logs.shape[1], logs[rows, np.minimum(at, logs.shape[1] - 1)], 0.0)
    columns["year_ago"] = np.where(old, now - before, 0.0)


class Groups:
    """Totals that a series shares: its store, and its product everywhere."""

    def __init__(self, panel: Panel) -> None:
        """Add up the whole panel once; segments read from it, so they agree whatever runs beside them."""
        self._logs: dict[str, FloatArray] = {}
        self._of: dict[str, IntArray] = {}
        keys = {
            "store": panel.store_of,
            "product": panel.product_of,
        }
        for name, codes in keys.items():
            totals = np.zeros((int(codes.max()) + 1, panel.weeks))
            np.add.at(totals, codes, panel.units)
            self._logs[name] = np.log1p(totals)
            self._of[name] = codes

    def add(
        self, columns: dict[str, FloatArray], series: IntArray, targets: IntArray, known: IntArray
    ) -> None:
        """Add how each group moved lately, and what it did a year ago in the target week."""
        for name, logs in self._logs.items():
            codes, own = np.unique(self._of[name][series], return_inverse=True)
            values = logs[codes]
            start = np.argmax(values > 0, axis=1)
            windows = _Windows(values, start, known)
            level = windows.mean(LEVEL_WEEKS)
            columns[f"{name}_trend"] = (windows.mean(4) - windows.mean(13))[own]
            columns[f"{name}_level"] = level[own]
            season: dict[str, FloatArray] = {}
            _season_features(season, values, start, targets, known)
            for key, value in season.items():
                columns[f"{name}_{key}"] = value[own]


def _calendar_features(columns: dict[str, FloatArray], panel: Panel, rows: int, targets: IntArray) -> None:
    """Add the season of the year as two waves and the place of the week in its month.

    Only with a history of at least one and a half years: in a shorter one the season cannot be told from the trend,
    and weeks of the year that were never seen would be extrapolated (measured: it cost three points of WAPE).
    """
    if panel.weeks < SEASONAL_HISTORY:
        return
    weeks = [panel.week_at(int(target)) for target in targets]
    year = np.array([(week.monday.timetuple().tm_yday + 3) / 365.25 for week in weeks])
    month = np.array([(week.monday.day + 3) / 30.4 for week in weeks])
    for wave in (1, 2):
        columns[f"year_sin_{wave}"] = _spread(np.sin(2 * math.pi * wave * year), rows)
        columns[f"year_cos_{wave}"] = _spread(np.cos(2 * math.pi * wave * year), rows)
    columns["month_sin"] = _spread(np.sin(2 * math.pi * month), rows)
    columns["month_cos"] = _spread(np.cos(2 * math.pi * month), rows)


def _spread(values: FloatArray, rows: int) -> FloatArray:
    return np.broadcast_to(values[None, :], (rows, len(values)))


def _known_features(
    columns: dict[str, FloatArray], panel: Panel, series: IntArray, targets: IntArray, known: IntArray
) -> None:
    """Add events, flags and weather of the target week, the last two also relative to recent weeks."""
    ahead = panel.known
    stores = panel.store_of[series]
    final = ahead.events.shape[1] - 1
    for column, name in enumerate(ahead.event_names):
        layer = ahead.events[stores, :, column].astype(np.float64)
        columns[f"event_{name}"] = layer[:, targets]
        if name.startswith("event:") or name.startswith("kind:"):
            columns[f"after_{name}"] = layer[:, np.maximum(targets - 1, 0)]
            columns[f"before_{name}"] = np.where(targets < final, layer[:, np.minimum(targets + 1, final)], 0.0)
    start = panel.start[series]
    for column, name in enumerate(ahead.flag_names):
        layer = ahead.flags[series, :, column].astype(np.float64)
        columns[f"flag_{name}"] = layer[:, targets]
        recent = _Windows(layer[:, : panel.weeks], start, known).mean(LEVEL_WEEKS)
        columns[f"flag_{name}_change"] = layer[:, targets] - recent
    if panel.returns is not None:
        back = _Windows(panel.returns[series].astype(np.float64), start, known).mean(LEVEL_WEEKS)
        sold = _Windows(panel.units[series].astype(np.float64), start, known).mean(LEVEL_WEEKS)
        columns["returned_share"] = np.minimum(back / np.maximum(sold, 0.1), 2.0)
    if ahead.weather is not None and ahead.weather_ahead is not None:
        _weather_features(columns, panel, stores, targets, known)


def _weather_features(
    columns: dict[str, FloatArray], panel: Panel, stores: IntArray, targets: IntArray, known: IntArray
) -> None:
    """Add the forecast weather of the target week against what was measured in the recent weeks.

    Past target weeks for which no forecast was kept read the measured weather, because archives of forecasts are
    often younger than the history; weeks after the cutoff never do (the panel holds none).
    """
    measured, forecast = panel.known.weather, panel.known.weather_ahead
    assert measured is not None
    assert forecast is not None
    places, own = np.unique(stores, return_inverse=True)
    zeros = np.zeros(len(places), dtype=np.int64)
    for column, name in enumerate(WEATHER):
        past = measured[places, : panel.weeks, column].astype(np.float64)
        there = np.isfinite(past)
        sums = _Windows(np.where(there, past, 0.0), zeros, known).mean(LEVEL_WEEKS)
        shares = _Windows(there.astype(np.float64), zeros, known).mean(LEVEL_WEEKS)
        recent = sums / np.maximum(shares, 1e-9)
        known_ahead = forecast[places, :, column]
        best = np.where(np.isfinite(known_ahead), known_ahead, measured[places, :, column])
        change = best[:, targets] - np.where(shares > 0, recent, np.nan)
        columns[f"weather_{name}"] = np.where(np.isfinite(change), change, 0.0)[own]


def _static_features(columns: dict[str, FloatArray], panel: Panel, series: IntArray, weeks: int) -> None:
    """Add what does not change by week: who shops in the store, how big the pack is."""
    for column, name in enumerate(panel.shopper_names):
        own = panel.shoppers[panel.store_of[series], column]
        columns[f"shoppers_{name}"] = np.broadcast_to(own[:, None], (len(series), weeks))
    if (panel.pack_size != 1).any():
        pack = np.log(panel.pack_size[panel.product_of[series]])
        columns["pack_size"] = np.broadcast_to(pack[:, None], (len(series), weeks))


def category_texts(panel: Panel, series: IntArray | slice = ALL) -> dict[str, list[str]]:
    """Return the text categories of the series, by category name."""
    texts = {
        "store": [panel.stores[store] for store in panel.store_of[series].tolist()],
        "product": [panel.products[product] for product in panel.product_of[series].tolist()],
    }
    return {name: texts[name] if name in texts else panel.label(name, series) for name in CATEGORIES}
