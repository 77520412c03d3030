"""A small input folder with everything in it: two regions, two formats, promotions, events, weather, returns."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from domain.sales_weeks import SalesWeek

FIRST = SalesWeek(2017, 1)
WEEKS = 40
CUTOFF = FIRST.plus(WEEKS - 1)
STORES = {"001": ("r01", "large"), "002": ("r01", "large"), "003": ("r01", "small"), "004": ("r02", "large"),
          "005": ("r02", "small"), "006": ("r02", "small")}
PRODUCTS = {f"p{i:02d}": ("fast" if i < 6 else "slow") for i in range(12)}


@dataclass
class SmallFolder:
    """Tables as rows of dicts; change them, then write."""

    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in self.tables.items():
            with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as handle:
                writer = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        return folder


def small_folder(*, weeks: int = WEEKS, ahead: int = 1, seed: int = 3) -> SmallFolder:
    """Demand: a level by store and product that grows, a promotion that lifts it by half, Poisson noise."""
    generator = np.random.default_rng(seed)
    deliveries, promotions, returns = [], [], []
    for store, (_, store_format) in STORES.items():
        for product, velocity in PRODUCTS.items():
            level = (6.0 if velocity == "fast" else 1.6) * (1.5 if store_format == "large" else 0.8)
            level *= float(generator.uniform(0.7, 1.4))
            for index in range(weeks + ahead):
                week = str(FIRST.plus(index))
                promoted = generator.random() < 0.15
                if promoted:
                    promotions.append({"store_id": store, "product_id": product, "sales_week": week,
                                       "display_share": 1.0, "mailer_share": 0.5})
                trend = 0.5 + 0.025 * index
                units = int(generator.poisson(level * trend * (1.5 if promoted else 1.0)))
                if index < weeks and units:
                    deliveries.append({"store_id": store, "product_id": product, "sales_week": week, "units": units})
                    if generator.random() < 0.1:
                        returns.append({"store_id": store, "product_id": product, "sales_week": week, "units": 1})
    stores = [{"store_id": store, "region": region, "store_format": store_format, "zip": f"9{region[1:]}"}
              for store, (region, store_format) in STORES.items()]
    products = [{"product_id": product, "name": f"Product {product}", "department": "GROCERY",
                 "category": f"c{i % 3}", "brand": "own", "pack_size": 6, "velocity": velocity}
                for i, (product, velocity) in enumerate(PRODUCTS.items())]
    weather = [{"zip": zip_code, "sales_week": str(FIRST.plus(index)), "origin": origin,
                "tmax_c": round(15 + 10 * np.sin(index / 8), 2), "tmin_c": 5.0, "precip_mm": 3.0, "snow_mm": 0.0,
                "wind_ms": 4.0}
               for zip_code in ("901", "902") for index in range(weeks + ahead)
               for origin in (("history",) if index < weeks else ("forecast",))]
    events = [{"sales_week": str(FIRST.plus(index)), "event": "pay week", "kind": "calendar", "days": 1, "region": ""}
              for index in range(0, weeks + ahead, 3)]
    shoppers = [{"store_id": store, "households": 100 + 10 * i, "median_income": 50_000 - 1000 * i}
                for i, store in enumerate(STORES)]
    return SmallFolder({
        "deliveries": deliveries, "returns": returns, "stores": stores, "products": products,
        "promotions": promotions, "special_events": events, "weather": weather, "shoppers": shoppers,
    })
