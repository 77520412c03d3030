"""Weather by store and week: measured and forecast, from weekly or daily files.

A weekly file is `weather.csv` with a column `origin` (history or forecast); daily files are `weather_history.csv` and
`weather_forecast.csv` (with `issued_on`). A forecast counts only if it was issued before the week that it is for and
before the cutoff; of several for one day the newest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ml_jobs.forecasting.tables import FloatArray, Mask, Table, read_optional

Matrix = np.ndarray[Any, np.dtype[np.float32]]
WEATHER = ("tmax_c", "tmin_c", "precip_mm", "snow_mm", "wind_ms")
ADDED_UP = frozenset({"precip_mm", "snow_mm"})  # over the days of a week; the others are averaged


def read(
    folder: Path, zips: tuple[str, ...] | None, first_week: int, history: int, columns: int
) -> tuple[Matrix | None, Matrix | None]:
    """Return measured and forecast weather as store x week x measure, NaN where there is none.

    `zips` holds each store's zip, `first_week` the running number of the first of `columns` weeks, of which `history`
    are up to the cutoff.
    """
    rank = {place: i for i, place in enumerate(sorted(set(zips or ()) - {""}))}
    parts = list(_parts(folder, first_week, history)) if rank else []
    if zips is None or not parts:
        return None, None
    shape = (len(rank) + 1, columns, len(WEATHER))
    sums, counts = (np.zeros((2, *shape)), np.zeros((2, *shape)))
    for table, forecast, usable in parts:
        weeks, codes = table.weeks() - first_week, table.text(table.need("zip")).remap(rank)
        last = np.where(forecast, columns, history)
        fits = np.flatnonzero(usable & (codes >= 0) & (weeks >= 0) & (weeks < last))
        for column, name in enumerate(WEATHER):
            if name in table.names:
                values = table.numbers(name, empty=np.nan)[fits]
                there = fits[np.isfinite(values)]
                at = np.ravel_multi_index((forecast[there].astype(np.int64), codes[there], weeks[there],
                                           np.full(len(there), column)), sums.shape)
                np.add.at(sums.reshape(-1), at, values[np.isfinite(values)])
                np.add.at(counts.reshape(-1), at, 1.0)
    divisor = np.where([name in ADDED_UP for name in WEATHER], np.minimum(counts, 1.0), counts)
    grids: FloatArray = np.where(counts > 0, sums / np.maximum(divisor, 1.0), np.nan)
    of_store = np.array([rank.get(place, len(rank)) for place in zips])
    return grids[0][of_store].astype(np.float32), grids[1][of_store].astype(np.float32)


def _parts(folder: Path, first_week: int, history: int) -> Iterator[tuple[Table, Mask, Mask]]:
    """Yield each weather table with which rows are forecasts and which may be used."""
    weekly = read_optional(folder, "weather.csv")
    if weekly is not None and {"zip", "origin"} <= set(weekly.names):
        origin = weekly.text("origin")
        yield weekly, np.array([value == "forecast" for value in origin.values])[origin.codes], _all(weekly)
        return
    measured = read_optional(folder, "weather_history.csv")
    if measured is not None:
        yield measured, ~_all(measured), _all(measured)
    ahead = read_optional(folder, "weather_forecast.csv")
    if ahead is not None:
        yield ahead, _all(ahead), _newest(ahead, first_week, history)


def _all(table: Table) -> Mask:
    return np.ones(table.rows, dtype=bool)


def _newest(table: Table, first_week: int, history: int) -> Mask:
    """Return which forecasts were known before their week and before the cutoff, the newest of each zip and day."""
    issued = table.weeks(table.need("issued_on")) - first_week
    target = table.weeks() - first_week
    known = (issued < target) & (issued < history)
    day, place, issue = _texts(table, "date"), _texts(table, "zip"), _texts(table, "issued_on")
    newest: Mapping[tuple[str, str], int] = {
        (place[row], day[row]): row for row in sorted(np.flatnonzero(known).tolist(), key=lambda row: issue[row])
    }
    chosen = np.zeros(table.rows, dtype=bool)
    chosen[np.array(list(newest.values()), dtype=np.int64)] = True
    return chosen


def _texts(table: Table, name: str) -> list[str]:
    coded = table.text(table.need(name))
    return [coded.values[code] for code in coded.codes]
