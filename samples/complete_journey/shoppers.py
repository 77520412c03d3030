"""Shopper data per store, shaped like an answer of the Census API; looks at weeks up to the cutoff only.

801 of 2,469 households told their age, income and size (in bands). A store's figures weight each household by
its baskets there; `COVERAGE_SHARE_E` says which share of the baskets comes from households that told.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from samples.complete_journey.journey import CUTOFF_WEEK, Floats, Journey
from samples.complete_journey.stores import Store
from samples.raw_files import RawFile

HEADER = ["HOUSEHOLDS_E", "MEDIAN_INCOME_E", "MEDIAN_AGE_E", "HOUSEHOLD_SIZE_E", "COVERAGE_SHARE_E", "store"]
TOO_FEW = "-666666666"  # the Census Bureau's jam value: too few sample observations
MIN_HOUSEHOLDS = 5

Band = tuple[float, float]
_INCOME: dict[str, Band] = {
    "Under 15K": (0, 15), "15-24K": (15, 25), "25-34K": (25, 35), "35-49K": (35, 50), "50-74K": (50, 75),
    "75-99K": (75, 100), "100-124K": (100, 125), "125-149K": (125, 150), "150-174K": (150, 175),
    "175-199K": (175, 200), "200-249K": (200, 250), "250K+": (250, 350),
}  # fmt: skip
_AGE: dict[str, Band] = {
    "19-24": (19, 25), "25-34": (25, 35), "35-44": (35, 45), "45-54": (45, 55), "55-64": (55, 65), "65+": (65, 85),
}  # fmt: skip
_SIZE = {"1": 1.0, "2": 2.0, "3": 3.0, "4": 4.0, "5+": 5.5}


def shoppers_file(folder: Path, journey: Journey, stores: tuple[Store, ...]) -> RawFile:
    """Return the snapshot of the cutoff week: row 0 header, then one row of strings a store."""
    told = {row["household_id"]: row for row in pq.read_table(folder / "demographics.parquet").to_pylist()}
    rows = [HEADER]
    for store, baskets in zip(stores, _baskets(journey, stores), strict=True):
        known = {household: count for household, count in baskets.items() if household in told}
        share = sum(known.values()) / sum(baskets.values())
        figures = [TOO_FEW] * 3
        if len(known) >= MIN_HOUSEHOLDS:
            weights = np.array(list(known.values()), dtype=np.float64)
            people = [told[household] for household in known]
            income = banded_median([_INCOME[person["income"]] for person in people], weights)
            age = banded_median([_AGE[person["age"]] for person in people], weights)
            size = float(np.average([_SIZE[person["household_size"]] for person in people], weights=weights))
            figures = [f"{income * 1000:.0f}", f"{age:.1f}", f"{size:.2f}"]
        rows.append([str(len(baskets)), *figures, f"{share:.4f}", store.store_id])
    text = "[" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "]\n"
    return RawFile("shoppers", str(CUTOFF_WEEK), f"acs_stores_{CUTOFF_WEEK}.json", text.encode())


def banded_median(bands: list[Band], weights: Floats) -> float:
    """Return the weighted median of values known only by their band, spread evenly inside it."""
    half = float(weights.sum()) / 2
    below = 0.0
    low, high = 0.0, 0.0
    for low, high in sorted(set(bands)):
        inside = float(sum(weight for band, weight in zip(bands, weights, strict=True) if band == (low, high)))
        if below + inside >= half:
            return low + (high - low) * (half - below) / inside
        below += inside
    return high


def _baskets(journey: Journey, stores: tuple[Store, ...]) -> list[dict[int, int]]:
    """Count the baskets of every household in every store, up to the cutoff."""
    known = journey.known()
    _, first = np.unique(journey.basket[known], return_index=True)  # a basket is one household's in one store
    counts: dict[int, dict[int, int]] = {store.number: {} for store in stores}
    for store, household in zip(
        journey.store[known][first].tolist(), journey.household[known][first].tolist(), strict=True
    ):
        if store in counts:
            counts[store][household] = counts[store].get(household, 0) + 1
    return [counts[store.number] for store in stores]
