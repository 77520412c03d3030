"""From raw bytes to batches: unpack, recognise the format, choose the dialect whose header fits, plan the columns."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from conditioning.batches import Batch
from conditioning.contract import Contract
from conditioning.delimited import DelimitedReader
from conditioning.dialect import ColumnMap, Delimited, Dialect, Document, FixedWidth, ReadContext, Row, Sheet
from conditioning.formats.documents import as_records, load_json
from conditioning.formats.fixed_width import read_fixed_width
from conditioning.formats.workbook import open_workbook, read_workbook
from conditioning.headers import HEADER_SEARCH_ROWS, Layout, find_header, layout, match, mismatch
from conditioning.raw_input import (
    Gunzip,
    Peeked,
    Stream,
    ZipMember,
    as_text,
    only_member,
    open_zip,
    read_document,
    spooled,
)
from conditioning.reasons import FileRefused
from conditioning.record_blocks import BLOCK_BYTES
from conditioning.row_batches import row_batches
from conditioning.sniffing import sniff, statement

_FOREIGN = {
    b"BZh": "bzip2 data",
    b"\xfd7zXZ\0": "xz data",
    b"\x28\xb5\x2f\xfd": "zstd data",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"%PDF-": "a PDF document",
    b"PAR1": "a Parquet file",
}
MAX_NESTING = 3  # a gzip in a zip is seen in practice, more is a trick


@dataclass
class OpenTable:
    """A raw file, recognised: its batches and what is to be said about them."""

    layout: Layout
    batches: Iterator[Batch]
    format: str
    dialect: str
    encoding: str  # of cells; "" = UTF-8, else Windows-1252
    found_encoding: str
    warnings: list[str]
    reader: DelimitedReader | None = None
    details: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class OpenRequest:
    """What the file should be."""

    file: str
    contract: Contract
    dialects: Sequence[Dialect]
    maps: Mapping[str, ColumnMap]
    context: ReadContext
    encoding: str = ""
    block_bytes: int = BLOCK_BYTES

    def map_of(self, dialect: Dialect) -> ColumnMap:
        """Return the dialect's column map."""
        return self.maps[dialect.name]


def open_table(stream: Stream, request: OpenRequest) -> OpenTable:
    """Open a raw file; raise FileRefused naming file, row, field and remedy if it is not what it should be."""
    peeked, packing = Peeked(stream), ""
    for _ in range(MAX_NESTING):
        if not peeked.head:
            raise FileRefused("empty_file", f"{request.file} is empty", file=request.file, value="0 bytes")
        inner = _unpacked(peeked, request)
        if inner is None:
            break
        peeked, packing = inner[0], f"{packing}{inner[1]}+"
        if peeked.head == b"PK":  # a workbook
            break
    else:
        raise FileRefused("several_members", f"{request.file}: archives within archives", file=request.file)
    table = _recognised(peeked, request)
    table.format = packing + table.format
    return table


