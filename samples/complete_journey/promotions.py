"""Promotions: the share of a category that a store shows on display or in the mailer, weighted by popularity.

A product's weight is its share of its category's units up to the cutoff, so a promoted best-seller counts for
more than a promoted rarity. Promotions are planned ahead: the week to forecast has its file too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from domain.sales_weeks import SalesWeek
from samples.complete_journey.journey import Floats, Ints, Journey, Marks, data_week, sales_week
from samples.complete_journey.stores import Store
from samples.raw_files import RawFile, gzipped

HEADER = "STORE_NBR,ITEM_CD,WEEK_START,DISPLAY_SHARE,MAILER_SHARE\n"
_BATCH_ROWS = 1 << 20
_HALF_A_UNIT = 5e-5  # shares are written with four decimals; what rounds to nothing is left out


@dataclass(frozen=True)
class _Listing:
    """Promoted products of some weeks: aligned columns; key = store place x products + product place."""

    week: Ints
    key: Ints
    display: Marks
    mailer: Marks

    def only(self, mask: Marks) -> _Listing:
        return _Listing(self.week[mask], self.key[mask], self.display[mask], self.mailer[mask])

    def plus(self, other: _Listing) -> _Listing:
        return _Listing(
            np.concatenate([self.week, other.week]),
            np.concatenate([self.key, other.key]),
            np.concatenate([self.display, other.display]),
            np.concatenate([self.mailer, other.mailer]),
        )


def popularity(journey: Journey) -> Floats:
    """Return every product's share of its category's units up to the cutoff, aligned with `journey.products`."""
    known = journey.known()
    place = np.searchsorted(journey.products, journey.product[known])
    units = np.bincount(place, weights=journey.units[known], minlength=len(journey.products))
    category = np.where(journey.product_category >= 0, journey.product_category, len(journey.categories))
    total = np.bincount(category, weights=units, minlength=len(journey.categories) + 1)[category]
    return np.divide(units, total, out=np.zeros_like(units), where=total > 0)


def promotion_files(
    folder: Path, journey: Journey, stores: tuple[Store, ...], weeks: list[SalesWeek]
) -> Iterator[RawFile]:
    """Yield one gzipped CSV a week, rows by store and category; only known stores, only goods once sold."""
    numbers = np.array([store.number for store in stores], dtype=np.int64)
    weight = popularity(journey)
    for week, listing in _by_week(folder, journey, numbers, weight, weeks):
        lines = [HEADER]
        on_display = _shares(listing.key[listing.display], journey, weight, len(numbers))
        in_mailer = _shares(listing.key[listing.mailer], journey, weight, len(numbers))
        for cell in np.flatnonzero((on_display >= _HALF_A_UNIT) | (in_mailer >= _HALF_A_UNIT)).tolist():
            store, category = divmod(cell, len(journey.categories))
            lines.append(
                f"{stores[store].store_id},{journey.categories[category].product_id},{week.monday},"
                f"{min(on_display[cell], 1.0):.4f},{min(in_mailer[cell], 1.0):.4f}\n"
            )
        yield RawFile("promotions", str(week), f"promotions_{week}.csv.gz", gzipped("".join(lines).encode()))


def _shares(keys: Ints, journey: Journey, weight: Floats, stores: int) -> Floats:
    """Add up the weights per store x category; a product listed twice (two displays) counts once."""
    distinct = np.unique(keys)
    product = distinct % len(journey.products)
    cell = distinct // len(journey.products) * len(journey.categories) + journey.product_category[product]
    sums = np.bincount(cell, weights=weight[product], minlength=stores * len(journey.categories))
    return sums.astype(np.float64)


def _by_week(
    folder: Path, journey: Journey, numbers: Ints, weight: Floats, weeks: list[SalesWeek]
) -> Iterator[tuple[SalesWeek, _Listing]]:
    """Yield every wanted week's listing; the file is sorted by week, so one pass in batches is enough."""
    wanted = sorted(data_week(week) for week in weeks)
    nothing = np.zeros(0, dtype=np.int64)
    pending = _Listing(nothing, nothing, nothing.astype(np.bool_), nothing.astype(np.bool_))
    for batch in pq.ParquetFile(folder / "promotions.parquet").iter_batches(_BATCH_ROWS):
        if not wanted:
            return
        reached = batch["week"][-1].as_py()
        if reached >= wanted[0]:
            pending = pending.plus(_narrow(batch, journey, numbers, weight))
        while wanted and wanted[0] < reached:
            week = wanted.pop(0)
            yield sales_week(week), pending.only(pending.week == week)
            pending = pending.only(pending.week > week)
    for week in wanted:
        yield sales_week(week), pending.only(pending.week == week)


def _narrow(batch: pa.RecordBatch, journey: Journey, numbers: Ints, weight: Floats) -> _Listing:
    """Keep known stores and products that have a weight."""
    store, product = batch["store_id"].to_numpy(), batch["product_id"].to_numpy()
    store_place = np.minimum(np.searchsorted(numbers, store), len(numbers) - 1)
    product_place = np.minimum(np.searchsorted(journey.products, product), len(journey.products) - 1)
    keep = (numbers[store_place] == store) & (journey.products[product_place] == product)
    keep &= (weight[product_place] > 0) & (journey.product_category[product_place] >= 0)
    return _Listing(
        week=batch["week"].to_numpy(),
        key=store_place * len(journey.products) + product_place,
        display=pc.not_equal(batch["display_location"], "0").to_numpy(zero_copy_only=False),
        mailer=pc.not_equal(batch["mailer_location"], "0").to_numpy(zero_copy_only=False),
    ).only(keep)
