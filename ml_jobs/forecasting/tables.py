"""Reading the input folder: plain CSV tables with text ids, weeks in several notations, numbers as float64.

Only `deliveries.csv` must be there. Column names have a few accepted spellings, because the same jobs also run on
folders that our conditioning did not make; anything else is refused by naming file, column and remedy.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from domain.errors import BadRequest
from domain.sales_weeks import SalesWeek

WEEK_COLUMNS = ("sales_week", "week_start", "date", "week", "delivery_date", "return_date")
LINEAGE_COLUMNS = frozenset({"source_file", "source_row"})  # where a row came from says nothing about demand
IntArray = np.ndarray[Any, np.dtype[np.int64]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


def week_number(week: SalesWeek) -> int:
    """Return a running number of the week (Mondays are multiples of seven plus one), for arithmetic."""
    return (week.monday.toordinal() - 1) // 7


def week_of_number(number: int) -> SalesWeek:
    """Return the week with this running number."""
    return SalesWeek.of(date.fromordinal(number * 7 + 1))


@dataclass(frozen=True)
class Coded:
    """A text column as codes into `values`; the order of `values` is the order of appearance."""

    values: tuple[str, ...]
    codes: IntArray

    def remap(self, target: dict[str, int]) -> IntArray:
        """Return each row's number in `target`, -1 where the text is not in it."""
        table = np.array([target.get(value, -1) for value in self.values] or [-1], dtype=np.int64)
        return table[self.codes] if self.values else np.full(len(self.codes), -1, dtype=np.int64)


class Table:
    """One CSV file in memory, read column by column on demand."""

    def __init__(self, path: Path, arrow: pa.Table) -> None:
        self.path = path
        self._arrow = arrow

    @classmethod
    def read(cls, path: Path) -> Table:
        """Read a CSV file, column names in lower case; raise BadRequest naming the file and what is wrong."""
        try:
            with path.open("rb") as handle:
                header = handle.readline().decode("utf-8-sig").strip()
            written = next(csv.reader([header]), [])
            names = [name.strip().lower() for name in written]
            _check_header(path, names)
            text = pa.dictionary(pa.int32(), pa.string())
            as_text = {name: text for name, own in zip(written, names, strict=True) if _is_text(own)}
            arrow = pacsv.read_csv(
                path,
                read_options=pacsv.ReadOptions(use_threads=False),
                convert_options=pacsv.ConvertOptions(column_types=as_text, strings_can_be_null=False),
            )
        except (pa.ArrowInvalid, UnicodeDecodeError, OSError) as error:
            raise BadRequest(
                f"{path.name}: {error}", file=path.name, remedy="write a comma-separated UTF-8 file with a header"
            ) from error
        wanted = [name for name in names if name not in LINEAGE_COLUMNS]
        return cls(path, arrow.rename_columns(names).select(wanted))

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in file order."""
        return tuple(self._arrow.column_names)

    @property
    def rows(self) -> int:
        """Number of records."""
        return int(self._arrow.num_rows)

    def first_of(self, names: Sequence[str]) -> str | None:
        """Return the first of `names` that the file has, or None."""
        return next((name for name in names if name in self.names), None)

    def need(self, *names: str) -> str:
        """Return the column that stands for the thing; raise BadRequest if there is none of these spellings."""
        found = self.first_of(names)
        if found is None:
            raise BadRequest(
                f"{self.path.name} has no column {' or '.join(names)}; it has {', '.join(self.names)}",
                file=self.path.name, field=names[0], remedy=f"add a column {names[0]}",
            )
        return found

    def text(self, name: str) -> Coded:
        """Return a column as coded text; empty cells are the empty text."""
        column = self._arrow.column(name)
        if not pa.types.is_dictionary(column.type):
            column = column.cast(pa.string()).dictionary_encode()
        merged = _one_chunk(column.unify_dictionaries())
        values = ["" if value is None else str(value) for value in merged.dictionary.to_pylist()]
        codes = _array(merged.indices, pa.int64(), len(values)).astype(np.int64)
        return Coded((*values, "") if merged.indices.null_count else tuple(values), codes)

    def numbers(self, name: str, *, empty: float | None = None, needed: Mask | None = None) -> FloatArray:
        """Return a column as float64; an empty cell becomes `empty`.

        Where that is None an empty cell raises BadRequest, except in rows that are not `needed`: there it is NaN.
        """
        column = self._arrow.column(name)
        if self.is_numeric(name):
            values = _array(_one_chunk(column), pa.float64(), np.nan)
        else:
            coded = self.text(name)
            values = np.array([self._number(text, name) for text in coded.values])[coded.codes]
        missing = ~np.isfinite(values)
        if missing.any():
            wrong = missing if needed is None else missing & needed
            if empty is None and wrong.any():
                row = int(np.argmax(wrong)) + 2
                raise BadRequest(
                    f"{self.path.name}, line {row}: {name} is empty or not a number", file=self.path.name, row=row,
                    field=name, remedy="give a number in every row",
                )
            values = np.where(missing, np.nan if empty is None else empty, values)
        return values

    def _number(self, text: str, name: str) -> float:
        try:
            return float(text) if text.strip() else math.nan
        except ValueError as error:
            raise BadRequest(
                f"{self.path.name}: {name} {text!r} is not a number", file=self.path.name, field=name, value=text,
                remedy="write numbers with a decimal point and nothing else",
            ) from error

    def is_numeric(self, name: str) -> bool:
        """Whether the column was read as numbers (or booleans)."""
        kind = self._arrow.column(name).type
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))

    def weeks(self, name: str = "") -> IntArray:
        """Return the running week number of each row, from `2017-W45` or from an ISO date."""
        name = name or self.need(*WEEK_COLUMNS)
        coded = self.text(name)
        numbers = np.array([self._week(value, name) for value in coded.values] or [0], dtype=np.int64)
        return numbers[coded.codes]

    def days(self, name: str) -> IntArray:
        """Return a column of ISO dates as day numbers, 0001-01-01 being 1; raise BadRequest for anything else."""
        coded = self.text(name)
        try:
            numbers = [date.fromisoformat(value[:10]).toordinal() for value in coded.values]
        except ValueError as error:
            raise BadRequest(f"{self.path.name}: {name}: {error}", file=self.path.name, field=name,
                             remedy="write ISO dates: 2017-11-06") from error
        return np.array(numbers or [0], dtype=np.int64)[coded.codes]

    def _week(self, value: str, name: str) -> int:
        try:
            if "W" in value:
                return week_number(SalesWeek.parse(value))
            return week_number(SalesWeek.of(date.fromisoformat(value[:10])))
        except (BadRequest, ValueError) as error:
            raise BadRequest(
                f"{self.path.name}: {name} {value!r} is neither an ISO week nor an ISO date", file=self.path.name,
                field=name, value=value, remedy="write 2017-W45 or 2017-11-06",
            ) from error


def _check_header(path: Path, names: Sequence[str]) -> None:
    remedy = "write a comma-separated UTF-8 file with a header"
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise BadRequest(f"{path.name} is not separated by commas: {names[0]!r}", file=path.name, row=1, remedy=remedy)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadRequest(f"{path.name} has a column twice: {', '.join(twice)}", file=path.name, row=1, field=twice[0],
                         remedy="name every column once; case does not count")


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array."""
    merged = column.combine_chunks()
    return merged.chunk(0) if isinstance(merged, pa.ChunkedArray) else merged


