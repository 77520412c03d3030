"""The panel: every series of the input folder as one row of a weeks matrix, with what is known of it.

Weeks run from the first delivery to the cutoff, then `horizon` more for what is known ahead (events, promotions,
weather forecasts). Nothing after the cutoff that would only be known later enters: that is decided here, once, so no
feature can leak. Weeks without a delivery after a series' first one are zeros; earlier weeks are not part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from domain.assortment import ACTIVE, DISCONTINUED, THIN_HISTORY, ActivityRule
from domain.errors import BadRequest
from domain.sales_weeks import SalesWeek
from domain.segments import velocity_of_products
from ml_jobs.forecasting import known_ahead
from ml_jobs.forecasting.tables import (
    Coded,
    FloatArray,
    IntArray,
    Table,
    read_optional,
    week_number,
    week_of_number,
)

Matrix = np.ndarray[Any, np.dtype[np.float32]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
UNKNOWN = ""
ALL = slice(None)
# 20 selling weeks (or half of a shorter history) say enough of a series; 8 weeks without a sale: discontinued.
ORDINARY_ROWS = 20
FILL_WEEKS = 8
LONGEST_HOLE = 52  # weeks; more is a mistyped year, not a lost file
ACTIVITY = ActivityRule(min_selling_weeks=20, active_within_weeks=8)


@dataclass(frozen=True)
class Panel:
    """All series up to a cutoff; arrays share the order of `stores`, `products`, `series` and weeks.

    `units` is series x history weeks, `start` the first week index of each series. `store_of` and `product_of` number
    the store and product of each series. `labels` holds text attributes by column name: one value a store
    (region, store_format, ...) or a product (category, velocity, ...). `declared` is which series pairs.csv calls
    active after the cutoff; None where the folder has no such file. `lost` marks history weeks whose file is missing:
    filled from the weeks before them, never learned from or judged on.
    """

    first_week: int
    weeks: int
    horizon: int
    stores: tuple[str, ...]
    products: tuple[str, ...]
    store_of: IntArray
    product_of: IntArray
    units: Matrix
    start: IntArray
    returns: Matrix | None
    store_labels: dict[str, tuple[str, ...]]
    product_labels: dict[str, tuple[str, ...]]
    pack_size: FloatArray
    shoppers: FloatArray
    shopper_names: tuple[str, ...]
    known: known_ahead.KnownAhead
    lost: Mask
    declared: Mask | None = None

    @property
    def cutoff(self) -> SalesWeek:
        """Last week of history."""
        return week_of_number(self.first_week + self.weeks - 1)

    @property
    def series(self) -> int:
        """Number of series."""
        return len(self.store_of)

    def index_of(self, week: SalesWeek) -> int:
        """Return the column of a week; the first week after the cutoff is `weeks`."""
        return week_number(week) - self.first_week

    def week_at(self, index: int) -> SalesWeek:
        """Return the week of a column."""
        return week_of_number(self.first_week + index)

    def label(self, column: str, series: IntArray | slice = ALL) -> list[str]:
        """Return one text attribute of the series; raise BadRequest if neither stores nor products have it."""
        if column in self.store_labels:
            values = self.store_labels[column]
            return [values[store] for store in self.store_of[series].tolist()]
        if column in self.product_labels:
            values = self.product_labels[column]
            return [values[product] for product in self.product_of[series].tolist()]
        raise BadRequest(
            f"no column {column!r} in stores or products", field="scheme", value=column,
            remedy=f"use one of {', '.join([*self.store_labels, *self.product_labels])}",
        )

    def active(self) -> Mask:
        """Return which series are worth a forecast after the history: those that pairs.csv declares, if there is one.

        A plain folder without it expects a forecast of all that ever sold.
        """
        return self.declared if self.declared is not None else np.asarray((self.units > 0).any(axis=1))

    def was_active(self, series: IntArray) -> Mask:
        """Return series x (weeks + 1): which of them were worth a forecast of a week when only earlier ones were known.

        Where pairs.csv decides now, the rule that it was made with: enough selling weeks, and a recent sale.
        """
        selling = np.zeros((len(series), self.weeks + 1), dtype=np.int32)
        np.cumsum(self.units[series] > 0, axis=1, out=selling[:, 1:])
        if self.declared is None:
            return np.asarray(selling > 0)
        needed = np.array([ACTIVITY.weeks_needed(week) for week in range(self.weeks + 1)])
        before = np.maximum(np.arange(self.weeks + 1) - ACTIVITY.active_within_weeks, 0)
        return np.asarray((selling >= needed) & (selling > selling[:, before]))

    def inactive_reason(self, series: int) -> str:
        """Return why a series is not active: `thin_history` or `discontinued`."""
        recent = (self.units[series, max(0, self.weeks - ACTIVITY.active_within_weeks) :] > 0).any()
        return THIN_HISTORY if recent else DISCONTINUED


def read_panel(folder: Path, cutoff: SalesWeek, horizon: int = 1) -> Panel:
    """Read an input folder up to `cutoff`; raise BadRequest where it cannot be used, naming file and remedy."""
    deliveries = read_optional(folder, "deliveries.csv")
    if deliveries is None:
        raise BadRequest(f"{folder} has no deliveries.csv", file="deliveries.csv", remedy="name the folder of CSVs")
    weeks = deliveries.weeks()
    store_text = deliveries.text(deliveries.need("store_id", "store"))
    product_text = deliveries.text(deliveries.need("product_id", "product"))
    last = week_number(cutoff)
    seen = weeks <= last
    units = deliveries.numbers(deliveries.need("units", "quantity"), needed=seen)
    if not seen.any():
        raise BadRequest(
            f"deliveries.csv has no row up to {cutoff}", file="deliveries.csv", field="cutoff", value=str(cutoff),
            remedy="name a cutoff that lies in the data",
        )
    first = int(weeks[seen].min())
    count = last - first + 1
    stores, store_codes = _ranked(store_text, seen)
    products, product_codes = _ranked(product_text, seen)
    pair = store_codes[seen] * len(products) + product_codes[seen]
    pairs, row = np.unique(pair, return_inverse=True)
    flat = np.bincount(row * count + (weeks[seen] - first), weights=units[seen], minlength=len(pairs) * count)
    # Corrections cancel inside a week; a week that is negative after that sold nothing.
    matrix: FloatArray = np.maximum(flat.reshape(len(pairs), count), 0.0).astype(np.float64)
    start = np.full(len(pairs), count, dtype=np.int64)
    np.minimum.at(start, row, weeks[seen] - first)
    lost = lost_weeks(weeks[seen] - first, count)
    if lost[-1]:
        ends = week_of_number(first + int(np.flatnonzero(~lost)[-1]))
        raise BadRequest(
            f"deliveries.csv ends with {ends}, before the last week of history, {cutoff}", file="deliveries.csv",
            field="sales_week", value=str(ends), remedy=f"deliver the weeks up to {cutoff}, or ask for an earlier week",
        )
    holes = np.diff(np.flatnonzero(~lost)) - 1
    if holes.max(initial=0) > LONGEST_HOLE:
        after = week_of_number(first + int(np.flatnonzero(~lost)[int(np.argmax(holes))]))
        raise BadRequest(
            f"deliveries.csv has no row for {int(holes.max())} weeks after {after}", file="deliveries.csv",
            field="sales_week", value=str(after), remedy="deliver the missing weeks, or leave out what is before them",
        )
    _fill(matrix, start, lost)
    store_of, product_of = pairs // len(products), pairs % len(products)
    store_totals = np.bincount(store_of, weights=matrix.sum(axis=1), minlength=len(stores)).astype(np.float64)
    store_labels = _store_labels(folder, stores, store_totals)
    product_labels, pack_size = _product_labels(folder, products, product_of, matrix, start)
    shoppers, shopper_names = _shoppers(folder, stores)
    index = known_ahead.Index(first, count, horizon, stores, products, store_of, product_of, store_labels)
    return Panel(
        first_week=first, weeks=count, horizon=horizon, stores=stores, products=products, store_of=store_of,
        product_of=product_of, units=matrix.astype(np.float32), start=start,
        returns=_returns(folder, index, pairs, len(products)),
        store_labels=store_labels, product_labels=product_labels, pack_size=pack_size, shoppers=shoppers,
        shopper_names=shopper_names, known=known_ahead.read(folder, index), lost=lost,
        declared=_declared(folder, index, pairs),
    )


def lost_weeks(weeks: IntArray, count: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which of `count` weeks have no row at all, where an ordinary week has so many that chance is ruled out.

    A chain that sells nothing for a week is a file that never came. Taken for demand it would pull every level down.
    """
    rows = np.bincount(weeks, minlength=count)
    lost = (rows == 0) & bool(np.median(rows[rows > 0]) >= ORDINARY_ROWS)
    return np.asarray(lost)


