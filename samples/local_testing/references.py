"""Snapshots (stores, products, shoppers, special events) and the weekly promotions."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from datetime import date

from domain.sales_weeks import SalesWeek
from samples.calendar_files import CalendarEvent, calendar_bytes
from samples.local_testing.faults import UNKNOWN_STORE, Dropped, spoil
from samples.local_testing.spreadsheets import Cell, workbook_bytes
from samples.local_testing.world import (
    FIRST_WEEK,
    PLANNED_WEEKS,
    Product,
    Store,
    events,
    products,
    promotions,
    stores,
    stream,
)
from samples.raw_files import RawFile, gzipped

SECOND_SNAPSHOT = SalesWeek(2017, 31)  # the same facts once more, in another dialect
_TOO_FEW = "-666666666"  # the Census Bureau's jam value


def reference_drops() -> list[Dropped]:
    """Return every snapshot of stores, products, shoppers and special events."""
    return [
        _stores(),
        _products_csv(),
        _products_workbook(),
        _shoppers_json(),
        _shoppers_csv(),
        _events_calendar(),
        _events_csv(),
    ]


def promotion_drops() -> list[Dropped]:
    """Return the promotions of every week, the next two planned weeks included."""
    return [_promotions(week) for week in PLANNED_WEEKS]


def _csv(rows: list[list[str]], newline: str = "\n", delimiter: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator=newline, delimiter=delimiter).writerows(rows)
    return text.getvalue()


def _stores() -> Dropped:
    def row(store: Store) -> list[str]:
        letter = store.store_format[0].upper()
        opened = store.opened.strftime("%d.%m.%Y")
        return [store.store_id, store.name, store.region.name, letter, store.region.zip_code, opened, ""]

    rows, faults = spoil(
        [row(store) for store in stores()],
        {
            "unknown_format": lambda good: ["S99991", *good[1:3], "M", *good[4:]],
            "bad_date": lambda good: ["S99992", *good[1:5], "31.02.2010", ""],
        },
        stream("store faults"),
    )
    header = ["Store", "Name", "Region", "Format", "ZIP", "Opened", "Closed"]
    data = _csv([header, *rows], "\r\n", ";").encode("cp1252")
    return Dropped(RawFile("stores", str(FIRST_WEEK), f"filialen_{FIRST_WEEK}.csv", data), len(rows), faults)


def _product_rows(draw_name: str) -> tuple[list[list[str]], dict[str, int]]:
    def row(product: Product) -> list[str]:
        texts = [product.product_id, product.name, product.department, product.category, product.brand]
        return [*texts, str(product.pack_size)]

    # Listed and never delivered: a pack size of their own is not given, so the default (1) holds.
    listed = [
        [f"P{number:05d}", f"Listed only {number:02d}", "SNACKS", "Seasonal", "Crisply", ""] for number in range(1, 16)
    ]
    return spoil(
        [*(row(product) for product in products()), *listed],
        {
            "missing_name": lambda good: ["P99991", "", *good[2:]],
        },
        stream(draw_name),
    )


def _products_csv() -> Dropped:
    rows, faults = _product_rows("product faults")
    header = ["ITEM_CD", "ITEM_NAME", "DEPARTMENT", "CATEGORY", "BRAND", "PACK"]
    data = _csv([header, *rows]).encode()
    return Dropped(RawFile("products", str(FIRST_WEEK), f"products_{FIRST_WEEK}.csv", data), len(rows), faults)


def _products_workbook() -> Dropped:
    rows, faults = _product_rows("product workbook faults")
    cells: list[list[Cell]] = [["Item", "Name", "Department", "Category", "Brand", "Pack size"]]
    for row in rows:
        pack: Cell = int(row[5]) if row[5].lstrip("-").isdigit() else row[5]
        cells.append([*(text or None for text in row[:5]), pack])
    name = f"products_{SECOND_SNAPSHOT}.xlsx"
    return Dropped(RawFile("products", str(SECOND_SNAPSHOT), name, workbook_bytes({"Items": cells})), len(rows), faults)


@dataclass(frozen=True)
class _Shoppers:
    """Shopper figures of a store: income in dollars, coverage as a share; None where too few people told."""

    store_id: str
    households: int
    figures: tuple[float | None, float | None, float | None]  # median income, median age, household size
    coverage: float

    def texts(self, none: str) -> list[str]:
        return [none if figure is None else f"{figure:.10g}" for figure in self.figures]


def _shoppers() -> list[_Shoppers]:
    draw = stream("shoppers")
    found = []
    for number, store in enumerate(stores()):
        households = round(900 * store.size * draw.uniform(0.8, 1.2))
        told = (round(draw.gauss(58_000, 12_000)), round(draw.gauss(43, 5), 1), round(draw.gauss(2.5, 0.3), 2))
        figures = (None, None, None) if number % 30 == 7 else told
        found.append(_Shoppers(store.store_id, households, figures, round(draw.uniform(0.25, 0.6), 4)))
    return found


def _shoppers_json() -> Dropped:
    rows = [[str(row.households), *row.texts(_TOO_FEW), f"{row.coverage:.4f}", row.store_id] for row in _shoppers()]
    spoiled, faults = spoil(
        rows,
        {
            "unknown_store": lambda good: [*good[:5], UNKNOWN_STORE],
            "missing_store": lambda good: [*good[:5], ""],
            "income_is_text": lambda good: [good[0], "n/a", *good[2:5], "S99991"],
        },
        stream("shopper faults"),
    )
    header = ["HOUSEHOLDS_E", "MEDIAN_INCOME_E", "MEDIAN_AGE_E", "HOUSEHOLD_SIZE_E", "COVERAGE_SHARE_E", "store"]
    text = "[" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in [header, *spoiled]) + "]\n"
    name = f"acs_stores_{FIRST_WEEK}.json"
    return Dropped(RawFile("shoppers", str(FIRST_WEEK), name, text.encode()), len(spoiled), faults)


def _shoppers_csv() -> Dropped:
    rows = [[row.store_id, str(row.households), *row.texts(""), f"{row.coverage * 100:.2f}"] for row in _shoppers()]
    spoiled, faults = spoil(
        rows,
        {
            "unknown_store": lambda good: [UNKNOWN_STORE, *good[1:]],
            "missing_store": lambda good: ["", *good[1:]],
            "coverage_above_one": lambda good: ["S99991", *good[1:5], "140.00"],
        },
        stream("shopper csv faults"),
    )
    header = ["store", "households", "median_income", "median_age", "household_size", "coverage_pct"]
    name = f"shoppers_{SECOND_SNAPSHOT}.csv"
    data = _csv([header, *spoiled]).encode()
    return Dropped(RawFile("shoppers", str(SECOND_SNAPSHOT), name, data), len(spoiled), faults)


def _events_calendar() -> Dropped:
    found = [
        CalendarEvent(event.event_id, event.name, event.kind, event.first, event.last, event.region)
        for event in events()
    ]
    saturday = date(2017, 9, 9)
    found.append(CalendarEvent("E200", "Home game", "sport", saturday, saturday, "r05", rule="FREQ=WEEKLY;COUNT=3"))
    called_off = date(2017, 6, 17)
    found.append(CalendarEvent("E201", "Parade", "sport", called_off, called_off, "r02", status="CANCELLED"))
    found.append(found[0])
    extra = [
        *("BEGIN:VEVENT", "UID:E901", "DTSTAMP:20170101T000000Z", "DTSTART;VALUE=DATE:20171332"),
        *("SUMMARY:A day that is none", "CATEGORIES:SPORT", "END:VEVENT"),
    ]
    name = f"events_{FIRST_WEEK}.ics"
    faults = {"bad_date": 1, "duplicate": 1, "cancelled": 1}
    data = calendar_bytes(found, extra)
    return Dropped(RawFile("special_events", str(FIRST_WEEK), name, data), len(found) + 1, faults)


def _events_csv() -> Dropped:
    rows = [
        [event.event_id, event.name, event.kind, str(event.first), str(event.last), event.region] for event in events()
    ]
    for number, day in enumerate(("2017-09-09", "2017-09-16", "2017-09-23"), start=1):
        rows.append([f"E200-{number}", "Home game", "sport", day, day, "r05"])
    spoiled, faults = spoil(
        rows,
        {
            "ends_before_it_starts": lambda good: ["E901", *good[1:3], "2017-06-02", "2017-06-01", good[5]],
        },
        stream("event faults"),
    )
    name = f"events_{SECOND_SNAPSHOT}.csv"
    data = _csv([["event_id", "name", "kind", "start_date", "end_date", "region"], *spoiled]).encode()
    return Dropped(RawFile("special_events", str(SECOND_SNAPSHOT), name, data), len(spoiled), faults)


def _promotions(week: SalesWeek) -> Dropped:
    monday = week.monday.strftime("%m/%d/%Y")
    rows = [
        [store_id, product_id, monday, str(display), str(mailer)]
        for (store_id, product_id), (display, mailer) in sorted(promotions(week).items())
    ]
    spoiled, faults = spoil(
        rows,
        {
            "bad_date": lambda good: [*good[:2], "13/32/2017", *good[3:]],
            "unknown_store": lambda good: [UNKNOWN_STORE, *good[1:]],
            "share_above_one": lambda good: ["S99991", *good[1:3], "140", good[4]],
            "missing_product": lambda good: [good[0], "", *good[2:]],
        },
        stream("promotion faults", week),
    )
    data = gzipped(_csv([["store", "item", "week_start", "display_pct", "mailer_pct"], *spoiled]).encode())
    return Dropped(RawFile("promotions", str(week), f"promo_{week}.csv.gz", data), len(spoiled), faults)
