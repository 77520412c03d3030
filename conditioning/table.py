"""The engine: batches of raw cells in; lines of standard CSV, quarantine and figures out, in flat memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from conditioning import arrow_arrays
from conditioning.accepted_rows import AcceptedBlock, AcceptedRows
from conditioning.batches import I64, Batch, Reason, Refused, in_order
from conditioning.cell_checks import sort_key
from conditioning.column_blocks import ColumnBlock
from conditioning.columns import Column
from conditioning.contract import Contract
from conditioning.data_lines import BlockLines, DataLines
from conditioning.dedupe import Duplicates, KeyLog, merged
from conditioning.hashing import U64, hash_values, mix, terms
from conditioning.headers import Layout
from conditioning.overlap import behind
from conditioning.quarantine_list import QuarantineList
from conditioning.reading import WeekBounds
from conditioning.spool import Scratch
from conditioning.standard_csv import DUPLICATE_COLUMNS, all_quoted, line, quoted
from conditioning.values import make_rule

_SECOND = np.uint64(0x5851F42D4C957F2D)
_NO_TEXT, _HALF = hash_values([""]), np.uint64(32)
_COMMA, _TRUE_OR_FALSE = arrow_arrays.scalar(b","), arrow_arrays.binary([b"false", b"true"])

Write = Callable[[bytes], object]


@dataclass
class Counts:
    """Where every record of the file ended. `records_read` = `conditioned` + `quarantined` + `duplicates`."""

    records_read: int = 0
    conditioned: int = 0
    quarantined: int = 0
    duplicates: int = 0
    conflicting_duplicates: int = 0
    by_reason: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "records_read": self.records_read,
            "conditioned": self.conditioned,
            "quarantined": self.quarantined,
            "duplicates": self.duplicates,
            "conflicting_duplicates": self.conflicting_duplicates,
            "by_reason": {code: number for code, number in sorted(self.by_reason.items()) if number},
        }


class Table:
    """One file on its way into the standard CSV."""

    def __init__(
        self,
        contract: Contract,
        layout: Layout,
        source_file: str,
        *,
        encoding: str = "",
        bounds: WeekBounds | None = None,
        scratch: Callable[[], Scratch],
        memory_rows: int | None = None,
    ) -> None:
        self.counts = Counts()
        self.rows = 0  # lines of the data, after `finish`
        self._contract = contract
        self._fields = layout.fields
        self._columns = [
            Column(item, make_rule(item, reading, bounds), reading, encoding)
            for item, reading in zip(layout.fields, layout.readings, strict=True)
        ]
        names = [item.name for item in layout.fields]
        self._excluding = [position for position, item in enumerate(layout.fields) if item.exclude]
        self._keys = [[names.index(name) for name in key] for key in contract.keys]
        self._logs = [KeyLog() if memory_rows is None else KeyLog(memory_rows, memory_rows) for _ in self._keys]
        self._row_rules = [(rule, [names.index(name) for name in rule.columns]) for rule in contract.row_rules]
        self._duplicate_end = arrow_arrays.scalar(f"{quoted(source_file)}\n".encode())
        self._lines = DataLines(source_file)
        self._content = [0, 0]
        self._accepted = AcceptedRows(scratch)
        self._quarantine = QuarantineList(source_file, scratch)
        self._weights: dict[int, int] = {}  # place among the accepted rows -> input records, where it is not one

    @property
    def examples(self) -> dict[str, list[dict[str, Any]]]:
        """The first refused records of each reason."""
        return self._quarantine.examples

    @property
    def columns(self) -> Sequence[Column]:
        """The columns in order."""
        return self._columns

    # -- first pass --------------------------------------------------------------------------------------------------

    def take(self, batch: Batch) -> None:
        """Condition one batch."""
        weight = batch.rows if batch.weights is None else int(batch.weights.sum())
        self.counts.records_read += weight + len(batch.broken)
        blocks = [
            column.block(cells, batch.rows, batch.token_text)
            for column, cells in zip(self._columns, batch.columns, strict=True)
        ]
        bad = np.zeros(batch.rows, np.bool_)
        for block in blocks:
            if block.bad is not None:
                bad |= block.bad
        refused = [batch.broken]
        if bad.any():
            refused.append(self._refusals(batch, blocks, np.flatnonzero(bad)))
        if not self._row_rules:
            self._emit(batch, blocks, np.flatnonzero(~bad) if bad.any() else None)
        else:
            refused.append(self._emit_checked(batch, blocks, bad))
        self._quarantine.add(in_order(refused))
        self.counts.by_reason = self._quarantine.by_reason
        self.counts.quarantined = self._quarantine.by_reason.total()

    def _refusals(self, batch: Batch, blocks: Sequence[ColumnBlock], rows: I64) -> Refused:
        none = np.zeros(len(rows), np.bool_)
        first = np.stack([none if block.bad is None else block.bad[rows] for block in blocks]).argmax(axis=0)
        for position in self._excluding:  # what is left out on purpose is not bad for any other reason
            first[self._left_out(blocks[position], rows)] = position
        order = np.argsort(first, kind="stable")
        rows, first = rows[order], first[order]
        reasons: list[Reason] = []
        which = np.empty(len(rows), np.int64)
        for position in np.unique(first).tolist():
            hit = first == position
            codes, places = np.unique(blocks[position].codes[rows[hit]], return_inverse=True)
            which[hit] = places + len(reasons)
            reasons += [self._reason(blocks[position], position, code) for code in codes.tolist()]
        return batch.refuse(rows, reasons, which)

    def _reason(self, block: ColumnBlock, position: int, code: int) -> Reason:
        reject, shown = block.cells.refusal(code)
        return reject.code, self._fields[position].name, shown[:500], reject.expected

    @staticmethod
    def _left_out(block: ColumnBlock, rows: I64) -> npt.NDArray[np.bool_]:
        if block.bad is None:
            return np.zeros(len(rows), np.bool_)
        return np.array([block.bad[row] and block.refusal(row)[0].code == "excluded_value" for row in rows], np.bool_)

    def _emit_checked(self, batch: Batch, blocks: list[ColumnBlock], bad: npt.NDArray[np.bool_]) -> Refused:
        """Apply the rules across fields, row by row: contracts that have them are of small sources."""
        good = np.flatnonzero(~bad)
        texts = {
            position: blocks[position].texts_at(good) for _, positions in self._row_rules for position in positions
        }
        failed: list[int] = []
        faults: list[Reason] = []
        for index, row in enumerate(good.tolist()):
            fault = self._disagreement({position: cells[index] for position, cells in texts.items()})
            if fault is not None:
                failed.append(row)
                faults.append(("fields_disagree", *fault))
        bad[failed] = True
        self._emit(batch, blocks, np.flatnonzero(~bad) if bad.any() else None)
        return batch.refuse(np.array(failed, np.int64), faults, np.arange(len(failed)))

    def _disagreement(self, cells: dict[int, str]) -> tuple[str, str, str] | None:
        for _, positions in self._row_rules:
            present = [(position, cells[position]) for position in positions if cells[position]]
            for (left, low), (right, high) in pairwise(present):
                key = sort_key(self._fields[left])
                if key(low) > key(high):
                    names = self._fields[left].name, self._fields[right].name
                    return names[1], high, f"{names[0]} <= {names[1]} (found {low})"
        return None

    def _add_content(self, rows: U64, sign: int) -> None:
        """Add row hashes to the content hash (or take them away): two sums, so that order does not matter."""
        sums = int(rows.sum(dtype=np.uint64)), int(mix(rows ^ _SECOND).sum(dtype=np.uint64))
        for lane in (0, 1):
            self._content[lane] = (self._content[lane] + sign * sums[lane]) % (1 << 64)

    def _emit(self, batch: Batch, blocks: Sequence[ColumnBlock], kept: I64 | None) -> None:
        numbers = batch.numbers if kept is None else batch.numbers[kept]
        for block in blocks:
            block.keep(kept)
        if not len(numbers):
            return
        cells = [block.terms(position) for position, block in enumerate(blocks)]
        content = np.zeros(len(numbers), np.uint64)
        for term in cells:
            content += term
        self._add_content(mix(content), 1)
        for log, positions in zip(self._logs, self._keys, strict=True):
            keys, checks = np.zeros(len(numbers), np.uint64), np.zeros(len(numbers), np.uint64)
            for position in positions:
                keys += cells[position]
                checks += keys  # cells of equal sum have other sums on the way
            if len(positions) == 1 and not self._contract.primary_key:  # a unique field may be missing more than once
                absent = cells[positions[0]] == terms(_NO_TEXT, positions[0])
                keys[absent] = numbers[absent].astype(np.uint64) * _SECOND
            log.add(keys, content, checks >> _HALF, numbers)
        weights = batch.weights if kept is None or batch.weights is None else batch.weights[kept]
        if weights is None:
            self.counts.conditioned += len(numbers)
        else:
            self.counts.conditioned += int(weights.sum())
            self._weights.update(enumerate(weights.tolist(), self._accepted.rows))
        self._accepted.add(blocks, numbers)

    # -- second pass -------------------------------------------------------------------------------------------------

    def write_quarantine(self, write: Write) -> int:
        """Write the quarantine list; return its rows."""
        return self._quarantine.write(write)

    def header(self) -> bytes:
        """Return the header line of the standard CSV."""
        return line([*(item.name for item in self._fields), "source_file", "source_row"]).encode()

    def finish(self, write: Write, write_duplicate: Write) -> None:
        """Write the data without the rows that repeat a key, and the list of those rows."""
        with behind(write) as write_behind:
            self._finish(write_behind, write_duplicate)

    def _finish(self, write: Write, write_duplicate: Write) -> None:
        write(self.header())
        write_duplicate(line(DUPLICATE_COLUMNS).encode())
        start = 0
        found = zip(*(log.duplicates() for log in self._logs), strict=True) if self._logs else repeat(())
        for block, by_key in zip(self._accepted.blocks(), found, strict=bool(self._logs)):
            lines, duplicates = self._lines.of(block), merged(by_key)
            if len(duplicates.rows):
                self._book_duplicates(start, block, duplicates)
                write_duplicate(self._duplicate_lines(block, lines, duplicates))
            for text in lines.texts(duplicates.rows):
                write(text)
            start += len(block.numbers)
            self.rows += len(block.numbers) - len(duplicates.rows)
        for log in self._logs:
            log.close()

    def _book_duplicates(self, start: int, block: AcceptedBlock, duplicates: Duplicates) -> None:
        weights = np.array([self._weights.get(start + row, 1) for row in duplicates.rows.tolist()], np.int64)
        self.counts.conditioned -= int(weights.sum())
        self.counts.duplicates += int(weights.sum())
        self.counts.conflicting_duplicates += int(weights[~duplicates.identical].sum())
        self._add_content(duplicates.content, -1)
        for column, cells in zip(self._columns, block.columns, strict=True):
            lengths = arrow_arrays.as_int32(pc.binary_length(cells.lines))
            times = np.bincount(cells.codes[duplicates.rows], minlength=len(lengths))
            column.uncount(cells.ids, lengths == len(","), times)

    def _duplicate_lines(self, block: AcceptedBlock, lines: BlockLines, duplicates: Duplicates) -> bytes:
        texts = lines.lines(duplicates.rows)
        listed = pc.binary_join_element_wise(
            arrow_arrays.decimals(block.numbers[duplicates.rows]),
            arrow_arrays.decimals(duplicates.first_numbers),
            _TRUE_OR_FALSE.take(arrow_arrays.integers(duplicates.identical.astype(np.int64))),
            all_quoted(pc.binary_slice(texts, 0, -1)),
            self._duplicate_end,
            _COMMA,
        )
        return bytes(listed.buffers()[2].to_pybytes())

    def content_hash(self) -> str:
        """Return a hash of all rows' rule columns, whatever their order, file or row numbers (after `finish`)."""
        return f"{self.rows:x}-{self._content[0]:016x}{self._content[1]:016x}"

    def quality(self) -> dict[str, Any]:
        """Return the figures of each column (after `finish`)."""
        return {column.field.name: column.quality() for column in self._columns}

    def discard(self) -> None:
        """Give scratch space back."""
        self._accepted.discard()
        self._quarantine.discard()
        for log in self._logs:
            log.close()
