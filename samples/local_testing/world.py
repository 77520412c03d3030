"""The invented business behind the local testing data: regions, stores, products, events, promotions.

Nothing in it is real. Ids are one-way hashes of the names of invented things. Every random draw comes from a stream
of its own (`stream`), so a change in one part leaves the others' bytes alone.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

from domain.sales_weeks import SalesWeek, weeks_between

SEED = 2017
FIRST_WEEK = SalesWeek(2017, 13)
LAST_HISTORY_WEEK = SalesWeek(2017, 44)
LAST_WEEK = SalesWeek(2017, 46)  # actuals of the two weeks after the history, to judge forecasts by
WEEKS = tuple(weeks_between(FIRST_WEEK, LAST_WEEK))
PLANNED_WEEKS = tuple(weeks_between(FIRST_WEEK, LAST_WEEK.plus(2)))  # promotions are known ahead

FORMATS = ("large", "small")
STORES_PER_FORMAT = 2


def stream(*purpose: object) -> random.Random:
    """Return the random numbers of one purpose; the same on every machine."""
    return random.Random(":".join(map(str, (SEED, *purpose))))


def hashed_id(prefix: str, digits: int, name: str, taken: set[str]) -> str:
    """Return a one-way id of `name` and remember it in `taken`; a clash takes the next hash."""
    attempt = 0
    while True:
        digest = hashlib.blake2b(f"{SEED}|{name}|{attempt}".encode(), digest_size=8).digest()
        found = prefix + str(int.from_bytes(digest) % 10**digits).zfill(digits)
        if found not in taken and int(found[len(prefix) :]) > 0:
            taken.add(found)
            return found
        attempt += 1


@dataclass(frozen=True)
class Region:
    """A sales region with one weather station; degrees Celsius."""

    name: str
    zip_code: str
    latitude: float
    longitude: float
    mean_temperature: float
    swing: float  # half the difference between midsummer and midwinter

    @property
    def station_id(self) -> str:
        """GHCN style id, from which the zip can be read: `USSHC` + zip + `0`."""
        return f"USSHC{self.zip_code}0"


@dataclass(frozen=True)
class Store:
    """A store; `size` scales what it sells."""

    store_id: str
    name: str
    region: Region
    store_format: str
    opened: date
    size: float


@dataclass(frozen=True)
class Product:
    """A product and what moves it: the levels are units a week in a large store."""

    product_id: str
    name: str
    department: str
    category: str
    brand: str
    pack_size: int
    cents: int
    level: float
    summer: float  # share more in midsummer than on average
    heat: float  # share more per 10 degrees above the season's norm
    event: float  # share more in a week with an event
    promotion: float  # share more when fully displayed


_PRODUCTS = (
    # name, department, category, brand, pack, cents, level, summer, heat, event, promotion
    ("Potato chips, salted 200 g", "SNACKS", "Salty snacks", "Crisply", 12, 249, 64.0, 0.10, 0.05, 0.35, 0.70),
    ("Tortilla chips 300 g", "SNACKS", "Salty snacks", "Crisply", 12, 329, 52.0, 0.18, 0.06, 0.45, 0.80),
    ("Cola 6 x 0.33 l", "BEVERAGES", "Soft drinks", "Fizzo", 6, 399, 58.0, 0.30, 0.16, 0.25, 0.90),
    ("Still water 6 x 1.5 l", "BEVERAGES", "Water", "Quellen", 6, 289, 70.0, 0.42, 0.25, 0.05, 0.35),
    ("Toast bread 500 g", "BAKERY", "Bread", "Morgen", 8, 179, 48.0, -0.05, 0.00, 0.15, 0.45),
    ("Vegetable crisps 120 g", "SNACKS", "Salty snacks", "Crisply", 10, 359, 12.0, 0.12, 0.04, 0.30, 0.70),
    ("Tonic water 4 x 0.2 l", "BEVERAGES", "Soft drinks", "Fizzo", 6, 449, 13.5, 0.25, 0.12, 0.30, 0.60),
    ("Gingerbread 400 g", "BAKERY", "Cake", "Morgen", 8, 429, 10.5, -0.45, -0.05, 0.40, 0.60),
    ("Salsa dip, mild 250 g", "SNACKS", "Dips", "Crisply", 6, 279, 14.5, 0.15, 0.05, 0.40, 0.75),
    ("Crème cake slices 300 g", "BAKERY", "Cake", "Morgen", 6, 389, 11.0, -0.10, -0.04, 0.20, 0.50),
)


@dataclass(frozen=True)
class Event:
    """A special event; `region` is empty where it is everywhere."""

    event_id: str
    name: str
    kind: str
    first: date
    last: date
    region: str = ""

    def touches(self, week: SalesWeek, region: str) -> bool:
        """Return whether the event falls into the week, in that region."""
        return self.region in ("", region) and self.first <= week.sunday and self.last >= week.monday


@cache
def regions() -> tuple[Region, ...]:
    """Return the fourteen regions, r01..r14."""
    draw = stream("regions")
    taken: set[str] = set()
    found = []
    for number in range(1, 15):
        latitude = 30.0 + 1.25 * number + draw.uniform(-0.4, 0.4)
        found.append(
            Region(
                name=f"r{number:02d}",
                zip_code=hashed_id("000", 2, f"zip {number}", taken),  # no real zip starts with 000
                latitude=round(latitude, 4),
                longitude=round(-120.0 + 3.6 * number + draw.uniform(-1, 1), 4),
                mean_temperature=round(27.0 - 0.45 * latitude + draw.uniform(-1, 1), 1),
                swing=round(4.0 + 0.2 * latitude + draw.uniform(-0.5, 0.5), 1),
            )
        )
    return tuple(found)


@cache
def stores() -> tuple[Store, ...]:
    """Return two stores for every region and format, sorted by id."""
    draw = stream("stores")
    taken: set[str] = set()
    found = []
    for region in regions():
        for store_format in FORMATS:
            for number in range(1, STORES_PER_FORMAT + 1):
                name = f"{'Markt' if store_format == 'large' else 'Kiosk'} Straße {region.name[1:]}/{number}"
                scale = 1.0 if store_format == "large" else 0.5
                found.append(
                    Store(
                        store_id=hashed_id("S", 5, f"store {region.name} {store_format} {number}", taken),
                        name=name,
                        region=region,
                        store_format=store_format,
                        opened=date(2009 + draw.randrange(8), 1 + draw.randrange(12), 1 + draw.randrange(28)),
                        size=scale * math.exp(draw.gauss(0.0, 0.15)),
                    )
                )
    return tuple(sorted(found, key=lambda store: store.store_id))


@cache
def products() -> tuple[Product, ...]:
    """Return the ten products: five fast, then five slow."""
    taken: set[str] = set()
    return tuple(Product(hashed_id("P", 5, f"product {row[0]}", taken), *row) for row in _PRODUCTS)


@cache
def events() -> tuple[Event, ...]:
    """Return the year's events that the stores feel."""
    everywhere = (
        ("Easter Sunday", "public_holiday", date(2017, 4, 16), date(2017, 4, 16)),
        ("Memorial Day", "public_holiday", date(2017, 5, 29), date(2017, 5, 29)),
        ("Independence Day", "public_holiday", date(2017, 7, 4), date(2017, 7, 4)),
        ("Back to school", "school", date(2017, 8, 14), date(2017, 8, 27)),
        ("Labor Day", "public_holiday", date(2017, 9, 4), date(2017, 9, 4)),
        ("Halloween, the night of sweets", "observance", date(2017, 10, 31), date(2017, 10, 31)),
        ("Veterans Day", "public_holiday", date(2017, 11, 11), date(2017, 11, 11)),
        ("Thanksgiving Day", "public_holiday", date(2017, 11, 23), date(2017, 11, 23)),
        ("Spring campaign", "campaign", date(2017, 5, 8), date(2017, 5, 21)),
        ("Autumn campaign", "campaign", date(2017, 10, 2), date(2017, 10, 15)),
    )
    found = [Event(f"E{number:03d}", *entry) for number, entry in enumerate(everywhere, start=1)]
    draw = stream("events")
    for region in regions():
        number, week, holiday = region.name[1:], draw.choice(WEEKS), draw.choice(WEEKS)
        friday = week.monday + timedelta(days=4)
        name = f"Street food festival {region.name}"
        found.append(Event(f"E1{number}", name, "sport", friday, week.sunday, region.name))
        name = f"School holiday {region.name}"
        found.append(
            Event(f"E3{number}", name, "school", holiday.monday, holiday.monday + timedelta(days=4), region.name)
        )
    return tuple(sorted(found, key=lambda event: (event.first, event.event_id)))


@cache
def promotions(week: SalesWeek) -> dict[tuple[str, str], tuple[int, int]]:
    """Return (store, product) -> (display, mailer) in percent for the promoted ones of a week.

    Mailers go to a whole region; displays are built store by store, more often where a mailer went.
    """
    draw = stream("promotions", week)
    found: dict[tuple[str, str], tuple[int, int]] = {}
    mailed = {
        (region.name, product.product_id): draw.choice((40, 60, 80, 100))
        for region in regions()
        for product in products()
        if draw.random() < 0.14
    }
    for store in stores():
        for product in products():
            mailer = mailed.get((store.region.name, product.product_id), 0)
            chance = 0.5 if mailer else 0.06
            display = draw.choice((25, 50, 75, 100)) if draw.random() < chance else 0
            if display or mailer:
                found[store.store_id, product.product_id] = (display, mailer)
    return found
