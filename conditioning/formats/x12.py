"""X12 894 (delivery/return base record) and 852 (product activity): one record an item line, control totals checked.

pyx12 reads the segments and checks the envelope (ISA, GS, ST counts and control numbers); what 894 and 852 mean is
said here.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from conditioning.batches import Broken
from conditioning.dialect import ReadContext, Row, Rows
from conditioning.raw_input import Stream, read_document
from conditioning.reasons import FileRefused

COLUMNS = ("document", "store", "item", "date", "quantity")
_VERSION_AT, _KNOWN_VERSIONS = slice(84, 89), ("00401", "00501")


@dataclass
class _Document:
    """One transaction set while it is read."""

    kind: str = ""
    direction: str = ""  # D delivery, C return; or the activity code of an 852
    number: str = ""
    store: str = ""
    date: str = ""
    item: str = ""
    lines: list[Row | Broken] = field(default_factory=list)
    quantity: Decimal = Decimal(0)
    fault: str = ""


def read_deliveries(stream: Stream, context: ReadContext) -> Rows:
    """Yield what stores received: 894 deliveries, and quantities received (QR) of an 852."""
    return _read(stream, context, "D", "QR")


def read_returns(stream: Stream, context: ReadContext) -> Rows:
    """Yield what stores gave back: 894 returns, and quantities returned (Q2) of an 852."""
    return _read(stream, context, "C", "Q2")


def _read(stream: Stream, context: ReadContext, direction: str, activity: str) -> Rows:
    import pyx12.errors
    import pyx12.x12file

    text = read_document(stream, context.file, context.limits.document_bytes).decode("latin-1")
    text = text[text.index("ISA") :]
    if text[_VERSION_AT] not in _KNOWN_VERSIONS:  # older retail versions have the same envelope
        text = text[:84] + "00401" + text[89:]
    counter = iter(range(1, 1 << 62))
    try:
        reader = pyx12.x12file.X12Reader(io.StringIO(text))
        document = _Document()
        for segment in reader:
            document = yield from _segment(segment, document, direction, activity, counter)
            errors = reader.pop_errors()
            if errors:
                raise _envelope(context.file, errors)
        reader.cleanup()
        errors = reader.pop_errors()
        if (
            errors
            or document.kind
            or not text.rstrip().rsplit(reader.get_term()[0] or "~", 2)[-2].strip().startswith("IEA")
        ):
            raise _envelope(
                context.file, errors or [("isa", "023", "the interchange ends without its trailer", None, None)]
            )
    except pyx12.errors.X12Error as error:
        raise FileRefused(
            "malformed_envelope", f"{context.file} is no X12 interchange: {error}", file=context.file
        ) from error


def _envelope(file: str, errors: list[Any]) -> FileRefused:
    level, code, message = errors[0][:3]
    return FileRefused(
        "malformed_envelope",
        f"{file}: {level.upper()} envelope error {code}: {message}",
        file=file,
        field=level.upper(),
        value=code,
        remedy="have the interchange sent again",
    )


def _segment(
    segment: Any, document: _Document, direction: str, activity: str, counter: Iterator[int]
) -> Generator[Row | Broken, None, _Document]:
    name = segment.get_seg_id()

    def element(position: int) -> str:
        return str(segment.get_value(f"{name}{position:02d}") or "")

    if name == "ST":
        return _Document(kind=element(1))
    if name == "SE":
        if document.fault or (document.kind == "894" and document.direction not in (direction, "")):
            code = "control_total" if document.fault else "unknown_element"
            expected = document.fault or f"an 894 with G82-01 {direction}"
            for row in document.lines:
                yield Broken(row.number, code, "quantity", str(document.quantity), expected, row.raw)
        else:
            yield from document.lines
        return _Document()
    if document.kind == "894":
        _line_894(name, element, segment, document, counter)
    elif document.kind == "852":
        _line_852(name, element, segment, document, activity, counter)
    return document


def _line_894(name: str, element: Any, segment: Any, document: _Document, counter: Iterator[int]) -> None:
    if name == "G82":
        document.direction, document.number, document.store, document.date = (
            element(1),
            element(2),
            element(4),
            _century(element(7)),
        )
    elif name == "G83":
        quantity = element(2)
        item = next(
            (
                element(at + 1)
                for at in (5, 13)
                if element(at) in ("VN", "UP", "UK", "EN", "UI", "UA") and element(at + 1)
            ),
            "",
        )
        item = item or (element(4) if element(4) else "")
        document.lines.append(
            Row(next(counter), (document.number, document.store, item, document.date, quantity), segment.format())
        )
        document.quantity += _number(quantity)
    elif name == "G84":
        declared = _number(element(1))
        if declared != document.quantity:
            document.fault = f"G84 total quantity {declared}, lines sum to {document.quantity}"


def _line_852(
    name: str, element: Any, segment: Any, document: _Document, activity: str, counter: Iterator[int]
) -> None:
    if name == "XQ":
        document.date = element(3) or element(2)
    elif name == "N9":
        document.number = element(2)
    elif name == "N1" and element(1) in ("ST", "SN", "BY"):
        document.store = element(4)
    elif name == "LIN":
        document.item = next(
            (element(at + 1) for at in range(2, 30, 2) if element(at) in ("UP", "UK", "EN", "VN", "UI", "UA")), ""
        )
        document.direction = ""
    elif name == "ZA":
        document.direction = element(1)
        if document.direction == activity and element(2):
            document.lines.append(_activity(document, document.store, element(2), segment, counter))
    elif name == "SDQ" and document.direction == activity:
        for at in range(3, 23, 2):
            if element(at):
                document.lines.append(_activity(document, element(at), element(at + 1), segment, counter))


def _activity(document: _Document, store: str, quantity: str, segment: Any, counter: Iterator[int]) -> Row:
    return Row(
        next(counter), (document.number, store, document.item, _century(document.date), quantity), segment.format()
    )


def _century(text: str) -> str:
    """Version 3010 writes six-digit dates; all of them are of this century."""
    return "20" + text if len(text) == 6 else text


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal(0)
