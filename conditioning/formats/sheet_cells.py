"""What the reader of workbooks does not tell: how far a sheet reaches, and which cells hold no worked-out value.

calamine lays a sheet out as a full rectangle, so that one stray cell in the last corner asks for half a terabyte and
ends the process; and it reads an error (#DIV/0!) or a formula that was never worked out as an empty cell.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO
from xml.etree import ElementTree

from conditioning.raw_input import CHUNK_BYTES
from conditioning.reasons import FileRefused

SPARSE_CELLS = 4_000_000  # a rectangle up to this size is laid out whatever it holds,
SPARSE_RATIO = 20  # a larger one only if it holds a cell in so many

_END = re.compile(rb"</(?:\w+:)?(?:row|table-row)>")
_CELL = re.compile(rb"<(?:\w+:)?c\b([^>]*?)(?:/>|>(.*?)</(?:\w+:)?c>)", re.DOTALL)
_USUAL_CELL = re.compile(rb'<c r="([A-Z]{1,3})([0-9]{1,7})"')
_SIGNS_OF_FAULTS = (b"<f", b":f", b'"e"', b"'e'")
_PLACE = re.compile(rb"""\br\s*=\s*["']([A-Za-z]{1,6})([0-9]{1,12})["']""")
_VALUE = re.compile(rb"<(?:\w+:)?(?:v|t)\b[^>/]*>([^<]*)<")
_ERROR = re.compile(rb"""\bt\s*=\s*["']e["']""")
_FORMULA = re.compile(rb"<(?:\w+:)?f\b")
_TEXT = re.compile(rb"""\bt\s*=\s*["']str["']""")  # a formula that gave an empty text has this and no value
_ODS_ROW = re.compile(rb"""<(?:\w+:)?table-row\b[^>]*number-rows-repeated\s*=\s*["']([0-9]+)["']""")
_ODS_CELL = re.compile(rb"""<(?:\w+:)?(?:covered-)?table-cell\b([^>]*)>""")
_ODS_REPEATED = re.compile(rb"""number-columns-repeated\s*=\s*["']([0-9]+)["']""")
_DATES_1904 = re.compile(rb"""\bdate1904\s*=\s*["'](?:1|true)["']""")


@dataclass
class SheetCells:
    """What a sheet's own text says of its cells; rows and columns count from 0."""

    faults: dict[tuple[int, int], str] = field(default_factory=dict)  # cell -> its error, or "formula"
    rows: int = 0
    columns: int = 0
    cells: int = 0

    def take(self, xml: bytes) -> None:
        """Look at some whole rows."""
        places = [] if any(sign in xml for sign in _SIGNS_OF_FAULTS) else _USUAL_CELL.findall(xml)
        if places and len(places) == xml.count(b"<c") + xml.count(b":c"):  # nothing but plain cells: how far they reach
            self.cells += len(places)
            self.rows = max(self.rows, *map(int, {number for _, number in places}))
            self.columns = max(self.columns, *map(_column, {letters for letters, _ in places}), 0)
            return
        for match in _CELL.finditer(xml):
            self.cells += 1
            attributes, body = match[1], match[2] or b""
            place = _PLACE.search(attributes)
            row, column = (int(place[2]) - 1, _column(place[1]) - 1) if place else (self.rows, self.columns)
            self.rows, self.columns = max(self.rows, row + 1), max(self.columns, column + 1)
            value = _VALUE.search(body)
            if _ERROR.search(attributes):
                self.faults[row, column] = value[1].decode("utf-8", "replace") if value else "error"
            elif _FORMULA.search(body) and not (value and value[1]) and not _TEXT.search(attributes):
                self.faults[row, column] = "formula"

    @property
    def is_sparse(self) -> bool:
        """Whether the sheet would take far more memory than its cells are worth."""
        area = self.rows * self.columns
        return area > SPARSE_CELLS and area > SPARSE_RATIO * self.cells


def _column(letters: bytes) -> int:
    """Return the number of a column, from 1."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + letter - 64
    return number


def sheet_cells(archive: zipfile.ZipFile, file: str) -> dict[str, SheetCells]:
    """Return what each sheet of an .xlsx workbook holds; refuse one that cannot be laid out."""
    found: dict[str, SheetCells] = {}
    for name, part in _sheet_parts(archive).items():
        found[name] = SheetCells()
        for rows in _whole_rows(archive, part):
            found[name].take(rows)
        if found[name].is_sparse:
            raise _too_wide(file, name, f"{found[name].rows} rows by {found[name].columns} columns")
    return found


def check_repeats(archive: zipfile.ZipFile, file: str) -> None:
    """Refuse an .ods workbook that writes a cell or row down once and repeats it over a sheet."""
    repeats = 0
    for rows in _whole_rows(archive, "content.xml"):
        for row in _END.split(rows):
            columns = [
                int(repeated[1])
                for cell in _ODS_CELL.findall(row)
                if b"value-type" in cell and (repeated := _ODS_REPEATED.search(cell))  # empty cells take no room
            ]
            times = _ODS_ROW.search(row) if b"value-type" in row else None
            repeats += (int(times[1]) if times else 1) * max(sum(columns), int(times is not None))
    if repeats > SPARSE_CELLS:
        raise _too_wide(file, "content.xml", f"{repeats} repeated cells")


def counts_from_1904(archive: zipfile.ZipFile) -> bool:
    """Return whether the workbook's day numbers count from 1904, as those of old Macs do."""
    return "xl/workbook.xml" in archive.namelist() and bool(_DATES_1904.search(archive.read("xl/workbook.xml")))


def _too_wide(file: str, sheet: str, found: str) -> FileRefused:
    return FileRefused(
        "decompression_bomb",
        f"{file}, sheet {sheet!r} reaches over {found} and is nearly empty",
        file=file,
        field=sheet,
        value=found,
        remedy="delete the stray cells below and beside the table and save the workbook again",
    )


def _sheet_parts(archive: zipfile.ZipFile) -> dict[str, str]:
    """Return the part of the archive that holds each sheet, by the sheet's name."""
    names = set(archive.namelist())
    if not {"xl/workbook.xml", "xl/_rels/workbook.xml.rels"} <= names:
        return {}
    targets = {
        item.get("Id"): posixpath.normpath(posixpath.join("xl", item.get("Target", ""))).removeprefix("/")
        for item in _elements(archive.read("xl/_rels/workbook.xml.rels"), "Relationship")
    }
    parts = {}
    for sheet in _elements(archive.read("xl/workbook.xml"), "sheet"):
        related = next((value for name, value in sheet.items() if name.rpartition("}")[2] == "id"), "")
        part = targets.get(related, "")
        if part in names:
            parts[sheet.get("name", "")] = part
    return parts


def _elements(xml: bytes, name: str) -> Iterator[ElementTree.Element]:
    # A part is bounded by the limit on workbooks, and expat itself bounds how far entities expand.
    return (item for item in ElementTree.fromstring(xml).iter() if item.tag.rpartition("}")[2] == name)  # noqa: S314


def _whole_rows(archive: zipfile.ZipFile, part: str) -> Iterator[bytes]:
    stream: IO[bytes]
    with archive.open(part) as stream:
        held = b""
        while data := stream.read(CHUNK_BYTES):
            held += data
            ends = [match.end() for match in _END.finditer(held)]
            if ends:
                yield held[: ends[-1]]
                held = held[ends[-1] :]
        yield held