def _fill(units: FloatArray, start: IntArray, lost: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    """Give lost weeks the mean of the known weeks before them, in place."""
    for week in np.flatnonzero(lost).tolist():
        before = [index for index in range(max(week - FILL_WEEKS, 0), week)]
        for_series = start <= week - 1
        since = np.maximum(start, week - FILL_WEEKS)
        total = units[:, before].sum(axis=1)
        units[for_series, week] = (total / np.maximum(week - since, 1))[for_series]


def _ranked(text: Coded, seen: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[tuple[str, ...], IntArray]:
    """Return the sorted values that occur in seen rows and every row's rank among them (-1: not seen)."""
    used = np.unique(text.codes[seen])
    values = tuple(sorted(text.values[code] for code in used))
    return values, text.remap({value: rank for rank, value in enumerate(values)})


def _store_labels(folder: Path, stores: tuple[str, ...], totals: FloatArray) -> dict[str, tuple[str, ...]]:
    """Return region, format, zip and every other text column of stores; derive what is absent."""
    labels = _labels(read_optional(folder, "stores.csv"), "store_id", stores)
    if "format" in labels:
        labels.setdefault("store_format", labels.pop("format"))
    labels["region"] = _filled(labels.get("region"), ["r01"] * len(stores))
    median = float(np.median(totals))
    labels["store_format"] = _filled(
        labels.get("store_format"), ["large" if total >= median else "small" for total in totals]
    )
    return labels


def _product_labels(
    folder: Path, products: tuple[str, ...], product_of: IntArray, units: FloatArray, start: IntArray
) -> tuple[dict[str, tuple[str, ...]], FloatArray]:
    """Return category, department, brand, velocity and other text columns of products, and their pack sizes."""
    table = read_optional(folder, "products.csv")
    labels = _labels(table, "product_id", products)
    for column in ("category", "department", "brand"):
        labels[column] = _filled(labels.get(column), [UNKNOWN] * len(products))
    total = np.bincount(product_of, weights=units.sum(axis=1), minlength=len(products))
    weeks = np.bincount(product_of, weights=units.shape[1] - start, minlength=len(products))
    speed = velocity_of_products(
        {product: float(total[i] / max(weeks[i], 1.0)) for i, product in enumerate(products)}
    )
    labels["velocity"] = _filled(labels.get("velocity"), [speed[product] for product in products])
    pack = np.ones(len(products))
    if table is not None and "pack_size" in table.names:
        ranks = table.text(table.need("product_id")).remap({value: i for i, value in enumerate(products)})
        sizes = table.numbers("pack_size", empty=1.0)
        pack[ranks[ranks >= 0]] = np.maximum(sizes[ranks >= 0], 1.0)
    return labels, pack


def _labels(table: Table | None, key: str, order: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return every text column of an attribute table in the given order, empty text where there is no row."""
    if table is None:
        return {}
    ranks = table.text(table.need(key)).remap({value: i for i, value in enumerate(order)})
    labels: dict[str, tuple[str, ...]] = {}
    for name in table.names:
        if name == key or table.is_numeric(name):
            continue
        column = table.text(name)
        values = [UNKNOWN] * len(order)
        for rank, code in zip(ranks.tolist(), column.codes.tolist(), strict=True):
            if rank >= 0:
                values[rank] = column.values[code].strip()
        labels[name] = tuple(values)
    return labels


def _filled(given: tuple[str, ...] | None, derived: list[str]) -> tuple[str, ...]:
    """Return the given values, with the derived one wherever none was given."""
    return tuple(value or derived[i] for i, value in enumerate(given or [UNKNOWN] * len(derived)))


def _returns(folder: Path, index: known_ahead.Index, pairs: IntArray, products: int) -> Matrix | None:
    """Return returned units as series x history weeks; None where the folder has no returns."""
    table = read_optional(folder, "returns.csv")
    if table is None:
        return None
    weeks = table.weeks() - index.first_week
    stores = table.text(table.need("store_id")).remap(index.store_rank)
    goods = table.text(table.need("product_id")).remap(index.product_rank)
    row = np.searchsorted(pairs, stores * products + goods)
    fits = (stores >= 0) & (goods >= 0) & (weeks >= 0) & (weeks < index.weeks) & (row < len(pairs))
    fits[fits] = pairs[row[fits]] == (stores * products + goods)[fits]
    units = np.maximum(table.numbers(table.need("units", "quantity"), empty=0.0), 0.0)
    flat = np.bincount(
        row[fits] * index.weeks + weeks[fits], weights=units[fits], minlength=len(pairs) * index.weeks
    )
    return flat.reshape(len(pairs), index.weeks).astype(np.float32)


def _declared(
    folder: Path, index: known_ahead.Index, pairs: IntArray
) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
    """Return which series the curation calls active, so that jobs and completeness ledger never disagree."""
    table = read_optional(folder, "pairs.csv")
    if table is None or "state" not in table.names:
        return None
    stores = table.text(table.need("store_id")).remap(index.store_rank)
    goods = table.text(table.need("product_id")).remap(index.product_rank)
    states = table.text("state")
    active = np.array([value == ACTIVE for value in states.values])[states.codes]
    fits = active & (stores >= 0) & (goods >= 0)
    return np.asarray(np.isin(pairs, (stores * len(index.products) + goods)[fits]))


MAX_SHOPPER_COLUMNS = 8


def _shoppers(folder: Path, stores: tuple[str, ...]) -> tuple[FloatArray, tuple[str, ...]]:
    """Return store x shopper numbers, standardised over stores, 0 (the mean) where a store has none."""
    table = read_optional(folder, "shoppers.csv")
    if table is None:
        return np.zeros((len(stores), 0)), ()
    ranks = table.text(table.need("store_id")).remap({value: i for i, value in enumerate(stores)})
    names = tuple(name for name in table.names if table.is_numeric(name))[:MAX_SHOPPER_COLUMNS]
    result = np.zeros((len(stores), len(names)))
    for column, name in enumerate(names):
        values = table.numbers(name, empty=np.inf)
        known = np.isfinite(values) & (ranks >= 0)
        if known.any():
            mean, spread = float(values[known].mean()), float(values[known].std())
            result[ranks[known], column] = (values[known] - mean) / (spread or 1.0)
    return result, names
