"""Excel workbooks whose bytes depend on their cells only."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from datetime import date, datetime

from openpyxl import Workbook

from samples.raw_files import zipped

Cell = str | int | float | date | None
_MODIFIED = re.compile(rb"(<dcterms:modified[^>]*>)[^<]*(<)")
_STAMP = rb"\g<1>2017-01-01T00:00:00Z\2"
_LONG_AGO = datetime(2017, 1, 1)


def workbook_bytes(sheets: dict[str, Sequence[Sequence[Cell]]]) -> bytes:
    """Return an .xlsx with the given sheets in order; dates become real Excel dates."""
    book = Workbook()
    book.remove(book.worksheets[0])
    book.properties.created = _LONG_AGO
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    buffer = io.BytesIO()
    book.save(buffer)
    with zipfile.ZipFile(buffer) as archive:
        # openpyxl stamps the hour of saving into the properties and into the zip: both go.
        members = {
            name: _MODIFIED.sub(rb"\g<1>2017-01-01T00:00:00Z\2", archive.read(name)) for name in archive.namelist()
        }
    return zipped(members)
