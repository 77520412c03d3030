"""What is known before the week begins: events, promotions, other flags, and the weather forecast.

These tables may hold weeks after the cutoff; weeks beyond the horizon are ignored. For a week after the cutoff only
weather that was *forecast* is read, never weather that was measured.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ml_jobs.forecasting.tables import (
    IntArray,
    Table,
    extra_columns,
    read_optional,
)

Matrix = np.ndarray[Any, np.dtype[np.float32]]
MAX_FLAGS = 20  # more known-future columns than this would only add noise and memory
MAX_EVENT_NAMES = 12
RECURRENT = 10  # an event seen in fewer history weeks than this teaches noise (measured on a year of holidays)
WEATHER = ("tmax_c", "tmin_c", "precip_mm", "snow_mm", "wind_ms")
FLAG_FILES = ("promotions.csv", "events.csv", "known_future.csv")


@dataclass(frozen=True)
class Index:
    """Where weeks, stores and series live in the matrices."""

    first_week: int
    weeks: int
    horizon: int
    stores: tuple[str, ...]
    products: tuple[str, ...]
    store_of: IntArray
    product_of: IntArray
    store_labels: dict[str, tuple[str, ...]]
    store_rank: dict[str, int] = field(init=False)
    product_rank: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        """Number stores and products once."""
        object.__setattr__(self, "store_rank", {value: i for i, value in enumerate(self.stores)})
        object.__setattr__(self, "product_rank", {value: i for i, value in enumerate(self.products)})

    @property
    def columns(self) -> int:
        """Number of week columns: history and horizon."""
        return self.weeks + self.horizon


@dataclass(frozen=True)
class KnownAhead:
    """`events` is store x week x event column, `flags` series x week x flag, `weather` store x week x measure.

    `weather` holds for history weeks what was measured and `weather_ahead` what was forecast; both are NaN where
    nothing is known.
    """

    event_names: tuple[str, ...]
    events: Matrix
    flag_names: tuple[str, ...]
    flags: Matrix
    weather: Matrix | None
    weather_ahead: Matrix | None


def read(folder: Path, index: Index) -> KnownAhead:
    """Read all known-future tables of the folder; every one of them may be absent."""
    event_names, events = _events(read_optional(folder, "special_events.csv"), index)
    flag_names: list[str] = []
    flags: list[Matrix] = []
    for name in FLAG_FILES:
        table = read_optional(folder, name)
        if table is None:
            continue
        for column in extra_columns(table, ("store_id", "product_id", "units")):
            if len(flags) < MAX_FLAGS:
                flag_names.append(column)
                flags.append(_flag(table, column, index))
    empty = np.zeros((len(index.store_of), index.columns, 0), dtype=np.float32)
    history, ahead = _weather(read_optional(folder, "weather.csv"), index)
    return KnownAhead(
        event_names=event_names, events=events, flag_names=tuple(flag_names),
        flags=np.stack(flags, axis=2) if flags else empty, weather=history, weather_ahead=ahead,
    )


def _events(table: Table | None, index: Index) -> tuple[tuple[str, ...], Matrix]:
    """Return days of special events by store and week: all, each kind, each name that recurs in history."""
    if table is None:
        return (), np.zeros((len(index.stores), index.columns, 0), dtype=np.float32)
    weeks = table.weeks() - index.first_week
    inside = (weeks >= 0) & (weeks < index.columns)
    days = table.numbers("days", empty=1.0) if "days" in table.names else np.ones(table.rows)
    groups: list[tuple[str, list[str]]] = [("all", ["all"] * table.rows)]
    kind = table.first_of(("kind", "type"))
    if kind is not None:
        coded = table.text(kind)
        groups.append(("kind", [coded.values[code] for code in coded.codes]))
    name = table.first_of(("event", "name"))
    if name is not None:
        coded = table.text(name)
        groups.append(("event", [coded.values[code] for code in coded.codes]))
    regions = _regions(table, index)
    names: list[str] = []
    layers: list[Matrix] = []
    for group, values in groups:
        history = Counter(
            value for value, week in {(value, int(week)) for value, week in zip(values, weeks, strict=True)}
            if 0 <= week < index.weeks
        )
        often = [value for value, count in sorted(history.items()) if count >= RECURRENT]
        for value in often[:MAX_EVENT_NAMES]:
            layer = np.zeros((len(index.stores), index.columns), dtype=np.float32)
            for row, (own, week) in enumerate(zip(values, weeks, strict=True)):
                if own == value and inside[row]:
                    layer[regions[row], int(week)] += days[row]
            names.append(f"{group}:{value}")
            layers.append(layer)
    for column in extra_columns(table, ("days",)):
        layer = np.zeros((len(index.stores), index.columns), dtype=np.float32)
        numbers = table.numbers(column, empty=0.0)
        for place in np.flatnonzero(inside).tolist():
            at = (regions[place], int(weeks[place]))
            layer[at] = np.maximum(layer[at], numbers[place])
        names.append(f"flag:{column}")
        layers.append(layer)
    if not layers:
        return (), np.zeros((len(index.stores), index.columns, 0), dtype=np.float32)
    return tuple(names), np.stack(layers, axis=2)


def _regions(table: Table, index: Index) -> list[IntArray]:
    """Return for each row the stores it concerns: those of its region, or all."""
    everywhere = np.arange(len(index.stores))
    if "region" not in table.names:
        return [everywhere] * table.rows
    own = np.array(index.store_labels["region"])
    coded = table.text("region")
    stores = [np.flatnonzero(own == value) if value else everywhere for value in coded.values]
    return [stores[code] for code in coded.codes]


def _flag(table: Table, column: str, index: Index) -> Matrix:
    """Return one known-future number as series x week; keys may be store, product, both or only the week."""
    weeks = table.weeks() - index.first_week
    values = table.numbers(column, empty=0.0)
    inside = (weeks >= 0) & (weeks < index.columns)
    stores = table.text("store_id").remap(index.store_rank) if "store_id" in table.names else None
    products = table.text("product_id").remap(index.product_rank) if "product_id" in table.names else None
    if stores is not None and products is not None:
        pairs = index.store_of * len(index.products) + index.product_of
        row = np.searchsorted(pairs, stores * len(index.products) + products)
        fits = inside & (stores >= 0) & (products >= 0) & (row < len(pairs))
        fits[fits] = pairs[row[fits]] == (stores * len(index.products) + products)[fits]
        result = np.zeros((len(pairs), index.columns), dtype=np.float32)
        result[row[fits], weeks[fits]] = values[fits]
        return result
    keys = stores if stores is not None else products
    size = len(index.stores) if stores is not None else len(index.products) if products is not None else 1
    codes = keys if keys is not None else np.zeros(table.rows, dtype=np.int64)
    fits = inside & (codes >= 0)
    grid = np.zeros((size, index.columns), dtype=np.float32)
    grid[codes[fits], weeks[fits]] = values[fits]
    if stores is not None:
        return grid[index.store_of]
    return grid[index.product_of] if products is not None else np.repeat(grid, len(index.store_of), axis=0)


def _weather(table: Table | None, index: Index) -> tuple[Matrix | None, Matrix | None]:
    """Return measured and forecast weather as store x week x measure, NaN where there is none."""
    if table is None or "zip" not in table.names or "zip" not in index.store_labels:
        return None, None
    places = sorted(set(index.store_labels["zip"]) - {""})
    rank = {place: i for i, place in enumerate(places)}
    if not places:
        return None, None
    weeks = table.weeks() - index.first_week
    codes = table.text("zip").remap(rank)
    origin = table.text("origin")
    forecast = np.array([value == "forecast" for value in origin.values])[origin.codes]
    grids = [np.full((len(places) + 1, index.columns, len(WEATHER)), np.nan, dtype=np.float32) for _ in range(2)]
    for grid, chosen, end in ((grids[0], ~forecast, index.weeks), (grids[1], forecast, index.columns)):
        fits = chosen & (codes >= 0) & (weeks >= 0) & (weeks < end)
        for column, name in enumerate(WEATHER):
            if name in table.names:
                grid[codes[fits], weeks[fits], column] = table.numbers(name, empty=0.0)[fits]
    of_store = np.array([rank.get(place, len(places)) for place in index.store_labels["zip"]])
    return grids[0][of_store], grids[1][of_store]


