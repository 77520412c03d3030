"""Excel workbooks (xlsx, xls, xlsb, ods) through calamine: the cells as text, dates as ISO text."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any
from xml.etree.ElementTree import ParseError

from conditioning.batches import Broken
from conditioning.contract import Contract
from conditioning.dialect import ColumnMap, Row, Rows, Sheet
from conditioning.formats.sheet_cells import SheetCells, check_repeats, counts_from_1904, sheet_cells
from conditioning.headers import Layout, find_header, layout, match, mismatch
from conditioning.raw_input import Limits, check_bomb
from conditioning.reasons import FileRefused


@dataclass
class Workbook:
    """An open workbook, and what its own text says of its sheets."""

    book: Any
    cells: dict[str, SheetCells] = field(default_factory=dict)
    from_1904: bool = False


def open_workbook(data: bytes, file: str, limits: Limits) -> Workbook:
    """Open a workbook that fits the limits; refuse a damaged or protected one."""
    from python_calamine import CalamineWorkbook

    cells: dict[str, SheetCells] = {}
    from_1904 = False
    if data[:2] == b"PK":
        try:
            archive = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise FileRefused("truncated_file", f"{file}: the workbook cannot be read ({error})", file=file) from error
        expanded = sum(part.file_size for part in archive.infolist())
        check_bomb(file, len(data), expanded, limits)
        if expanded > limits.workbook_bytes:
            raise FileRefused(
                "decompression_bomb", f"{file}: the workbook expands to {expanded} bytes", file=file, value=expanded
            )
        try:
            cells, from_1904 = sheet_cells(archive, file), counts_from_1904(archive)
            if "content.xml" in archive.namelist():
                check_repeats(archive, file)
        except (zipfile.BadZipFile, zlib.error, ParseError, EOFError, OSError, ValueError, RuntimeError) as error:
            raise FileRefused("corrupt_file", f"{file}: the workbook cannot be read ({error})", file=file) from error
    try:
        return Workbook(CalamineWorkbook.from_filelike(io.BytesIO(data)), cells, from_1904)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        code = "encrypted_file" if "assword" in str(error) else "corrupt_file"
        raise FileRefused(code, f"{file}: the workbook cannot be read ({error})", file=file) from error


def read_workbook(
    workbook: Workbook, file: str, dialects: list[tuple[Sheet, ColumnMap]], contract: Contract
) -> tuple[Sheet, Layout, Rows, str]:
    """Return (dialect, layout, rows, sheet) of the first dialect whose sheet and header fit; refuse if none does.

    A hidden sheet is read only where no visible one fits; of two that fit, neither is guessed.
    """
    from python_calamine import SheetVisibleEnum

    names: list[str] = list(workbook.book.sheet_names)
    visible = {item.name for item in workbook.book.sheets_metadata if item.visible == SheetVisibleEnum.Visible}
    headers: dict[str, list[list[str]]] = {}
    for dialect, column_map in dialects:
        wanted = (
            [name for name in names if name.strip().casefold() == dialect.sheet.casefold()] if dialect.sheet else names
        )
        if dialect.number:
            wanted = names[dialect.number - 1 : dialect.number]
        fitting = []
        for name in wanted:
            headers.setdefault(name, [list(map(cell_text, cells)) for cells in _sheet_rows(workbook, name, file)[:12]])
            found = find_header(headers[name], column_map, contract)
            if found is not None:
                fitting.append(((name in visible, match(found[1], column_map, contract)), name, found))
        if fitting:
            best = max(score for score, _, _ in fitting)
            name, (position, header) = _only_sheet(
                file, [(name, found) for score, name, found in fitting if score == best]
            )
            header = _without_empty_tail(header)
            plan = layout(file, header, column_map, contract, position=position)
            rows = _sheet_rows(workbook, name, file)
            return dialect, plan, _rows(rows, plan, header, workbook.cells.get(name, SheetCells())), name
    sheets = [dialect.sheet for dialect, _ in dialects if dialect.sheet]
    if sheets and not any(name.strip().casefold() == sheet.casefold() for name in names for sheet in sheets):
        raise FileRefused(
            "wrong_sheet",
            f"{file}: no sheet {' or '.join(map(repr, sheets))}; the workbook has {names}",
            file=file,
            field="sheet",
            value=names,
            remedy=f"name the sheet {sheets[0]!r}",
        )
    above: list[list[str]] = next((rows for rows in headers.values() if rows), [])
    first: list[str] = next((cells for cells in above if any(cells)), [])
    required = [item.name for item in contract.fields if item.required]
    raise mismatch(file, first, contract.names, required, [])


def _only_sheet(file: str, fitting: list[tuple[str, tuple[int, list[str]]]]) -> tuple[str, tuple[int, list[str]]]:
    if len(fitting) > 1:
        names = [name for name, _ in fitting]
        raise FileRefused(
            "wrong_sheet",
            f"{file}: the sheets {names} all hold such a table",
            file=file,
            field="sheet",
            value=names,
            remedy="deliver one table a workbook, hide the other sheets, or declare the sheet's name",
        )
    return fitting[0]


def _sheet_rows(workbook: Workbook, name: str, file: str) -> list[list[Any]]:
    try:
        return list(workbook.book.get_sheet_by_name(name).to_python(skip_empty_area=False))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise FileRefused(
            "corrupt_file", f"{file}, sheet {name!r} cannot be read ({error})", file=file, field=name
        ) from error


def _without_empty_tail(cells: list[str]) -> list[str]:
    while cells and not cells[-1]:
        cells = cells[:-1]
    return cells


def _rows(rows: list[list[Any]], plan: Layout, header: list[str], sheet: SheetCells) -> Rows:
    wanted = {source for source in plan.sources if source is not None}
    faults = {row: column for row, column in sorted(sheet.faults, reverse=True) if column in wanted}  # first of a row
    number = 0
    for index, cells in enumerate(rows[plan.skipped_rows :], plan.skipped_rows):
        texts = [cell_text(cell) for cell in cells]
        if not any(texts) and index not in faults:
            continue
        number += 1
        if index in faults:
            column = faults[index]
            found = sheet.faults[index, column]
            expected = "a value: open the workbook, let it calculate and save it"
            yield Broken(number, "bad_value", header[column], found, expected, " | ".join(texts))
            continue
        tail = _without_empty_tail(texts[plan.width :])
        texts = (texts + [""] * plan.width)[: plan.width] + tail
        yield Row(number, texts, " | ".join(texts))


def cell_text(cell: Any) -> str:
    """Write a workbook's cell as text: whole floats without a fraction, midnight as a date."""
    if cell is None or cell == "":
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else repr(cell)
    if isinstance(cell, datetime):
        return cell.date().isoformat() if cell.time() == time(0) else cell.isoformat()
    if isinstance(cell, date | time):
        return cell.isoformat()
    if isinstance(cell, timedelta):
        return str(cell)
    return str(cell)
