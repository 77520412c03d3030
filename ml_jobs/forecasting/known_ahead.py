"""What is known before the week begins: events, promotions, other flags, and the weather forecast.

These tables may hold weeks after the cutoff; weeks beyond the horizon are ignored. For a week after the cutoff only
weather that was *forecast* is read, never weather that was measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ml_jobs.forecasting import weather
from ml_jobs.forecasting.tables import WEEK_COLUMNS, FloatArray, IntArray, Table, extra_columns, read_optional

Matrix = np.ndarray[Any, np.dtype[np.float32]]
MAX_FLAGS = 20  # more known-future columns than this would only add noise and memory
MAX_EVENT_NAMES = 12
RECURRENT = 10  # an event seen in fewer history weeks than this teaches noise (measured on a year of holidays)
NOT_FLAGS = frozenset({*WEEK_COLUMNS, "region", "name", "end_date", "issued_on"})
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
        weeks = table.weeks() - index.first_week
        for column, values in _flag_values(table, weeks, index.weeks):
            if len(flags) < MAX_FLAGS:
                flag_names.append(column)
                flags.append(_flag(table, weeks, values, index))
    empty = np.zeros((len(index.store_of), index.columns, 0), dtype=np.float32)
    history, ahead = weather.read(
        folder, index.store_labels.get("zip"), index.first_week, index.weeks, index.columns
    )
    return KnownAhead(
        event_names=event_names, events=events, flag_names=tuple(flag_names),
        flags=np.stack(flags, axis=2) if flags else empty, weather=history, weather_ahead=ahead,
    )


def _events(table: Table | None, index: Index) -> tuple[tuple[str, ...], Matrix]:
    """Return days of special events by store and week: all, each kind, each name that recurs in history."""
    if table is None:
        return (), np.zeros((len(index.stores), index.columns, 0), dtype=np.float32)
    rows, weeks, days = _days_by_week(table, index)
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
            value for value, week in {(values[row], int(week)) for row, week in zip(rows, weeks, strict=True)}
            if week < index.weeks
        )
        often = [value for value, count in sorted(history.items()) if count >= RECURRENT]
        for value in often[:MAX_EVENT_NAMES]:
            layer = np.zeros((len(index.stores), index.columns), dtype=np.float32)
            for row, week, count in zip(rows.tolist(), weeks.tolist(), days.tolist(), strict=True):
                if values[row] == value:
                    layer[regions[row], week] += count
            names.append(f"{group}:{value}")
            layers.append(layer)
    for column in extra_columns(table, ("days",)):
        layer = np.zeros((len(index.stores), index.columns), dtype=np.float32)
        numbers = table.numbers(column, empty=0.0)
        for row, week in zip(rows.tolist(), weeks.tolist(), strict=True):
            layer[regions[row], week] = np.maximum(layer[regions[row], week], numbers[row])
        names.append(f"flag:{column}")
        layers.append(layer)
    if not layers:
        return (), np.zeros((len(index.stores), index.columns, 0), dtype=np.float32)
    return tuple(names), np.stack(layers, axis=2)


def _days_by_week(table: Table, index: Index) -> tuple[IntArray, IntArray, FloatArray]:
    """Return row, week column and days of every (event, week) that lies in history or horizon.

    A row is about one week (`sales_week`, with `days`), or about the days from `start_date` to `end_date`.
    """
    if "start_date" not in table.names:
        weeks = table.weeks() - index.first_week
        days = table.numbers("days", empty=1.0) if "days" in table.names else np.ones(table.rows)
        rows = np.flatnonzero((weeks >= 0) & (weeks < index.columns))
        return rows, weeks[rows], days[rows]
    begins, ends = table.days("start_date"), table.days(table.first_of(("end_date",)) or "start_date")
    spans = [
        (row, column, min(end, monday + 6) - max(begin, monday) + 1)
        for row, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True))
        for column in range(max((begin - 1) // 7 - index.first_week, 0),
                            min((end - 1) // 7 - index.first_week + 1, index.columns))
        for monday in [(column + index.first_week) * 7 + 1]
    ]
    found = np.array(spans, dtype=np.int64).reshape(-1, 3)
    return found[:, 0], found[:, 1], found[:, 2].astype(np.float64)


def _regions(table: Table, index: Index) -> list[IntArray]:
    """Return for each row the stores it concerns: those of its region, or all."""
    everywhere = np.arange(len(index.stores))
    if "region" not in table.names:
        return [everywhere] * table.rows
    own = np.array(index.store_labels["region"])
    coded = table.text("region")
    stores = [np.flatnonzero(own == value) if value else everywhere for value in coded.values]
    return [stores[code] for code in coded.codes]


YES, NO = frozenset({"y", "yes", "true", "t"}), frozenset({"n", "no", "false", "f", ""})


def _flag_values(table: Table, weeks: IntArray, history: int) -> Iterator[tuple[str, FloatArray]]:
    """Yield the known-future columns of a table as numbers by row.

    Numbers are taken as they are, yes and no as 1 and 0; any other text becomes a flag for each value that recurs.
    """
    for column in extra_columns(table, ("store_id", "product_id", "units")):
        yield column, table.numbers(column, empty=0.0)
    for column in table.names:
        if table.is_numeric(column) or column in NOT_FLAGS or column.endswith("_id"):
            continue
        coded = table.text(column)
        words = [value.strip().lower() for value in coded.values]
        if set(words) <= YES | NO:
            yield column, np.array([float(word in YES) for word in words] or [0.0])[coded.codes]
            continue
        found = Counter(code for code, week in set(zip(coded.codes.tolist(), weeks.tolist(), strict=True))
                        if 0 <= week < history)
        often = sorted((coded.values[code], code) for code, count in found.items()
                       if count >= RECURRENT and words[code])
        for value, code in often[:MAX_EVENT_NAMES]:
            yield f"{column}:{value}", (coded.codes == code).astype(np.float64)


def _flag(table: Table, weeks: IntArray, values: FloatArray, index: Index) -> Matrix:
    """Return one known-future number as series x week; keys may be store, product, both or only the week."""
    inside = (weeks >= 0) & (weeks < index.columns) & (values != 0)  # a second row of a week must not undo the first
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
