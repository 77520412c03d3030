"""What the invented stores were delivered and sent back, week by week."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

from domain.sales_weeks import SalesWeek
from samples.local_testing import climate
from samples.local_testing.world import FIRST_WEEK, Product, Store, events, products, promotions, stores, stream

_NOISE = 0.10  # spread of a week's mean on the log scale, beside the counting noise
_RETURN_RATE = 0.22  # share of store x product pairs that send something back in a week
_DELIVERY_DAYS = {"large": (1, 4), "small": (2,)}  # Tuesday and Friday; Wednesday


@dataclass(frozen=True)
class Line:
    """One line of a delivery or return document; `day` is None where the raw file has a date that is none."""

    store_id: str
    document: str
    department: str
    product_id: str
    day: date | None
    units: int
    cents: int
    reason: str = ""


@cache
def units_of(week: SalesWeek) -> dict[tuple[str, str], int]:
    """Return the units of a week for every store and product."""
    draw = stream("units", week)
    return {
        (store.store_id, product.product_id): _poisson(
            draw, expected_units(store, product, week) * math.exp(draw.gauss(-(_NOISE**2) / 2, _NOISE))
        )
        for store in stores()
        for product in products()
    }


def expected_units(store: Store, product: Product, week: SalesWeek) -> float:
    """Return the mean that the week's units are drawn around: level x place x season x weather x events x promotion."""
    days = [week.monday + timedelta(days=offset) for offset in range(7)]
    angle = 2 * math.pi * (days[3].timetuple().tm_yday - 196) / 365
    seen = climate.history(store.region)
    above = sum((seen[day].high + seen[day].low) / 2 - climate.norm(store.region, day) for day in days) / 7
    happening = sum(event.touches(week, store.region.name) for event in events())
    display, mailer = promotions(week).get((store.store_id, product.product_id), (0, 0))
    return (
        product.level
        * store.size
        * _taste(store.region.name, product.product_id)
        * (1 + product.summer * math.cos(angle))
        * max(0.5, 1 + product.heat * above / 10)
        * (1 + product.event * min(happening, 2) / 2)
        * (1 + product.promotion * (0.6 * display + 0.4 * mailer) / 100)
    )


def deliveries(week: SalesWeek) -> list[Line]:
    """Return the week's delivery lines, by store, day, product; nothing is delivered where nothing was wanted."""
    draw = stream("deliveries", week)
    units = units_of(week)
    lines = []
    for store in stores():
        days = [week.monday + timedelta(days=offset) for offset in _DELIVERY_DAYS[store.store_format]]
        shares = [_split(draw, units[store.store_id, product.product_id], len(days)) for product in products()]
        for number, day in enumerate(days):
            for product, share in zip(products(), shares, strict=True):
                if share[number]:
                    lines.append(_line("D", store, product, day, share[number]))
    return lines


def returns(week: SalesWeek) -> list[Line]:
    """Return what went back on the week's Monday and Thursday out of the deliveries of the week before."""
    draw = stream("returns", week)
    before = units_of(max(FIRST_WEEK, week.plus(-1)))
    lines = []
    for store in stores():
        for product in products():
            if draw.random() < _RETURN_RATE:
                units = 1 + draw.randrange(max(1, round(0.15 * before[store.store_id, product.product_id])))
                day = week.monday + timedelta(days=draw.choice((0, 3)))
                reason = draw.choices(("STALE", "DAMAGED", "OVERSTOCK"), (6, 2, 3))[0]
                lines.append(_line("R", store, product, day, units, reason))
    return sorted(lines, key=lambda line: (line.document, line.product_id))


def _line(kind: str, store: Store, product: Product, day: date, units: int, reason: str = "") -> Line:
    return Line(
        store_id=store.store_id,
        document=f"{kind}{store.store_id[1:]}{day:%Y%m%d}",
        department=product.department,
        product_id=product.product_id,
        day=day,
        units=units,
        cents=units * product.cents,
        reason=reason,
    )


def _split(draw: random.Random, units: int, parts: int) -> tuple[int, ...]:
    if parts == 1:
        return (units,)
    first = round(units * draw.uniform(0.4, 0.6))
    return (first, units - first)


@cache
def _taste(region: str, product_id: str) -> float:
    return math.exp(stream("taste", region, product_id).gauss(0.0, 0.18))


def _poisson(draw: random.Random, mean: float) -> int:
    """Draw a Poisson count (Knuth's product of uniforms; means here stay far below where it loses precision)."""
    limit, product, count = math.exp(-mean), draw.random(), 0
    while product > limit:
        product *= draw.random()
        count += 1
    return count
