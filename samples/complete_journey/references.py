"""Snapshots of the cutoff week: the stores, the products, and the calendar of special events."""

from __future__ import annotations

import csv
import io
from datetime import date
from pathlib import Path

import holidays
import pyarrow.parquet as pq

from samples.calendar_files import CalendarEvent, calendar_bytes
from samples.complete_journey.journey import CUTOFF_WEEK, Journey
from samples.complete_journey.stores import Store
from samples.raw_files import RawFile

YEAR = 2017

_AISLES = {
    "Fresh": ("PRODUCE", "MEAT", "SEAFOOD", "DELI", "PASTRY", "SALAD BAR", "CHEF SHOPPE", "FLORAL"),
    "Packaged fresh": ("MEAT-PCKGD", "SEAFOOD-PCKGD"),
    "Grocery": ("GROCERY", "FROZEN GROCERY", "SPIRITS"),
    "Health and home": ("DRUG GM", "COSMETICS", "NUTRITION", "TOYS", "GARDEN CENTER"),
}
_AISLE_OF = {department: aisle for aisle, departments in _AISLES.items() for department in departments}


def stores_file(stores: tuple[Store, ...]) -> RawFile:
    """Return the reference of the chosen stores."""
    rows = [[store.store_id, store.region, store.store_format, store.opened.isoformat()] for store in stores]
    return _csv("stores", ["STORE_NBR", "REGION", "FORMAT", "OPENED"], rows)


def products_file(journey: Journey) -> RawFile:
    """Return the reference of all categories, also of those that are not goods; pack size 1: single units."""
    rows = [
        [entry.product_id, entry.name, entry.department, _AISLE_OF.get(entry.department, "Other"), entry.brand, "1"]
        for entry in journey.categories
    ]
    return _csv("products", ["ITEM_CD", "ITEM_NAME", "DEPARTMENT", "CATEGORY", "BRAND", "PACK"], rows)


def events_file(folder: Path) -> RawFile:
    """Return the year's calendar: campaigns, public holidays, other observed days, and the day all stores close."""
    events = [
        CalendarEvent(
            uid=f"campaign-{row['campaign_id']:02d}@{YEAR}",
            name=f"Campaign {row['campaign_id']}, {row['campaign_type']}",
            kind="campaign",
            first=row["start_date"].date(),
            last=row["end_date"].date(),
        )
        for row in pq.read_table(folder / "campaign_descriptions.parquet").to_pylist()
    ]
    for kind, category in (("public_holiday", "public"), ("observance", "unofficial")):
        for day, name in holidays.country_holidays("US", years=YEAR, categories=(category,)).items():
            events.append(CalendarEvent(f"{kind}-{day}@{YEAR}", name, kind, day, day))
    christmas = date(YEAR, 12, 25)
    events.append(CalendarEvent(f"closed-{christmas}@{YEAR}", "All stores closed", "closed", christmas, christmas))
    events.sort(key=lambda event: (event.first, event.uid))
    return RawFile("special_events", str(CUTOFF_WEEK), f"events_{CUTOFF_WEEK}.ics", calendar_bytes(events))


def _csv(source: str, header: list[str], rows: list[list[str]]) -> RawFile:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return RawFile(source, str(CUTOFF_WEEK), f"{source}_{CUTOFF_WEEK}.csv", text.getvalue().encode())