def _array(values: pa.Array, kind: pa.DataType, missing: float) -> FloatArray:
    """Return a numeric array as NumPy's. Arrow's own to_numpy would load pandas, half a second in every job."""
    cast = values.cast(pa.int8()).cast(kind) if pa.types.is_boolean(values.type) else values.cast(kind)
    width = np.float64 if pa.types.is_floating(kind) else np.int64
    result = np.frombuffer(cast.buffers()[1], dtype=width)[cast.offset : cast.offset + len(cast)].astype(np.float64)
    if cast.null_count:
        bits = np.unpackbits(np.frombuffer(cast.buffers()[0], dtype=np.uint8), bitorder="little")
        result[bits[cast.offset : cast.offset + len(cast)] == 0] = missing
    return result


def _is_text(name: str) -> bool:
    """Ids, weeks and names stay text, so that leading zeros live and years are not numbers."""
    return name in _TEXT_COLUMNS or name.endswith("_id")


_TEXT_COLUMNS = frozenset(WEEK_COLUMNS) | {
    "region", "store_format", "format", "zip", "opened_on", "closed_on", "name", "department", "category", "brand",
    "velocity", "event", "kind", "origin", "cluster", "state", "segment", "issued_on", "start_date", "end_date",
}


def read_optional(folder: Path, *names: str) -> Table | None:
    """Read the first of the named files that exists in the folder; None if there is none."""
    for name in names:
        if (folder / name).is_file():
            return Table.read(folder / name)
    return None


def extra_columns(table: Table, known: Iterable[str]) -> tuple[str, ...]:
    """Return the numeric columns that have no meaning of their own, in file order."""
    skip = set(known) | set(WEEK_COLUMNS)
    return tuple(name for name in table.names if name not in skip and not _is_text(name) and table.is_numeric(name))
