"""Workbooks as people leave them: stray cells, old sheets, formulas without a result, the calendar of old Macs."""

from __future__ import annotations

import datetime
import io
import zipfile
from collections.abc import Callable
from typing import Any

import openpyxl
import pytest
from openpyxl.utils.datetime import CALENDAR_MAC_1904

from conditioning.formats.sheet_cells import SheetCells, check_repeats
from conditioning.reasons import FileRefused
from tests.conditioning.conftest import ORDERS, Conditioning
from tests.conditioning.test_bad_files import GOOD_ROWS, TABLE


def workbook(*sheets: list[list[object]], change: Callable[[Any], None] = lambda book: None) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets, 1):
        sheet = book.create_sheet(f"S{number}")
        for row in rows:
            sheet.append(row)
    change(book)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def with_cell(row: int, column: int, value: object, kind: str = "") -> bytes:
    def change(book: Any) -> None:
        cell = book["S1"].cell(row, column, value)
        if kind:
            cell.data_type = kind

    return workbook([*TABLE, ["003", "2017-11-08", 3, "third"]], change=change)


def _mac(book: Any) -> None:
    book.epoch = CALENDAR_MAC_1904


def _hide_first(book: Any) -> None:
    book["S1"].sheet_state = "hidden"


OLD = [TABLE[0], ["999", "2016-11-06", 9, "last year's"]]


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(
            workbook(
                [TABLE[0], ["001", datetime.date(2017, 11, 6), 1.5, "first"], ["002", 43046 - 1462, 2, "second"]],
                change=_mac,
            ),
            id="days since 1904",
        ),
        pytest.param(workbook(OLD, TABLE, change=_hide_first), id="an old table on a hidden sheet"),
        pytest.param(workbook(TABLE, [["about this file"]], change=_hide_first), id="the only table is hidden"),
    ],
)
def test_the_table_that_is_meant_is_read(conditioned: Conditioning, raw: bytes) -> None:
    outcome = conditioned(raw, name="orders.xlsx")
    assert outcome.status == "accepted", outcome.document.get("error") or outcome.document["reasons"]
    assert outcome.rows() == GOOD_ROWS


def test_of_two_tables_none_is_guessed(conditioned: Conditioning) -> None:
    raw = workbook(OLD, TABLE)
    error = conditioned(raw, name="orders.xlsx").error
    assert (error["code"], error["value"]) == ("wrong_sheet", ["S1", "S2"])
    named = conditioned(raw, {"schema": ORDERS, "dialect": {"sheetName": "S2"}}, name="orders.xlsx")
    assert named.rows() == GOOD_ROWS


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        pytest.param(with_cell(4, 3, "#DIV/0!", "e"), "#DIV/0!", id="error"),
        pytest.param(with_cell(4, 3, "=1+2"), "formula", id="formula that was never worked out"),
    ],
)
def test_a_cell_without_a_result_is_not_read_as_empty(conditioned: Conditioning, raw: bytes, value: str) -> None:
    outcome = conditioned(raw, name="orders.xlsx")
    assert outcome.rows() == GOOD_ROWS
    example = outcome.document["reasons"][0]["examples"][0]
    assert (example["row"], example["field"], example["value"]) == (3, "amount", value)
    assert "calculate" in example["expected"]


def test_a_faulty_cell_that_no_field_reads_does_no_harm(conditioned: Conditioning) -> None:
    raw = workbook([[*TABLE[0], "sum"], [*TABLE[1], "=C2*2"], [*TABLE[2], None]])
    outcome = conditioned(raw, {**ORDERS, "unknownColumns": "discard"}, name="orders.xlsx")
    assert outcome.rows() == GOOD_ROWS


def test_a_formula_that_gave_an_empty_text_is_empty() -> None:
    cells = SheetCells()
    cells.take(b'<row r="2"><c r="B2" t="str"><f>IF(A2,1,"")</f><v></v></c><c r="C2"><f>A2</f><v>7</v></c></row>')
    assert not cells.faults


def test_a_stray_cell_in_the_last_corner_never_fills_memory(conditioned: Conditioning) -> None:
    error = conditioned(with_cell(1_048_576, 16_384, "x"), name="orders.xlsx").error
    assert error["code"] == "decompression_bomb"
    assert error["field"] == "S1"
    assert "stray cells" in error["remedy"]


def test_a_cell_that_repeats_over_a_whole_sheet_is_refused() -> None:
    row = (
        b'<table:table-row table:number-rows-repeated="%d"><table:table-cell office:value-type="float" office:value="1"'
        b' table:number-columns-repeated="16384"/></table:table-row>'
    )
    tail = b'<table:table-row table:number-rows-repeated="1048576"><table:table-cell/></table:table-row>'
    for times, refused in ((1_000_000, True), (1, False)):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("content.xml", row % times + tail)
        with zipfile.ZipFile(out) as archive:
            if refused:
                with pytest.raises(FileRefused, match="nearly empty"):
                    check_repeats(archive, "orders.ods")
            else:
                check_repeats(archive, "orders.ods")
