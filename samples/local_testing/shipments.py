"""Deliveries and returns in the dialects of several providers, one file a week."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from domain.sales_weeks import SalesWeek
from samples.local_testing import demand
from samples.local_testing.demand import Line
from samples.local_testing.faults import LINE_FAULTS, Dropped, excluded_lines, spoil
from samples.local_testing.spreadsheets import Cell, workbook_bytes
from samples.local_testing.world import WEEKS, stream
from samples.local_testing.x12 import returns_interchange
from samples.raw_files import RawFile, gzipped, zipped

Writer = Callable[[list[Line], SalesWeek], tuple[str, bytes]]


def delivery_drops() -> list[Dropped]:
    """Return the deliveries of every week, each with five faults and two excluded departments."""
    return [_delivery_drop(week) for week in WEEKS]


def return_drops() -> list[Dropped]:
    """Return the returns of every week, each with five faults."""
    return [_return_drop(week) for week in WEEKS]


def _delivery_drop(week: SalesWeek) -> Dropped:
    draw = stream("delivery faults", week)
    lines, faults = spoil(demand.deliveries(week), LINE_FAULTS, draw)
    lines, excluded = excluded_lines(lines, draw)
    name, data = _DELIVERY_DIALECTS.get(week.week, pipe_delimited)(lines, week)
    return Dropped(RawFile("deliveries", str(week), name, data), len(lines), {**faults, **excluded})


def _return_drop(week: SalesWeek) -> Dropped:
    lines, faults = spoil(demand.returns(week), LINE_FAULTS, stream("return faults", week))
    name, data = _RETURN_DIALECTS.get(week.week, returns_csv)(lines, week)
    return Dropped(RawFile("returns", str(week), name, data), len(lines), faults)


def _day(day: date | None, pattern: str, wrong: str) -> str:
    return wrong if day is None else day.strftime(pattern)


def pipe_delimited(lines: list[Line], week: SalesWeek) -> tuple[str, bytes]:
    """Pipes, CRLF, month first, gzipped: what most weeks have."""
    rows = ["STORE_NBR|DLV_DOC|DEPT|ITEM_CD|DLV_DT|QTY|NET_AMT"]
    for line in lines:
        day = _day(line.day, "%m/%d/%Y", "13/32/2017")
        texts = [line.store_id, line.document, line.department, line.product_id, day]
        rows.append("|".join([*texts, str(line.units), f"{line.cents / 100:.2f}"]))
    return f"dsd_{week}.txt.gz", gzipped(_text(rows, "\r\n").encode("cp1252"))


def semicolons(lines: list[Line], week: SalesWeek) -> tuple[str, bytes]:
    """Semicolons, decimal commas, dots for thousands, day first, UTF-8 with BOM."""
    rows = ["Filiale;Lieferschein;Warengruppe;Artikel;Lieferdatum;Menge;Betrag"]
    for line in lines:
        day = _day(line.day, "%d.%m.%Y", "32.13.2017")
        cells = [line.store_id, line.document, line.department, line.product_id, day]
        rows.append(";".join([*cells, _comma(line.units, 1), _comma(line.cents / 100, 2)]))
    return f"lieferungen_{week}.csv", b"\xef\xbb\xbf" + _text(rows, "\n").encode()


def fixed_width(lines: list[Line], week: SalesWeek) -> tuple[str, bytes]:
    """Fixed columns: store 6, document 18, department 12, item 6, date 8, units 7, cents 9; no header."""
    rows = [
        f"{line.store_id:<6}{line.document:<18}{line.department:<12}{line.product_id:<6}"
        f"{_day(line.day, '%Y%m%d', '20171332')}{line.units:>7}{line.cents:09d}"
        for line in lines
    ]
    return f"dsd_{week}.dat", _text(rows, "\n").encode("ascii")


def workbook(lines: list[Line], week: SalesWeek) -> tuple[str, bytes]:
    """Return a workbook whose data is in the second sheet."""
    rows: list[list[Cell]] = [["Store", "Document", "Department", "Item", "Delivery date", "Units", "Net amount"]]
    for line in lines:
        day = line.day or "to be announced"
        item = line.product_id or None
        rows.append([line.store_id, line.document, line.department, item, day, line.units, line.cents / 100])
    info: list[list[Cell]] = [["Weekly deliveries"], [f"Sales week {week}, all regions"]]
    return f"dsd_{week}.xlsx", workbook_bytes({"Info": info, "Deliveries": rows})


def zipped_csv(lines: list[Line], week: SalesWeek) -> tuple[str, bytes]:
    """Return a zip of one comma-separated file with every text quoted."""
    rows = ['"store","document","department","item","delivered_on","units","amount"']
    for line in lines:
        day = _day(line.day, "%Y-%m-%d", "2017-02-30")
        texts = [line.store_id, line.document, line.department, line.product_id, day]
        rows.append(",".join([*(f'"{text}"' for text in texts), str(line.units), f"{line.cents / 100:.2f}"]))
    return f"dsd_{week}.zip", zipped({f"dsd_{week}.csv": _text(rows, "\r\n").encode()})


def returns_csv(lines: list[Line], week: SalesWeek) -> tuple[str, bytes]:
    """Comma-separated, ISO dates, gzipped: what most weeks have."""
    rows = ["return_doc,store,item,returned_on,qty,reason_code"]
    for line in lines:
        day = _day(line.day, "%Y-%m-%d", "2017-02-30")
        rows.append(f"{line.document},{line.store_id},{line.product_id},{day},{line.units},{line.reason}")
    return f"returns_{week}.csv.gz", gzipped(_text(rows, "\n").encode())


def returns_workbook(lines: list[Line], week: SalesWeek) -> tuple[str, bytes]:
    """Return a workbook of one sheet."""
    rows: list[list[Cell]] = [["Return doc", "Store", "Item", "Returned on", "Quantity", "Reason"]]
    for line in lines:
        day = line.day or "to be announced"
        rows.append([line.document, line.store_id, line.product_id or None, day, line.units, line.reason])
    return f"returns_{week}.xlsx", workbook_bytes({"Returns": rows})


def returns_x12(lines: list[Line], week: SalesWeek) -> tuple[str, bytes]:
    """X12 894, one transaction set a return document."""
    return f"returns_{week}.edi", returns_interchange(lines, week)


def _text(rows: list[str], newline: str) -> str:
    return "".join(row + newline for row in rows)


def _comma(value: float, decimals: int) -> str:
    return f"{value:,.{decimals}f}".translate(str.maketrans(",.", ".,"))


_DELIVERY_DIALECTS: dict[int, Writer] = {
    16: semicolons,
    20: fixed_width,
    24: workbook,
    28: zipped_csv,
    32: semicolons,
}
_RETURN_DIALECTS: dict[int, Writer] = {30: returns_x12, 34: returns_workbook}
