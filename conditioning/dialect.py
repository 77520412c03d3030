"""How providers write their files, as plain values: delimited text, fixed width, workbooks, documents."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from conditioning.batches import Broken
from conditioning.raw_input import Limits, Stream
from conditioning.reading import Reading


class Row(NamedTuple):
    """One record of a format that is read row by row: its number, its cells in column order, its raw text."""

    number: int
    cells: Sequence[str]
    raw: str
    weight: int = 1  # 0: a further row of a record that has one
    gathered: Sequence[tuple[int, str]] = ()  # further input records that it is made of: number, raw text


Rows = Iterator[Row | Broken]


@dataclass(frozen=True)
class Delimited:
    """Text with a delimiter. Without a header, `columns` names the cells and the pattern `fits` knows line one."""

    name: str
    delimiter: str = ","
    quote: str = '"'
    columns: tuple[str, ...] = ()
    fits: str = ""
    encoding: str = ""
    decimal_char: str = ""
    group_char: str = ""
    negatives: tuple[str, ...] = ()
    trailer: str = ""  # a last record that starts with this cell holds the count of records in its second cell
    header_rows_to_skip: int = 0
    comment: str = ""
    skip_initial_space: bool = False
    escape: str = ""
    sniffed: bool = False

    def records(self, text: str) -> Iterator[list[str]]:
        """Yield the records of some text, read by the csv module, which raises csv.Error for what is no record."""
        return csv.reader(
            io.StringIO(text, newline=""),
            delimiter=self.delimiter,
            quotechar=self.quote or None,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            skipinitialspace=self.skip_initial_space,
            escapechar=self.escape or None,
            doublequote=not self.escape,
        )


@dataclass(frozen=True)
class FixedWidth:
    """Text in columns of characters, 1-based and inclusive; `fits` knows the first line."""

    name: str
    columns: tuple[tuple[str, int, int], ...]
    fits: str = ""
    encoding: str = ""


@dataclass(frozen=True)
class Sheet:
    """One sheet of a workbook, with a header; no name means the only sheet, or the one whose header fits."""

    name: str
    sheet: str = ""
    number: int = 0  # 1-based position of the sheet; 0 = by name
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReadContext:
    """What a row reader may need besides the bytes."""

    file: str
    limits: Limits
    first_day: str = ""
    last_day: str = ""


@dataclass(frozen=True)
class Document:
    """A format with its own reader: JSON, X12, iCalendar, station files. `columns` names the cells it yields."""

    name: str
    kind: str  # json | x12 | calendar | text
    columns: tuple[str, ...]
    read: Callable[[Stream, ReadContext], Rows]
    fits: str = ""


Dialect = Delimited | FixedWidth | Sheet | Document


@dataclass(frozen=True)
class Mapped:
    """Where a provider's column goes. An empty column: known and left out on purpose."""

    column: str
    reading: Reading = field(default_factory=Reading)


ColumnMap = Mapping[str, Mapped]


@dataclass(frozen=True)
class SourceSpec:
    """A source: its contract's name and every dialect that its providers use, tried in order."""

    name: str
    dialects: tuple[Dialect, ...]
    tables: tuple[str, ...] = ()  # further files of column_maps/ that its readers use
