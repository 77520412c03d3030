"""Find the header of a table and say which provider column feeds which field; every mismatch is named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from conditioning.contract import PROVENANCE, Contract, Field
from conditioning.dialect import ColumnMap, Mapped
from conditioning.reading import Reading
from conditioning.reasons import FileRefused

HEADER_SEARCH_ROWS = 12  # titles and notes above the header


@dataclass(frozen=True)
class Layout:
    """Which cell of a record feeds which field: `sources[i]` is the cell of fields[i], None where the file has none."""

    fields: tuple[Field, ...]
    sources: tuple[int | None, ...]
    readings: tuple[Reading, ...]
    width: int
    skipped_rows: int = 0  # records above and including the header
    warnings: tuple[str, ...] = ()


def plain(name: str) -> str:
    """Reduce a header cell to what people mean by it: no case, no punctuation, no byte order mark."""
    return re.sub(r"[\s_\-./]+", " ", name.replace("\ufeff", "").strip().strip('"').strip()).casefold()


def identity_map(contract: Contract) -> ColumnMap:
    """Return the map of a provider who uses our names."""
    return {name: Mapped(name) for name in contract.names}


def _index(header: Sequence[str], column_map: ColumnMap) -> dict[int, Mapped]:
    """Return cell position -> mapping, by exact name first, then by meaning."""
    exact = {name: mapped for name, mapped in column_map.items()}
    meant = {plain(name): mapped for name, mapped in column_map.items()}
    found: dict[int, Mapped] = {}
    for position, cell in enumerate(header):
        mapped = exact.get(cell.strip()) or meant.get(plain(cell))
        if mapped is not None:
            found[position] = mapped
    return found


def match(header: Sequence[str], column_map: ColumnMap, contract: Contract) -> int:
    """Return how many fields the header feeds; -1 if a required one is missing."""
    fed = {mapped.column for mapped in _index(header, column_map).values() if mapped.column}
    required = {field.name for field in contract.fields if field.required and not field.default}
    if not fed or required - fed:
        return -1
    return len(fed)


def find_header(
    records: Iterable[Sequence[str]], column_map: ColumnMap, contract: Contract
) -> tuple[int, list[str]] | None:
    """Return (position, cells) of the first record that is a header, looking past titles; None if there is none."""
    for position, cells in enumerate(records):
        if position >= HEADER_SEARCH_ROWS:
            return None
        if match(cells, column_map, contract) > 0:
            return position, list(cells)
    return None


def layout(
    file: str,
    header: Sequence[str],
    column_map: ColumnMap,
    contract: Contract,
    *,
    position: int = 0,
    row_offset: int = 1,
) -> Layout:
    """Join header, column map and contract; refuse what is missing, doubled or (mode freeze) unknown."""
    found = _index(header, column_map)
    warnings: list[str] = []
    by_field: dict[str, tuple[int, Mapped]] = {}
    for cell, mapped in found.items():
        if not mapped.column:
            continue
        if mapped.column in by_field:
            raise FileRefused(
                "duplicate_header",
                f"{file}: column {header[cell]!r} appears twice in the header",
                file=file,
                row=position + row_offset,
                field=mapped.column,
                value=list(header),
            )
        by_field[mapped.column] = (cell, mapped)
    missing = [item for item in contract.fields if item.name not in by_field]
    strict = contract.fields_match in ("exact", "equal", "subset")
    lacking = [item.name for item in missing if strict or (item.required and not item.default)]
    unknown = [(cell, name.strip()) for cell, name in enumerate(header) if cell not in found]
    named_unknown = [(cell, name) for cell, name in unknown if name]
    if lacking or not by_field:
        raise mismatch(
            file,
            header,
            [field.name for field in contract.fields],
            lacking,
            [name for _, name in named_unknown],
            row=position + row_offset,
        )
    if missing:
        warnings.append(f"no column for {', '.join(item.name for item in missing)}: left empty")
    fields = list(contract.fields)
    extra: list[tuple[int, str]] = []
    if named_unknown:
        names = ", ".join(name for _, name in named_unknown)
        if contract.unknown_columns == "freeze":
            raise mismatch(
                file,
                header,
                [field.name for field in contract.fields],
                [],
                [name for _, name in named_unknown],
                row=position + row_offset,
            )
        if contract.unknown_columns == "evolve":
            taken = set(contract.names)
            extra = [(cell, name) for cell, name in named_unknown if name not in taken]
            _check_new_names(file, [name for _, name in extra], position + row_offset)
            warnings.append(f"unknown columns taken over as text: {names}")
        else:
            warnings.append(f"unknown columns left out: {names}")
    if position:
        warnings.append(f"header found on record {position + 1}; what is above it was passed over")
    sources: list[int | None] = []
    readings: list[Reading] = []
    for item in contract.fields:
        entry = by_field.get(item.name)
        sources.append(entry[0] if entry else None)
        readings.append(entry[1].reading if entry else Reading())
    for cell, name in extra:
        fields.append(Field(name, missing_values=contract.fields[0].missing_values))
        sources.append(cell)
        readings.append(Reading())
    return Layout(tuple(fields), tuple(sources), tuple(readings), len(header), position + 1, tuple(warnings))


def _check_new_names(file: str, names: Sequence[str], row: int) -> None:
    """Refuse column names that the data cannot take over: met twice, the engine's own, or no printable text."""
    for at, name in enumerate(names):
        if name in names[:at]:
            code, fault, remedy = "duplicate_header", "appears twice in the header", "rename the column"
        elif name in PROVENANCE:
            code, fault, remedy = "duplicate_header", "is a name that the engine adds itself", "rename the column"
        elif not name.isprintable() or name[0] in "=+-@":
            code, fault, remedy = (
                "header_mismatch",
                "is no name that data may have",
                "rename the column to plain text",
            )
        else:
            continue
        message = f"{file}: column {name!r} {fault}"
        raise FileRefused(code, message, file=file, row=row, field=name, value=list(names), remedy=remedy)


def mismatch(
    file: str,
    header: Sequence[str],
    expected: Sequence[str],
    lacking: Sequence[str],
    unknown: Sequence[str],
    *,
    row: int = 1,
) -> FileRefused:
    """Build the error that puts what was expected beside what was found."""
    shown = [cell[:60] for cell in header[:60]]
    message = f"{file}, row {row}: the header does not fit the contract: found {shown}"
    if lacking:
        message += f"; missing {list(lacking)}"
    if unknown:
        message += f"; unknown {list(unknown)[:60]}"
    remedy = (
        "deliver the declared columns, or extend the column map or the contract (unknownColumns: discard or evolve)"
    )
    if len(header) == 1:
        hint = next((mark for mark in (";", "\t", "|", ",") if mark in header[0]), None)
        if hint:
            remedy = f"the one cell holds {hint!r}: declare it as the delimiter"
    return FileRefused(
        "header_mismatch",
        message,
        file=file,
        row=row,
        field=(list(lacking) or list(unknown) or [""])[0],
        value=shown,
        expected=list(expected),
        missing=list(lacking),
        unknown=list(unknown),
        remedy=remedy,
    )
