"""Complete Journey as the jobs' plain input folder, at two grains: store x category and cluster x category.

A cluster is a region and a store format. Everything that selects (stores, series, regions, formats, velocity,
popularity of promoted products) looks at data weeks up to 42 only; the weeks that are scored come after.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections import defaultdict
from pathlib import Path

import numpy as np

from domain.segments import velocity_of_products
from samples.complete_journey.journey import CUTOFF_WEEK, FIRST_WEEK, LAST_WEEK, NOT_GOODS, Journey, data_folder, load
from samples.complete_journey.journey import sales_week as week_of
from samples.complete_journey.promotions import promotion_files
from samples.complete_journey.stores import Store, choose_stores

MIN_SELLING_WEEKS = 20
GRAINS = ("store", "cluster")
Cell = tuple[str, str, str]  # place (store or cluster), product, sales week


def write_panels(folder: Path) -> dict[str, Path]:
    """Write one input folder a grain; return them by grain."""
    journey = load()
    stores = choose_stores(journey)
    units = _units(journey, stores)
    promoted = _promotions(journey, stores)
    written = {}
    for grain in GRAINS:
        place = {store.store_id: store.store_id if grain == "store" else f"{store.region}-{store.store_format}"
                 for store in stores}
        weight: dict[str, float] = defaultdict(float)
        for store in stores:
            weight[place[store.store_id]] += store.weekly_units
        written[grain] = _write(folder / grain, journey, stores, place, units, promoted, weight)
    return written


def _units(journey: Journey, stores: tuple[Store, ...]) -> dict[Cell, int]:
    ids = {store.number: store.store_id for store in stores}
    goods = np.array([name not in NOT_GOODS for name in journey.departments])
    usable = (journey.category >= 0) & goods[journey.department] & (journey.week >= 2)
    usable &= np.isin(journey.store, list(ids)) & (journey.units > 0)
    keys = np.stack([journey.store[usable], journey.category[usable], journey.week[usable]], axis=1)
    cells, row = np.unique(keys, axis=0, return_inverse=True)
    sums = np.bincount(row.ravel(), weights=journey.units[usable])
    weeks = {week: str(week_of(week)) for week in range(2, 54)}
    return {
        (ids[int(store)], journey.categories[int(category)].product_id, weeks[int(week)]): int(total)
        for (store, category, week), total in zip(cells, sums, strict=True)
    }


def _promotions(journey: Journey, stores: tuple[Store, ...]) -> dict[Cell, tuple[float, float]]:
    weeks = [FIRST_WEEK.plus(i) for i in range(LAST_WEEK.weeks_since(FIRST_WEEK) + 1)]
    promoted: dict[Cell, tuple[float, float]] = {}
    for file in promotion_files(data_folder(), journey, stores, weeks):
        for row in csv.DictReader(io.StringIO(gzip.decompress(file.data).decode())):
            key = (row["STORE_NBR"], row["ITEM_CD"], file.sales_week)
            promoted[key] = (float(row["DISPLAY_SHARE"]), float(row["MAILER_SHARE"]))
    return promoted


def _write(
    folder: Path, journey: Journey, stores: tuple[Store, ...], place: dict[str, str], units: dict[Cell, int],
    promoted: dict[Cell, tuple[float, float]], weight: dict[str, float],
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    sums: dict[Cell, int] = defaultdict(int)
    for (store, product, week), value in units.items():
        sums[place[store], product, week] += value
    selling: dict[tuple[str, str], int] = defaultdict(int)
    volume: dict[str, float] = defaultdict(float)
    for (own, product, week), value in sums.items():
        if week <= str(CUTOFF_WEEK):
            selling[own, product] += 1
            volume[product] += value
    chosen = {pair for pair, weeks in selling.items() if weeks >= MIN_SELLING_WEEKS}
    velocity = velocity_of_products(volume)
    shares: dict[Cell, list[float]] = defaultdict(lambda: [0.0, 0.0])
    own_weight = {store.store_id: store.weekly_units / weight[place[store.store_id]] for store in stores}
    for (store, product, week), (display, mailer) in promoted.items():
        entry = shares[place[store], product, week]
        entry[0] += display * own_weight[store]
        entry[1] += mailer * own_weight[store]
    rows = sorted((*key, value) for key, value in sums.items() if key[:2] in chosen)
    _csv(folder / "deliveries.csv", ["store_id", "product_id", "sales_week", "units"], rows)
    _csv(folder / "promotions.csv", ["store_id", "product_id", "sales_week", "display_share", "mailer_share"],
         [(*key, f"{display:.4f}", f"{mailer:.4f}") for key, (display, mailer) in sorted(shares.items())
          if key[:2] in chosen])
    _csv(folder / "stores.csv", ["store_id", "region", "store_format"],
         sorted({(place[store.store_id], store.region, store.store_format) for store in stores}))
    _csv(folder / "products.csv", ["product_id", "name", "department", "category", "brand", "velocity"],
         [(entry.product_id, entry.name, entry.department, entry.name, entry.brand, velocity[entry.product_id])
          for entry in journey.categories if entry.product_id in velocity])
    return folder


def _csv(path: Path, header: list[str], rows: list[tuple[object, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
