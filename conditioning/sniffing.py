"""Find out how delimited text is written when nobody declared it; what was found is stated in the outcome.

The contract leads: a delimiter is right if it makes the header fit. Only marks that some value proves are taken over;
`1,234` alone proves nothing and stays ambiguous.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

from conditioning.contract import Contract
from conditioning.dialect import ColumnMap, Delimited
from conditioning.headers import find_header, match, plain
from conditioning.values import make_rule

DELIMITERS = (",", ";", "\t", "|", ":", "~", "^")
_SINGLE_QUOTED = re.compile(rb"(^|[,;\t|])'[^'\r\n]*'([,;\t|]|\r?$)", re.MULTILINE)
_DECIMAL_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+,\d+|\d+,(\d{1,2}|\d{4,}))")
_DECIMAL_POINT = re.compile(r"[+-]?(\d{1,3}(,\d{3})+\.\d+|\d+\.(\d{1,2}|\d{4,}))")
_SAMPLE = 200


def sniff(head: bytes, dialect: Delimited, column_map: ColumnMap, contract: Contract) -> Delimited:
    """Return the dialect with delimiter, quote, header and number marks filled in as the text shows them."""
    from conditioning.open_table import first_records

    best: tuple[tuple[int, int, int], Delimited] | None = None
    # A single quote is an apostrophe unless whole cells stand in them and no double quote is about.
    quote = "'" if b'"' not in head and _SINGLE_QUOTED.search(head) else dialect.quote
    for rank, delimiter in enumerate(DELIMITERS):
        candidate = replace(dialect, delimiter=delimiter, quote=quote)
        records = first_records(head, candidate, _SAMPLE)
        if not records:
            continue
        found = find_header(records, column_map, contract)
        fits = match(found[1], column_map, contract) if found else 0
        width, alike = Counter(map(len, records)).most_common(1)[0]
        score = (fits, alike * min(width, 50) if width > 1 else 0, -rank)
        if best is None or score > best[0]:
            best = (score, candidate)
    if best is None:
        return replace(dialect, delimiter=",")
    chosen = best[1]
    records = first_records(head, chosen, _SAMPLE)
    if find_header(records, column_map, contract) is None and _reads_without_header(records, contract):
        chosen = replace(chosen, columns=tuple(contract.names))
    return _with_number_marks(chosen, records, column_map, contract)


def _reads_without_header(records: list[list[str]], contract: Contract) -> bool:
    """Say whether the first record is data: as many cells as fields, all good, and some of them could not be words."""
    typed = [item for item in contract.fields if item.type not in ("string", "any")]
    if not typed or len(records[0]) != len(contract.fields):
        return False
    if any(plain(cell) == plain(item.name) for cell, item in zip(records[0], contract.fields, strict=True)):
        return False
    return all(isinstance(make_rule(item)(cell), str) for cell, item in zip(records[0], contract.fields, strict=True))


def _with_number_marks(
    dialect: Delimited, records: list[list[str]], column_map: ColumnMap, contract: Contract
) -> Delimited:
    found = find_header(records, column_map, contract)
    header = found[1] if found else list(dialect.columns)
    numbers = {item.name for item in contract.fields if item.type in ("number", "integer")}
    if any(item.decimal_char != "." or item.group_char for item in contract.fields if item.name in numbers):
        return dialect
    wanted = {plain(name) for name, mapped in column_map.items() if mapped.column in numbers}
    places = [place for place, name in enumerate(header) if plain(name) in wanted]
    cells = [
        cells[place].strip()
        for cells in records[(found[0] + 1) if found else 0 :]
        for place in places
        if place < len(cells)
    ]
    comma = any(_DECIMAL_COMMA.fullmatch(cell) for cell in cells)
    point = any(_DECIMAL_POINT.fullmatch(cell) for cell in cells)
    if comma == point:
        return dialect
    decimal, group = (",", ".") if comma else (".", ",")
    grouped = any(group in cell for cell in cells)
    return replace(dialect, decimal_char=decimal if comma else "", group_char=group if grouped else "")


def statement(dialect: Delimited) -> str:
    """Say in one sentence how the text is read."""
    marks = f", decimal mark {dialect.decimal_char!r}" if dialect.decimal_char else ""
    marks += f", thousands mark {dialect.group_char!r}" if dialect.group_char else ""
    header = ", no header" if dialect.columns else ""
    return f"no dialect is declared: read with delimiter {dialect.delimiter!r}, quote {dialect.quote!r}{marks}{header}"
