"""Deliveries: one row a store, day and product category, all stores, everything sold (also what is not goods)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from domain.sales_weeks import SalesWeek
from samples.complete_journey.journey import Ints, Journey, Marks, data_week, iso_day
from samples.complete_journey.stores import store_text
from samples.raw_files import RawFile

HEADER = "STORE_NBR|DLV_DOC|DEPT|ITEM_CD|DLV_DT|QTY|NET_AMT"


def delivery_files(journey: Journey, weeks: list[SalesWeek]) -> Iterator[RawFile]:
    """Yield one pipe-delimited file (CRLF, cp1252, MM/DD/YYYY) a week, rows by store, day, department, category."""
    order = np.argsort(journey.week, kind="stable")
    ranked = journey.week[order]
    for week in weeks:
        first, last = np.searchsorted(ranked, [data_week(week), data_week(week) + 1])
        lines = _lines(journey, order[first:last])
        yield RawFile("deliveries", str(week), f"dsd_{week}.txt", "".join(lines).encode("cp1252"))


def _lines(journey: Journey, rows: Ints) -> list[str]:
    store, day = journey.store[rows], journey.day[rows]
    department, category = journey.department[rows], journey.category[rows]
    order = np.lexsort((category, department, day, store))
    columns = [column[order] for column in (store, day, department, category)]
    starts = np.flatnonzero(_changes(columns))
    units = np.add.reduceat(journey.units[rows][order], starts)
    cents = np.add.reduceat(journey.cents[rows][order], starts)
    us_day = {int(value): iso_day(int(value)) for value in np.unique(day)}
    lines = [HEADER + "\r\n"]
    for number, when, dept, item, quantity, amount in zip(
        *(column[starts].tolist() for column in columns), units.tolist(), cents.tolist(), strict=True
    ):
        date = us_day[when]
        text = store_text(number)
        product_id = journey.categories[item].product_id if item >= 0 else ""
        lines.append(
            f"{text}|D{text}{date:%Y%m%d}|{journey.departments[dept]}|{product_id}|"
            f"{date:%m/%d/%Y}|{quantity}|{amount / 100:.2f}\r\n"
        )
    return lines


def _changes(columns: list[Ints]) -> Marks:
    """Mark the rows that differ from the row before in any column."""
    changed = np.zeros(len(columns[0]), dtype=np.bool_)
    changed[:1] = True
    for column in columns:
        changed[1:] |= column[1:] != column[:-1]
    return changed
