"""Condition one raw file: the same work for the functions, the command line and the benchmarks.

`condition` reads the file once and judges it; the caller then writes what the verdict allows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from conditioning.arrow_arrays import use_plain_allocator
from conditioning.open_table import OpenRequest, OpenTable, open_table
from conditioning.raw_input import Metered, Stream
from conditioning.reading import WeekBounds
from conditioning.reasons import UNCOUNTED, FileRefused
from conditioning.spool import Scratch, TempFile
from conditioning.table import Counts, Table
from conditioning.version import CONDITIONER_VERSION

ACCEPTED, PARTIAL, REJECTED = "accepted", "partial", "rejected"


@dataclass
class Judged:
    """One file, read and judged. `table` is None where the file itself was refused."""

    status: str
    sha256: str
    bytes: int
    table: Table | None
    opened: OpenTable | None
    refused: FileRefused | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def counts(self) -> Counts:
        """Where the records ended."""
        return self.table.counts if self.table else Counts()

    def discard(self) -> None:
        """Give scratch space back."""
        if self.table is not None:
            self.table.discard()


def data_version(raw_sha256: str, source: str, rules_version: str) -> str:
    """Return the identity of a conditioned dataset: same bytes, same rules, same version."""
    return hashlib.sha256(f"{raw_sha256}|{source}|{rules_version}|{CONDITIONER_VERSION}".encode()).hexdigest()[:16]


def condition(
    stream: Stream,
    request: OpenRequest,
    *,
    bounds: WeekBounds | None = None,
    scratch: Callable[[], Scratch] = TempFile,
    memory_rows: int | None = None,
) -> Judged:
    """Read the whole file and judge it. Every fault of the file ends in the result, never in an exception."""
    use_plain_allocator()
    raw = Metered(stream)
    table: Table | None = None
    opened: OpenTable | None = None
    try:
        opened = open_table(raw, request)
        table = Table(
            request.contract,
            opened.layout,
            request.file,
            encoding=opened.encoding,
            bounds=bounds,
            scratch=scratch,
            memory_rows=memory_rows,
        )
        for batch in opened.batches:
            table.take(batch)
        _check_trailer(opened, table, request)
        if not table.counts.records_read and not request.contract.allow_empty:
            raise FileRefused("no_records", f"{request.file} holds no records", file=request.file, value="0 records")
        _check_share(table, request)
    except FileRefused as refused:
        raw.drain()
        return Judged(REJECTED, raw.sha256, raw.size, table, opened, refused, list(opened.warnings) if opened else [])
    raw.drain()
    return Judged(ACCEPTED, raw.sha256, raw.size, table, opened, None, [*request.contract.warnings, *opened.warnings])


def _check_trailer(opened: OpenTable, table: Table, request: OpenRequest) -> None:
    trailer = opened.reader.trailer if opened.reader else None
    if trailer is None:
        return
    seen = table.counts.records_read
    declared = trailer[1].strip() if len(trailer) > 1 else ""
    if not declared.isascii() or not declared.isdigit() or int(declared) != seen:
        raise FileRefused(
            "trailer_mismatch",
            f"{request.file}: the trailer says {declared!r} records, the file holds {seen}",
            file=request.file,
            row=seen + 1,
            field="trailer",
            value=declared,
        )


def _check_share(table: Table, request: OpenRequest) -> None:
    counts = table.counts
    bad = counts.quarantined - sum(counts.by_reason[code] for code in UNCOUNTED)
    if bad and (bad == counts.records_read or bad / counts.records_read > request.contract.max_quarantine_share):
        code, number = counts.by_reason.most_common(1)[0]
        example = table.examples[code][0]
        raise FileRefused(
            "too_many_quarantined",
            f"{request.file}: {bad} of {counts.records_read} records are bad, more than the tolerated share of "
            f"{request.contract.max_quarantine_share:g}; most often {code} ({number}), such as row {example['row']}, "
            f"field {example['field']!r}: {example['value']!r} is not {example['expected']}",
            file=request.file,
            row=example["row"],
            field=example["field"],
            value=example["value"],
        )


def verdict(judged: Judged) -> str:
    """Return the final status, known once duplicates are counted."""
    if judged.refused is not None:
        return REJECTED
    counts = judged.counts
    excluded = sum(counts.by_reason[code] for code in UNCOUNTED)
    return PARTIAL if counts.quarantined - excluded + counts.duplicates else ACCEPTED


def check_invariant(judged: Judged) -> None:
    """Stop before anything is published if the counts do not add up: that would be our fault, not the file's."""
    counts = judged.counts
    if (
        counts.records_read != counts.conditioned + counts.quarantined + counts.duplicates
        or min(counts.conditioned, counts.quarantined, counts.duplicates) < 0
    ):
        from domain.errors import IntegrityError

        raise IntegrityError(f"the counts do not add up: {counts.to_dict()}", counts=counts.to_dict())


def reasons_of(judged: Judged) -> list[dict[str, Any]]:
    """Return each reason with its count, its remedy and the first rows that it hit."""
    from conditioning.reasons import RECORD_REASONS

    if judged.table is None:
        return []
    return [
        {
            "code": code,
            "records": number,
            "meaning": RECORD_REASONS[code],
            "examples": judged.table.examples.get(code, []),
        }
        for code, number in sorted(judged.counts.by_reason.items())
    ]
