"""Which stores take part, and the region and format that they are given. Looks at weeks up to the cutoff only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from samples.complete_journey.journey import CUTOFF_DATA_WEEK, Ints, Journey, iso_day
from samples.complete_journey.regions import bisect, shared_households

REGIONS = 14
MIN_SELLING_WEEKS = 26
MIN_HOUSEHOLDS = 10


@dataclass(frozen=True)
class Store:
    """One store of the reference; `weekly_units` is the mean of its selling weeks up to the cutoff."""

    number: int
    region: str
    store_format: str
    opened: date  # first day with sales of goods
    weekly_units: float

    @property
    def store_id(self) -> str:
        """The id as every raw file writes it: five digits with their zeros."""
        return store_text(self.number)


def store_text(number: int) -> str:
    """Return a store number as text with its zeros."""
    return f"{number:05d}"


def choose_stores(journey: Journey) -> tuple[Store, ...]:
    """Return the stores with enough history, sorted by number, with region r01..r14 and format large or small."""
    known = journey.known()
    store, week, household = journey.store[known], journey.week[known], journey.household[known]
    numbers, place = np.unique(store, return_inverse=True)
    weeks = _distinct(place, week, len(numbers))
    last = np.zeros(len(numbers), dtype=np.int64)
    np.maximum.at(last, place, week)
    enough = (
        (weeks >= MIN_SELLING_WEEKS)
        & (_distinct(place, household, len(numbers)) >= MIN_HOUSEHOLDS)
        & (last == CUTOFF_DATA_WEEK)
    )
    chosen = numbers[enough]
    units = np.bincount(place, weights=journey.units[known], minlength=len(numbers))[enough] / weeks[enough]
    opened = np.full(len(numbers), np.iinfo(np.int64).max)
    np.minimum.at(opened, place, journey.day[known])
    area = bisect(shared_households(household, store, chosen), REGIONS)
    median = np.array([np.median(units[area == number]) for number in range(REGIONS)])
    return tuple(
        Store(
            number=int(number),
            region=f"r{area[index] + 1:02d}",
            store_format="large" if units[index] > median[area[index]] else "small",
            opened=iso_day(int(day)),
            weekly_units=float(units[index]),
        )
        for index, (number, day) in enumerate(zip(chosen, opened[enough], strict=True))
    )


def _distinct(place: Ints, value: Ints, size: int) -> Ints:
    """Count the distinct values of every place."""
    span = int(value.max()) + 1
    pairs = np.unique(place * span + value)
    return np.bincount(pairs // span, minlength=size)