class _Held(Peeked):
    """A stream that is a whole workbook."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))


def _unpacked(peeked: Peeked, request: OpenRequest) -> tuple[Peeked, str] | None:
    if peeked.head[:2] == b"\x1f\x8b":
        return Peeked(Gunzip(peeked, request.file, request.context.limits)), "gzip"
    if peeked.head[:4] in (b"PK\x03\x04", b"PK\x05\x06") and not _is_workbook(peeked.head):
        spool = spooled(peeked)
        archive = open_zip(spool, request.file)
        if any(name.startswith(("xl/", "mimetype", "content.xml")) for name in archive.namelist()):
            spool.seek(0)
            return _Held(spool.read()), "zip"
        member: ZipMember = only_member(archive, request.file, request.context.limits)
        return Peeked(member), "zip"
    return None


def _is_workbook(head: bytes) -> bool:
    return (
        b"xl/" in head[:4096] or b"[Content_Types].xml" in head[:4096] or b"mimetypeapplication/vnd.oasis" in head[:200]
    )


def _recognised(peeked: Peeked, request: OpenRequest) -> OpenTable:
    head = peeked.head
    if head[:4] == b"PK\x03\x04" or head[:8] == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        return _workbook(peeked, request)
    for mark, name in _FOREIGN.items():
        if head.startswith(mark) and not head.isascii():
            raise _unknown(request, name)
    start = head[:2048].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"ISA") and len(start) > 105:
        return _document(peeked, request, "x12")
    if start[:15].upper() == b"BEGIN:VCALENDAR":
        return _document(peeked, request, "calendar")
    if start[:1] in (b"{", b"[") and not any(
        isinstance(item, Delimited) and _first_line_fits(item, head) for item in request.dialects
    ):
        return _json(peeked, request)
    return _text(peeked, request)


def _first_line_fits(dialect: Delimited | FixedWidth | Document, head: bytes) -> bool:
    if not dialect.fits:
        return False
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n").split(b"\n", 1)[0].rstrip(b"\r")
    return re.match(dialect.fits, text.decode("latin-1")) is not None


def _workbook(peeked: Peeked, request: OpenRequest) -> OpenTable:
    choices = [(item, request.map_of(item)) for item in request.dialects if isinstance(item, Sheet)]
    if not choices:
        raise _unknown(request, "a workbook")
    data = read_document(peeked, request.file, request.context.limits.workbook_bytes)
    book = open_workbook(data, request.file, request.context.limits)
    dialect, plan, rows, sheet = read_workbook(book, request.file, choices, request.contract)
    plan = replace(
        plan,
        readings=tuple(
            replace(reading, excel_dates="1904" if book.from_1904 else "1900", decimal_char="", group_char="")
            for reading in plan.readings
        ),
    )
    return OpenTable(
        plan,
        row_batches(rows, plan),
        "workbook",
        dialect.name,
        "utf-8",
        "workbook",
        list(plan.warnings),
        details={"sheet": sheet},
    )


def _document(peeked: Peeked, request: OpenRequest, kind: str) -> OpenTable:
    choices = [item for item in request.dialects if isinstance(item, Document) and item.kind == kind]
    if not choices:
        raise _unknown(
            request, {"x12": "an X12 interchange", "calendar": "an iCalendar file", "json": "JSON"}.get(kind, kind)
        )
    chosen = next((item for item in choices if _first_line_fits(item, peeked.head)), None)
    chosen = chosen or next((item for item in choices if not item.fits), choices[0])
    return _read_document(peeked, request, chosen)


def _read_document(peeked: Stream, request: OpenRequest, chosen: Document) -> OpenTable:
    plan = layout(request.file, chosen.columns, request.map_of(chosen), request.contract)
    rows = chosen.read(peeked, request.context)
    return OpenTable(plan, row_batches(rows, plan), chosen.kind, chosen.name, "utf-8", "utf-8", list(plan.warnings))


def _json(peeked: Peeked, request: OpenRequest) -> OpenTable:
    choices = [item for item in request.dialects if isinstance(item, Document) and item.kind == "json"]
    for item in choices:
        if item.fits and re.search(item.fits.encode(), peeked.head):
            return _read_document(peeked, request, item)
    tables = [item for item in request.dialects if isinstance(item, Sheet | Delimited)]
    if not tables and not choices:
        raise _unknown(request, "JSON")
    text, _, found = as_text(peeked, request.encoding if request.encoding not in ("cp1252",) else "", request.file)
    header, rows = as_records(load_json(text, request.file, request.context.limits), request.file)
    best = max(tables, key=lambda item: match(header, request.map_of(item), request.contract), default=None)
    if best is None:
        raise _unknown(request, "a JSON table")
    plan = layout(request.file, header, request.map_of(best), request.contract)
    plan = replace(plan, readings=tuple(replace(reading, decimal_char="", group_char="") for reading in plan.readings))
    numbered = (Row(number, cells, " | ".join(cells)) for number, cells in enumerate(rows, 1))
    return OpenTable(plan, row_batches(numbered, plan), "json", best.name, "utf-8", found, list(plan.warnings))


def _text(peeked: Peeked, request: OpenRequest) -> OpenTable:
    headerless = [
        item
        for item in request.dialects
        if isinstance(item, Delimited | FixedWidth | Document) and _first_line_fits(item, peeked.head)
    ]
    chosen = headerless[0] if headerless else None
    if isinstance(chosen, Document):
        return _read_document(peeked, request, chosen)
    if isinstance(chosen, FixedWidth):
        context = request.context
        plan = layout(request.file, [name for name, _, _ in chosen.columns], request.map_of(chosen), request.contract)
        text, encoding, found = as_text(peeked, chosen.encoding or request.encoding, request.file)
        fixed = replace(chosen, encoding=encoding)
        return OpenTable(
            plan,
            row_batches(read_fixed_width(text, context, fixed), plan),
            "fixed width",
            chosen.name,
            "utf-8",
            found,
            list(plan.warnings),
        )
    choices = [item for item in request.dialects if isinstance(item, Delimited) and (not item.fits or item is chosen)]
    if not choices:
        raise _unknown(request, "text")
    declared = next((item.encoding for item in choices if item.encoding), "") or request.encoding
    text, encoding, found = as_text(peeked, declared, request.file)
    body = text if isinstance(text, Peeked) and text is peeked else Peeked(text)
    head = body.head.removeprefix(b"\xef\xbb\xbf") if body is peeked else body.head
    table = _delimited(body, head, choices, request, encoding, found)
    if found == "cp1252" and not declared:
        table.warnings.append("no encoding is declared and the text is not UTF-8: read as Windows-1252")
    return table


def _delimited(
    body: Stream, head: bytes, choices: list[Delimited], request: OpenRequest, encoding: str, found: str
) -> OpenTable:
    best: tuple[int, Delimited, int, list[str]] | None = None
    choices = [
        item if item.delimiter else sniff(head, item, request.map_of(item), request.contract) for item in choices
    ]
    for dialect in choices:
        column_map = request.map_of(dialect)
        if dialect.columns:
            if best is None:
                best = (0, dialect, -1, list(dialect.columns))
            continue
        position_and_header = find_header(first_records(head, dialect), column_map, request.contract)
        if position_and_header is not None:
            score = match(position_and_header[1], column_map, request.contract)
            if best is None or score > best[0]:
                best = (score, dialect, *position_and_header)
    if best is None:
        raise _no_header(head, choices, request)
    _, dialect, position, header = best
    plan = layout(request.file, header, request.map_of(dialect), request.contract, position=max(position, 0))
    plan = replace(
        plan,
        readings=tuple(
            replace(
                reading,
                decimal_char=reading.decimal_char or dialect.decimal_char,
                group_char=reading.group_char or dialect.group_char,
                negatives=reading.negatives or dialect.negatives,
            )
            for reading in plan.readings
        ),
    )
    skip = plan.skipped_rows if position >= 0 else 0
    reader = DelimitedReader(body, request.file, dialect, plan, skip_records=skip, block_bytes=request.block_bytes)
    warnings = list(plan.warnings)
    if dialect.sniffed:
        warnings.append(statement(dialect))
    return OpenTable(
        plan,
        iter(reader),
        "delimited text",
        dialect.name,
        encoding,
        found,
        warnings,
        reader,
        {"delimiter": dialect.delimiter, "quote": dialect.quote, "decimal_char": dialect.decimal_char or "."},
    )


def _no_header(head: bytes, choices: list[Delimited], request: OpenRequest) -> FileRefused:
    closest = max(choices, key=lambda item: max((len(cells) for cells in first_records(head, item)), default=0))
    records = first_records(head, closest)
    if not records:
        return FileRefused("empty_file", f"{request.file} holds only blank lines", file=request.file)
    wide = max(len(cells) for cells in records)
    header = next(cells for cells in records if len(cells) == wide)
    fed = {name for name, mapped in request.map_of(closest).items() if mapped.column}
    required = {item.name for item in request.contract.fields if item.required and not item.default}
    lacking = [
        name
        for name, mapped in request.map_of(closest).items()
        if mapped.column in required and name in fed and name not in header
    ]
    return mismatch(
        request.file, header, [name for name in request.map_of(closest) if name in fed], lacking or sorted(required), []
    )


def first_records(head: bytes, dialect: Delimited, most: int = HEADER_SEARCH_ROWS) -> list[list[str]]:
    """Return the first records of the file, for the search of the header."""
    whole = head[: head.rfind(b"\n") + 1] or head
    try:
        text = whole.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = whole.decode("cp1252", "replace")
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    records: list[list[str]] = []
    try:
        for cells in dialect.records(text):
            if cells and not (dialect.comment and cells[0].startswith(dialect.comment)):
                records.append(cells)
            if len(records) > most:
                break
    except csv.Error:
        pass  # what was read so far decides; the reader proper names the bad record
    return records


def _unknown(request: OpenRequest, found: str) -> FileRefused:
    names = ", ".join(item.name for item in request.dialects)
    return FileRefused(
        "unknown_format",
        f"{request.file} is {found}; the source reads {names}",
        file=request.file,
        value=found,
        remedy=f"deliver one of: {names}",
    )
