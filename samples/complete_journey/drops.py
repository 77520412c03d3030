"""All raw drops of the Complete Journey, source by source, in the order in which they would arrive."""

from __future__ import annotations

from collections.abc import Iterator

from domain.errors import BadRequest
from domain.sales_weeks import SalesWeek, weeks_between
from samples.complete_journey.deliveries import delivery_files
from samples.complete_journey.journey import FIRST_WEEK, LAST_WEEK, data_folder, load
from samples.complete_journey.promotions import promotion_files
from samples.complete_journey.references import events_file, products_file, stores_file
from samples.complete_journey.shoppers import shoppers_file
from samples.complete_journey.stores import choose_stores
from samples.raw_files import RawFile


def parse_weeks(text: str) -> tuple[SalesWeek, SalesWeek]:
    """Read `2017-W01..2017-W44` (or one week); raise BadRequest outside the weeks that the data covers."""
    first_text, _, last_text = text.partition("..")
    first = SalesWeek.parse(first_text)
    last = SalesWeek.parse(last_text) if last_text else first
    if not FIRST_WEEK <= first <= last <= LAST_WEEK:
        raise BadRequest(
            f"weeks {text!r}: the data covers {FIRST_WEEK}..{LAST_WEEK}, first week first",
            field="weeks", value=text, remedy=f"choose weeks inside {FIRST_WEEK}..{LAST_WEEK}",
        )  # fmt: skip
    return first, last


def raw_drops(first: SalesWeek = FIRST_WEEK, last: SalesWeek = LAST_WEEK, ahead: int = 1) -> Iterator[RawFile]:
    """Yield what would have landed by the end of week `last`: snapshots, deliveries, promotions.

    `ahead` more weeks of promotions follow: they are planned, so the weeks to forecast have them. The snapshots
    carry the week 2017-W41 whatever weeks are asked for, since they are made of the data up to that week.
    """
    folder = data_folder()
    journey = load(folder)
    stores = choose_stores(journey)
    yield stores_file(stores)
    yield products_file(journey)
    yield events_file(folder)
    yield shoppers_file(folder, journey, stores)
    yield from delivery_files(journey, list(weeks_between(first, last)))
    planned = min(last.plus(ahead), LAST_WEEK)
    yield from promotion_files(folder, journey, stores, list(weeks_between(first, planned)))
