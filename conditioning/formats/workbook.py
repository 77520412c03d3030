"""Excel workbooks (xlsx, xls, xlsb, ods) through calamine: the cells as text, dates as ISO text."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

from conditioning.contract import Contract
from conditioning.dialect import ColumnMap, Row, Rows, Sheet
from conditioning.headers import Layout, find_header, layout, match, mismatch
from conditioning.raw_input import Limits, check_bomb
from conditioning.reasons import FileRefused


def open_workbook(data: bytes, file: str, limits: Limits) -> Any:
    """Open a workbook that fits the limits; refuse a damaged or protected one."""
    from python_calamine import CalamineWorkbook

    if data[:2] == b"PK":
        try:
            parts = zipfile.ZipFile(io.BytesIO(data)).infolist()
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise FileRefused("truncated_file", f"{file}: the workbook cannot be read ({error})", file=file) from error
        expanded = sum(part.file_size for part in parts)
        check_bomb(file, len(data), expanded, limits)
        if expanded > limits.workbook_bytes:
            raise FileRefused(
                "decompression_bomb", f"{file}: the workbook expands to {expanded} bytes", file=file, value=expanded
            )
    try:
        return CalamineWorkbook.from_filelike(io.BytesIO(data))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        code = "encrypted_file" if "assword" in str(error) else "corrupt_file"
        raise FileRefused(code, f"{file}: the workbook cannot be read ({error})", file=file) from error


def read_workbook(
    workbook: Any, file: str, dialects: list[tuple[Sheet, ColumnMap]], contract: Contract
) -> tuple[Sheet, Layout, Rows, str]:
    """Return (dialect, layout, rows, sheet) of the first dialect whose sheet and header fit; refuse if none does."""
    names: list[str] = list(workbook.sheet_names)
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
                fitting.append((match(found[1], column_map, contract), name, found))
        if fitting:
            _, name, (position, header) = max(fitting, key=lambda item: item[0])
            header = _without_empty_tail(header)
            plan = layout(file, header, column_map, contract, position=position)
            return dialect, plan, _rows(_sheet_rows(workbook, name, file), plan), name
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


def _sheet_rows(workbook: Any, name: str, file: str) -> list[list[Any]]:
    try:
        return list(workbook.get_sheet_by_name(name).to_python(skip_empty_area=False))
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


def _rows(rows: list[list[Any]], plan: Layout) -> Iterator[Row]:
    number = 0
    for cells in rows[plan.skipped_rows :]:
        texts = [cell_text(cell) for cell in cells]
        if not any(texts):
            continue
        number += 1
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
