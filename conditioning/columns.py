"""One column: each distinct raw cell goes once through its rule, then rows are gathered by code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conditioning import arrow_arrays
from conditioning.cell_checks import sort_key
from conditioning.column_blocks import I32, I64, ColumnBlock, Mask
from conditioning.contract import Field
from conditioning.hashing import U64, hash_texts
from conditioning.reading import Reading, Rule
from conditioning.reasons import Reject
from conditioning.record_tokens import TokenText
from conditioning.standard_csv import all_quoted, quoted
from conditioning.values import identity_pattern

DISTINCT_LIMIT = 65_536
"""Distinct raw cells that a column may have before it counts as free text: its distinct count is then not reported."""
NO_TOKENS: tuple[pa.Array, I32] = arrow_arrays.binary([]), np.zeros(0, np.int32)
_COMMA, _NOTHING = arrow_arrays.scalar(b","), arrow_arrays.scalar(b"")


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


class Column:
    """State of one column while a file is read."""

    def __init__(self, field: Field, rule: Rule, reading: Reading, encoding: str) -> None:
        self.field = field
        self.wide = False
        self.texts: list[str] = []  # canonical text by value id
        self.rejects: list[tuple[Reject, str]] = []  # by -id - 1
        self._pattern = identity_pattern(field, reading)
        self._special = arrow_arrays.binary(sorted(word.encode() for word in field.missing_values | field.exclude))
        self._rule = rule
        self._decode = decoder(encoding)
        self._ids: dict[bytes, int] = {}  # raw cell -> value id, or negative reject id
        # Tokens of the last blocks and their ids; forgotten when they have become twice those of the first block.
        self._met, self._met_ids = NO_TOKENS
        self._met_text: TokenText | None = None
        self._met_at_first = 0
        self._value_ids: dict[str, int] = {}
        self._counts = np.zeros(1024, np.int64)
        self._hashes = np.zeros(0, np.uint64)
        self._values: pa.Array = arrow_arrays.binary([])
        self._key = sort_key(field)
        self._extremes: list[str] = []  # lowest and highest text of the cells beyond the distinct limit
        self._wide_nulls = 0

    def block(self, cells: pa.Array | None, count: int, token_text: TokenText | None) -> ColumnBlock:
        """Apply the rule to one block; a column that the file lacks reads as missing cells."""
        if cells is None:
            cells = arrow_arrays.binary([b""]).take(arrow_arrays.integers(np.zeros(count, np.int32)))
            token_text = None
        if not self.wide and len(self._ids) > DISTINCT_LIMIT:
            self._widen()
        if self.wide:
            coded = cells.dictionary_encode()
            plain = coded.dictionary if token_text is None else token_text.cells(coded.dictionary)
            return ColumnBlock(arrow_arrays.as_int32(coded.indices), FreeCells(self, plain, token_text))
        codes, ids = self._coded(cells, token_text)
        return ColumnBlock(codes, CountedCells(self, ids))

    def _widen(self) -> None:
        """Read the column as free text from now on; what was learnt of its cells shrinks to figures."""
        self.wide = True
        counts = self._counts[: len(self.texts)].tolist()
        edges = [text for text, seen in zip(self.texts, counts, strict=False) if seen and text]
        self._extremes = [min(edges, key=self._key), max(edges, key=self._key)] if edges else []
        empty = self._value_ids.get("")
        self._wide_nulls += counts[empty] if empty is not None and empty < len(counts) else 0
        self.texts, self.rejects, self._ids, self._value_ids = [], [], {}, {}
        self._met, self._met_ids = NO_TOKENS
        self._hashes, self._values = self._hashes[:0], arrow_arrays.binary([])
        self._counts = self._counts[:0]

    @property
    def _is_free_text(self) -> bool:
        """Whether the file has more distinct cells than are counted; true whatever the blocks were."""
        return self.wide or len(self._ids) > DISTINCT_LIMIT

    def _coded(self, tokens: pa.Array, token_text: TokenText | None) -> tuple[I32, I32]:
        """Return a code for each token and by code the ids; nearly all tokens were met in the blocks before."""
        if token_text is not self._met_text or len(self._met) > 2 * self._met_at_first:
            self._met, self._met_ids, self._met_text = *NO_TOKENS, token_text
        places = pc.index_in(tokens, value_set=self._met)
        codes = arrow_arrays.as_int32(places)
        if places.null_count:
            new = np.flatnonzero(arrow_arrays.as_bool(places.is_null())).astype(np.int32)
            fresh = arrow_arrays.take(tokens, new).dictionary_encode()
            codes = codes.copy()
            codes[new] = arrow_arrays.as_int32(fresh.indices) + np.int32(len(self._met))
            ids = self._ids_of(fresh.dictionary, token_text)
            if not len(self._met):
                self._met_at_first = len(ids)
            self._met, self._met_ids = pa.concat_arrays([self._met, fresh.dictionary]), np.append(self._met_ids, ids)
        return codes, self._met_ids

    def _ids_of(self, tokens: pa.Array, token_text: TokenText | None) -> I32:
        """Return the ids of some distinct tokens, which are given one where their cell is new."""
        cells = tokens if token_text is None else token_text.all_unquoted(tokens)
        raw = cells.to_pylist()
        found = list(map(self._ids.get, raw))
        if None in found:
            self._learn(list(dict.fromkeys(cell for cell, known in zip(raw, found, strict=True) if known is None)))
            found = list(map(self._ids.get, raw))
        return np.array(found, np.int32)

    def _learn(self, cells: list[bytes]) -> None:
        """Give ids to distinct cells that have none."""
        unchanged = self.unchanged(arrow_arrays.binary(cells))
        if unchanged.all():
            texts = [cell.decode() for cell in cells]
            if self._value_ids.keys().isdisjoint(texts):  # column of very many cells: nothing to look up
                numbers = range(len(self.texts), len(self.texts) + len(texts))
                self.texts += texts
                self._value_ids.update(zip(texts, numbers, strict=True))
                self._ids.update(zip(cells, numbers, strict=True))
                return
        for cell, is_value in zip(cells, unchanged.tolist(), strict=True):
            self._ids[cell] = self._value_id(cell.decode()) if is_value else self._judged_id(cell)

    def _value_id(self, text: str) -> int:
        number = self._value_ids.setdefault(text, len(self.texts))
        if number == len(self.texts):
            self.texts.append(text)
        return number

    def _judged_id(self, cell: bytes) -> int:
        outcome, shown = self.judge(cell)
        if not isinstance(outcome, Reject):
            return self._value_id(outcome)
        self.rejects.append((outcome, shown))
        return -len(self.rejects)

    def unchanged(self, cells: pa.Array) -> Mask:
        """Return which cells the rule certainly takes and leaves as they are; the others must be judged."""
        if self._pattern is None:
            return np.zeros(len(cells), np.bool_)
        plain = pc.match_substring_regex(cells, self._pattern)
        return arrow_arrays.as_bool(pc.and_not(plain, pc.is_in(cells, value_set=self._special)))

    def judge(self, cell: bytes) -> tuple[str | Reject, str]:
        """Return (canonical text or refusal, the cell as text)."""
        text = self._decode(cell)
        if isinstance(text, Reject):
            return text, cell.decode("latin-1")
        return self._rule(text), text

    # -- cells of which the column keeps count ------------------------------------------------------------------------

    def count(self, ids: I32, times: I64) -> None:
        """Book accepted cells: how many times each id was taken."""
        if len(self._counts) < len(self.texts):
            self._counts = np.concatenate([self._counts, np.zeros(len(self.texts), np.int64)])
        np.add.at(self._counts, ids, times)

    def uncount(self, ids: I32, empty: Mask, times: I64) -> None:
        """Take accepted cells back: their rows turned out to be duplicates. By code: id, whether empty, how often."""
        self._wide_nulls -= int(times[empty].sum())  # may go below zero: the nulls of counted cells are added to it
        if not self._is_free_text:
            taken = (times > 0) & ~empty
            np.subtract.at(self._counts, ids[taken], times[taken])

    def values(self) -> tuple[U64, pa.Array]:
        """Return (hashes, CSV text with comma) by value id."""
        have = len(self._hashes)
        if have < len(self.texts):
            fresh = arrow_arrays.binary([text.encode() for text in self.texts[have:]])
            self._hashes = np.concatenate([self._hashes, hash_texts(fresh)])
            added = pc.binary_join_element_wise(all_quoted(fresh), _COMMA, _NOTHING)
            self._values = pa.concat_arrays([self._values, added])
        return self._hashes, self._values

    # -- free text ----------------------------------------------------------------------------------------------------

    def note_free(self, cells: pa.Array, times: I64) -> None:
        """Book accepted cells beyond the distinct limit: nulls and extremes only."""
        present = arrow_arrays.as_int32(pc.binary_length(cells)) > 0
        self._wide_nulls += int(times[~present].sum())
        taken = present & (times > 0)
        if not taken.any():
            return
        cells = cells.filter(arrow_arrays.mask(taken))
        if self._key is str:
            found = pc.min_max(cells)
            edges = [found["min"].as_py().decode(), found["max"].as_py().decode()]
        else:
            edges = [cell.decode() for cell in cells.to_pylist()]
        edges += self._extremes
        self._extremes = [min(edges, key=self._key), max(edges, key=self._key)]

    # -- figures ------------------------------------------------------------------------------------------------------

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


class CountedCells:
    """Cells that the column knows by id: the way of columns of few distinct cells."""

    def __init__(self, column: Column, ids: I32) -> None:
        self.refused = ids < 0
        self._column = column
        self._ids = ids

    def refusal(self, code: int) -> tuple[Reject, str]:
        """See DistinctCells."""
        return self._column.rejects[-int(self._ids[code]) - 1]

    def book(self, times: I64) -> None:
        """See DistinctCells."""
        taken = ~self.refused
        self._column.count(self._ids[taken], times[taken])

    def lines(self) -> pa.Array:
        """See DistinctCells."""
        values = self._column.values()[1]
        if not len(values):  # the rule took none of them
            return arrow_arrays.binary([b""] * len(self._ids))
        return values.take(arrow_arrays.integers(np.maximum(self._ids, 0)))

    def hashes(self) -> U64:
        """See DistinctCells."""
        hashes = self._column.values()[0]
        return np.take(hashes, np.maximum(self._ids, 0)) if len(hashes) else np.zeros(len(self._ids), np.uint64)

    def ids(self) -> I32:
        """See DistinctCells."""
        return self._ids

    def text(self, code: int) -> str:
        """See DistinctCells."""
        return self._column.texts[int(self._ids[code])]


class FreeCells:
    """Cells of a column of very many distinct ones: nothing is kept from block to block, so that memory stays flat."""

    def __init__(self, column: Column, cells: pa.Array, token_text: TokenText | None) -> None:
        self.refused: Mask = np.zeros(len(cells), np.bool_)
        self._column = column
        self._refusals: dict[int, tuple[Reject, str]] = {}
        self._texts = cells
        self._lines: pa.Array | None = None
        odd = ~column.unchanged(cells)
        if odd.any():
            self._judge(odd, token_text)

    def _judge(self, odd: Mask, token_text: TokenText | None) -> None:
        mask = arrow_arrays.mask(odd)
        texts: list[bytes] = []
        lines: list[bytes] = []
        cells = self._texts.filter(mask).to_pylist()
        for code, cell in zip(np.flatnonzero(odd).tolist(), cells, strict=True):
            verdict, shown = self._column.judge(cell if token_text is None else token_text.unquoted(cell))
            if isinstance(verdict, Reject):
                self._refusals[code] = (verdict, shown)
                verdict = ""
            texts.append(verdict.encode())
            lines.append(quoted(verdict).encode())
        self.refused[list(self._refusals)] = True
        original = self._texts
        self._texts = pc.replace_with_mask(original, mask, arrow_arrays.binary(texts))
        if lines != texts:
            self._lines = pc.replace_with_mask(original, mask, arrow_arrays.binary(lines))

    def refusal(self, code: int) -> tuple[Reject, str]:
        """See DistinctCells."""
        return self._refusals[code]

    def book(self, times: I64) -> None:
        """See DistinctCells."""
        self._column.note_free(self._texts, times)

    def lines(self) -> pa.Array:
        """See DistinctCells."""
        texts = self._texts if self._lines is None else self._lines
        return pc.binary_join_element_wise(texts, _COMMA, _NOTHING)

    def hashes(self) -> U64:
        """See DistinctCells."""
        return hash_texts(self._texts)

    def ids(self) -> I32:
        """See DistinctCells."""
        return np.zeros(0, np.int32)

    def text(self, code: int) -> str:
        """See DistinctCells."""
        return str(self._texts[code].as_py().decode())
