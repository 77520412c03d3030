"""One column: each distinct raw cell goes once through its rule, then rows are gathered by code."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from conditioning import arrow_arrays
from conditioning.cell_checks import sort_key
from conditioning.contract import Field
from conditioning.hashing import U64, hash_texts, hash_values
from conditioning.reading import Reading, Rule
from conditioning.reasons import Reject
from conditioning.values import identity_pattern

I32 = npt.NDArray[np.int32]

DISTINCT_LIMIT = 65_536
"""Distinct raw cells that a column may have before it counts as free text: its distinct count is then not reported."""
_COMMA = arrow_arrays.scalar(b",")


def quoted(text: str) -> str:
    """Write one cell as the standard CSV does: quotes only where needed."""
    if "," in text or '"' in text or "\n" in text or "\r" in text:
        return '"' + text.replace('"', '""') + '"'
    return text


def parse_line(line: str) -> list[str]:
    """Read one line of the standard CSV."""
    return next(csv.reader(io.StringIO(line)))


def decoder(encoding: str) -> Any:
    """Return bytes -> text: the declared encoding, else UTF-8 and where that fails Windows-1252."""

    def decode(cell: bytes) -> str | Reject:
        for candidate in (encoding,) if encoding else ("utf-8", "cp1252"):
            try:
                return cell.decode(candidate)
            except UnicodeDecodeError:
                continue
        return Reject("undecodable_text", f"text in {encoding or 'UTF-8 or cp1252'}")

    return decode


class ColumnBlock(Protocol):
    """One column of one block: which cells are refused, and text and hashes of those kept."""

    bad: npt.NDArray[np.bool_]

    def refusal(self, row: int) -> tuple[Reject, str]:
        """Return why the cell of a bad row is refused, and the cell as text."""

    def keep(self, rows: npt.NDArray[np.bool_] | None) -> None:
        """Forget the rows that are not in the mask (None keeps all) and book the others in the column's figures."""

    def parts(self) -> list[Any]:
        """Return what to join for the kept rows: CSV text with its comma."""

    def hashes(self) -> U64:
        """Return the hashes of the kept cells."""

    def texts_at(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """Return the canonical text of some rows that are not bad."""


class Column:
    """State of one column while a file is read."""

    def __init__(self, field: Field, rule: Rule, reading: Reading, encoding: str) -> None:
        self.field = field
        self.wide = False
        self.texts: list[str] = []  # canonical text by value id
        self.rejects: list[tuple[Reject, str]] = []  # by -id - 1
        self.pattern = identity_pattern(field, reading)
        self.special = arrow_arrays.binary(sorted(word.encode() for word in field.missing_values | field.exclude))
        self._rule = rule
        self._decode = decoder(encoding)
        self._ids: dict[bytes, int] = {}  # raw cell -> value id, or negative reject id
        self._latin_ids: dict[bytes, int] = {}  # the same by the widened bytes of latin blocks
        self._value_ids: dict[str, int] = {}
        self._counts = np.zeros(1024, np.int64)
        self._hashes = np.zeros(0, np.uint64)
        self._values: pa.Array = arrow_arrays.binary([])
        self._key = sort_key(field)
        self._extremes: list[str] = []  # lowest and highest text of the cells beyond the distinct limit
        self._wide_nulls = 0

    def block(self, cells: pa.Array | None, count: int, latin: bool) -> ColumnBlock:
        """Apply the rule to one block; a column that the file lacks reads as missing cells."""
        if cells is None:
            return CodedBlock(self, np.full(count, self._id_of(b"", False), np.int32))
        if not self.wide and len(self._ids) > DISTINCT_LIMIT:
            self._widen()
        if self.wide:
            plain_cells = cells.cast(pa.binary()) if isinstance(cells, pa.DictionaryArray) else cells
            return WideBlock(self, plain_cells, latin)
        if not isinstance(cells, pa.DictionaryArray):
            cells = cells.dictionary_encode()
        local = self._lookup(cells.dictionary.to_pylist(), latin)
        return CodedBlock(self, np.take(np.array(local or [0], np.int32), arrow_arrays.as_int32(cells.indices)))

    def _widen(self) -> None:
        """Read the column as free text from now on; what was learnt of its cells shrinks to figures."""
        self.wide = True
        counts = self._counts[: len(self.texts)].tolist()
        edges = [text for text, seen in zip(self.texts, counts, strict=False) if seen and text]
        self._extremes = [min(edges, key=self._key), max(edges, key=self._key)] if edges else []
        empty = self._value_ids.get("")
        self._wide_nulls += counts[empty] if empty is not None and empty < len(counts) else 0
        self.texts, self.rejects, self._ids, self._latin_ids, self._value_ids = [], [], {}, {}, {}
        self._hashes, self._values = self._hashes[:0], arrow_arrays.binary([])
        self._counts = self._counts[:0]

    @property
    def _is_free_text(self) -> bool:
        """Whether the file has more distinct cells than are counted; true whatever the blocks were."""
        return self.wide or len(self._ids) > DISTINCT_LIMIT

    def _lookup(self, cells: list[bytes], latin: bool) -> list[int]:
        """Return the id of each distinct cell; nearly all were met in an earlier block."""
        memo = self._latin_ids if latin else self._ids
        found = list(map(memo.get, cells))
        if None in found:
            for place, known in enumerate(found):
                if known is None:
                    found[place] = memo[cells[place]] = self._id_of(cells[place], latin)
        return found  # type: ignore[return-value]

    def _id_of(self, cell: bytes, latin: bool) -> int:
        cell = narrowed(cell, latin)
        known = self._ids.get(cell)
        if known is not None:
            return known
        outcome, shown = self.judge(cell)
        if isinstance(outcome, Reject):
            self.rejects.append((outcome, shown))
            number = -len(self.rejects)
        else:
            number = self._value_ids.setdefault(outcome, len(self.texts))
            if number == len(self.texts):
                self.texts.append(outcome)
        self._ids[cell] = number
        return number

    def judge(self, cell: bytes) -> tuple[str | Reject, str]:
        """Return (canonical text or refusal, the cell as text)."""
        text = self._decode(cell)
        if isinstance(text, Reject):
            return text, cell.decode("latin-1")
        return self._rule(text), text

    # -- coded cells -------------------------------------------------------------------------------------------------

    def count(self, ids: I32) -> None:
        """Book accepted coded cells."""
        seen = np.bincount(ids, minlength=len(self._counts))
        if len(seen) > len(self._counts):
            seen[: len(self._counts)] += self._counts
            self._counts = seen
        else:
            self._counts += seen

    def uncount(self, texts: Iterable[str]) -> None:
        """Take accepted cells back: their rows turned out to be duplicates."""
        for text, times in Counter(texts).items():
            if not text:
                self._wide_nulls -= times  # may go below zero: the nulls of coded blocks are added to it
            elif not self._is_free_text:
                self._counts[self._value_ids[text]] -= times

    def refresh(self) -> tuple[U64, pa.Array]:
        """Return (hashes, CSV text with comma) by value id."""
        have = len(self._hashes)
        if have < len(self.texts):
            fresh = self.texts[have:]
            self._hashes = np.concatenate([self._hashes, hash_values(fresh)])
            added = arrow_arrays.binary([(quoted(text) + ",").encode() for text in fresh])
            self._values = pa.concat_arrays([self._values, added])
        return self._hashes, self._values

    # -- free text ---------------------------------------------------------------------------------------------------

    def note_wide(self, cells: pa.Array) -> None:
        """Book accepted cells beyond the distinct limit: nulls and extremes only."""
        nulls = int(pc.sum(pc.equal(pc.binary_length(cells), 0)).as_py() or 0)
        self._wide_nulls += nulls
        if nulls == len(cells):
            return
        present = cells if not nulls else cells.filter(pc.greater(pc.binary_length(cells), 0))
        if self._key is str:
            found = pc.min_max(present)
            edges = [found["min"].as_py().decode(), found["max"].as_py().decode()]
        else:
            edges = [cell.decode() for cell in pc.unique(present).to_pylist()]
        edges += self._extremes
        self._extremes = [min(edges, key=self._key), max(edges, key=self._key)]

    # -- figures -----------------------------------------------------------------------------------------------------

    def quality(self) -> dict[str, Any]:
        """Return nulls, minimum, maximum and distinct count of the accepted cells."""
        counts = self._counts[: len(self.texts)].tolist()
        present = [text for text, seen in zip(self.texts, counts, strict=False) if seen and text]
        empty = self._value_ids.get("")
        nulls = int(self._counts[empty]) if empty is not None and empty < len(self._counts) else 0
        candidates = present + self._extremes
        return {
            "nulls": nulls + self._wide_nulls,
            "min": min(candidates, key=self._key) if candidates else None,
            "max": max(candidates, key=self._key) if candidates else None,
            "distinct": None if self._is_free_text else len(present),
        }


def narrowed(cell: bytes, latin: bool) -> bytes:
    """Undo the widening of bytes above 127 that lets the parser read text of any encoding."""
    return cell.decode().encode("latin-1") if latin and not cell.isascii() else cell


class CodedBlock:
    """Cells as ids of the column's values: the fast way, for columns of few distinct cells."""

    def __init__(self, column: Column, ids: I32) -> None:
        self.bad = ids < 0
        self._column = column
        self._ids = ids

    def refusal(self, row: int) -> tuple[Reject, str]:
        """See ColumnBlock."""
        return self._column.rejects[-int(self._ids[row]) - 1]

    def keep(self, rows: npt.NDArray[np.bool_] | None) -> None:
        """See ColumnBlock."""
        if rows is not None:
            self._ids = self._ids[rows]
        self._column.count(self._ids)

    def parts(self) -> list[Any]:
        """See ColumnBlock."""
        return [self._column.refresh()[1].take(arrow_arrays.integers(self._ids))]

    def hashes(self) -> U64:
        """See ColumnBlock."""
        return np.take(self._column.refresh()[0], self._ids)

    def texts_at(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """See ColumnBlock."""
        return [self._column.texts[number] for number in self._ids[rows].tolist()]


class WideBlock:
    """Cells as plain text: for columns of very many distinct cells, so that memory stays flat."""

    def __init__(self, column: Column, cells: pa.Array, latin: bool) -> None:
        self._column = column
        self._quoted: pa.Array | None = None
        self._refused: dict[int, tuple[Reject, str]] = {}
        count = len(cells)
        self.bad = np.zeros(count, np.bool_)
        if column.pattern is None:
            odd = np.ones(count, np.bool_)
        else:
            plain = pc.match_substring_regex(cells, column.pattern)
            odd = arrow_arrays.as_bool(pc.or_(pc.invert(plain), pc.is_in(cells, value_set=column.special)))
        self._cells = cells
        if odd.any():
            self._judge(odd, latin)

    def _judge(self, odd: npt.NDArray[np.bool_], latin: bool) -> None:
        coded = self._cells.filter(arrow_arrays.mask(odd)).dictionary_encode()
        verdicts = [self._column.judge(narrowed(cell, latin)) for cell in coded.dictionary.to_pylist()]
        texts = arrow_arrays.binary(
            [b"" if isinstance(verdict, Reject) else verdict.encode() for verdict, _ in verdicts]
        )
        shown = arrow_arrays.binary(
            [b"" if isinstance(verdict, Reject) else quoted(verdict).encode() for verdict, _ in verdicts]
        )
        rows = np.flatnonzero(odd)
        codes = arrow_arrays.as_int32(coded.indices)
        for row, code in zip(rows.tolist(), codes.tolist(), strict=True):
            verdict, cell = verdicts[code]
            if isinstance(verdict, Reject):
                self._refused[row] = (verdict, cell)
        self.bad[list(self._refused)] = True
        mask = arrow_arrays.mask(odd)
        original = self._cells
        self._cells = pc.replace_with_mask(original, mask, texts.take(coded.indices))
        if not shown.equals(texts):
            self._quoted = pc.replace_with_mask(original, mask, shown.take(coded.indices))

    def refusal(self, row: int) -> tuple[Reject, str]:
        """See ColumnBlock."""
        return self._refused[row]

    def keep(self, rows: npt.NDArray[np.bool_] | None) -> None:
        """See ColumnBlock."""
        if rows is not None:
            mask = arrow_arrays.mask(rows)
            self._cells = self._cells.filter(mask)
            self._quoted = self._quoted.filter(mask) if self._quoted is not None else None
        if len(self._cells):
            self._column.note_wide(self._cells)

    def parts(self) -> list[Any]:
        """See ColumnBlock."""
        return [self._cells if self._quoted is None else self._quoted, _COMMA]

    def hashes(self) -> U64:
        """See ColumnBlock."""
        return hash_texts(self._cells)

    def texts_at(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """See ColumnBlock."""
        return [cell.decode() for cell in self._cells.take(arrow_arrays.integers(rows)).to_pylist()]
