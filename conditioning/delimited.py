"""Delimited text to batches: cells taken where they lie, or record by record where a dialect has odder marks."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conditioning import arrow_arrays
from conditioning.batches import NONE_REFUSED, Batch, Broken, Reason, Refused, as_refused
from conditioning.dialect import Delimited
from conditioning.headers import Layout
from conditioning.raw_input import Stream
from conditioning.reasons import FileRefused
from conditioning.record_blocks import BLOCK_BYTES, I32, I64, Block, record_blocks
from conditioning.record_tokens import Records, TokenText, records_of

LONGEST_RECORD = 1 << 20  # a record beyond it is quarantined: no table has one, a lost quote or line end does
BATCH_RECORDS = 100_000
RAW_TEXT_LIMIT = 2_000  # characters of raw text kept in quarantine


def raw_text(data: bytes) -> str:
    """Return a record's bytes as text, cut to the limit."""
    kept = data[: RAW_TEXT_LIMIT * 4]
    is_whole = len(kept) == len(data)
    try:
        # What is cut off may have cut a character in two.
        text = kept.decode() if is_whole else codecs.getincrementaldecoder("utf-8")().decode(kept)
    except UnicodeDecodeError:
        text = kept.decode("cp1252", "replace")
    return text if is_whole and len(text) <= RAW_TEXT_LIMIT else text[:RAW_TEXT_LIMIT] + " [cut]"


def _raw_texts(data: bytes, starts: I32, ends: I32) -> pa.Array:
    """Return what `raw_text` says of some records of a block, in UTF-8; nearly all are so as they are."""
    bounds = np.sort(np.concatenate([starts, ends]))  # every other piece between them is a record
    pieces = pa.Array.from_buffers(
        pa.binary(), max(len(bounds) - 1, 0), [None, pa.py_buffer(bounds), pa.py_buffer(data)]
    )
    records = arrow_arrays.take(pieces, np.searchsorted(bounds, starts).astype(np.int32))
    is_ascii = arrow_arrays.as_bool(pc.string_is_ascii(records.view(pa.string())))
    odd = ~is_ascii | (ends - starts > RAW_TEXT_LIMIT)
    if not odd.any():
        return records
    texts = _in_utf8(records.filter(arrow_arrays.mask(odd)).to_pylist())
    return pc.replace_with_mask(records, arrow_arrays.mask(odd), arrow_arrays.binary(texts))


def _in_utf8(records: list[bytes]) -> list[bytes]:
    """Return what `raw_text` says of some records, in UTF-8; other encodings are decoded for all of them at once."""
    texts = [record if len(record) <= RAW_TEXT_LIMIT else raw_text(record).encode() for record in records]
    characters, end = b"".join(texts).decode("cp1252", "replace"), 0  # one for each byte
    for place, text in enumerate(texts):
        start, end = end, end + len(text)
        if text.decode(errors="ignore").encode() != text:
            texts[place] = characters[start:end].encode()
    return texts


class DelimitedReader:
    """Yields batches of a file's records."""

    def __init__(
        self,
        stream: Stream,
        file: str,
        dialect: Delimited,
        layout: Layout,
        *,
        skip_records: int,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self.trailer: list[str] | None = None
        self._file = file
        self._dialect = dialect
        self._layout = layout
        self._skip = skip_records
        self._delimiter = ord(dialect.delimiter)
        self._quote = ord(dialect.quote) if dialect.quote else None
        self._blocks = record_blocks(stream, file, self._delimiter, self._quote, block_bytes)
        self._number = 0
        self._token_text = TokenText(self._quote)
        # What an escape or a space before a quote means is left to the csv module.
        self._plain = not (dialect.escape or dialect.skip_initial_space or dialect.comment)

    def __iter__(self) -> Iterator[Batch]:
        held: Block | None = None  # one block behind where there is a trailer, which only the last one may hold
        try:
            for block in self._blocks:
                if not self._dialect.trailer:
                    yield from self._batches(block, last=False)
                    continue
                if held is not None:
                    yield from self._batches(held, last=False)
                held = block
        except FileRefused as refused:
            refused.fields.setdefault("record", self._number)
            raise
        if held is not None:
            yield from self._batches(held, last=True)

    def _batches(self, block: Block, *, last: bool) -> Iterator[Batch]:
        """Yield the block's records, very short ones in several batches: refused ones cost more than their bytes."""
        data = block.data
        records = records_of(block)
        if self._skip:
            dropped = min(self._skip, len(records))
            records, self._skip = records.pick(slice(dropped, None)), self._skip - dropped
        if self._dialect.comment:
            mark = self._dialect.comment.encode()
            records = records.pick(
                np.array([not data.startswith(mark, start) for start in records.starts.tolist()], np.bool_)
            )
        if last and self._dialect.trailer and len(records):
            cells = self._cells(data[int(records.starts[-1]) : int(records.ends[-1])])
            if cells and cells[0].strip() == self._dialect.trailer:
                self.trailer = cells
                records = records.pick(slice(-1))
        for start in range(0, len(records), BATCH_RECORDS):
            part = records.pick(slice(start, start + BATCH_RECORDS))
            numbers = self._number + 1 + np.arange(len(part), dtype=np.int64)
            self._number += len(part)
            if self._plain:
                yield self._quickly(data, part, numbers)
            else:
                yield self._slowly(data, part.starts, part.ends, numbers)

    def _quickly(self, data: bytes, records: Records, numbers: I64) -> Batch:
        """Take the cells where they lie; a record of another shape than the header's is broken."""
        fits = (records.widths == self._layout.width) & (records.ends - records.starts <= LONGEST_RECORD)
        broken = NONE_REFUSED
        if not fits.all():
            odd = np.flatnonzero(~fits)
            starts, ends = records.starts[odd], records.ends[odd]
            # Few shapes are met: that of a record is its width, or its length below zero where it is too long.
            shapes = np.where(ends - starts > LONGEST_RECORD, starts - ends, records.widths[odd])
            kinds, which = np.unique(shapes, return_inverse=True)
            reasons = [self._misshapen(max(kind, 0), max(-kind, 0)) for kind in kinds.tolist()]
            texts = _raw_texts(data, starts, ends)
            broken = Refused(numbers[odd], reasons, which, texts, np.ones(len(odd), np.bool_))
            records, numbers = records.pick(fits), numbers[fits]
        return Batch(
            (None if source is None else records.column(source) for source in self._layout.sources),
            numbers,
            lambda rows: _raw_texts(data, records.starts[rows], records.ends[rows]),
            broken,
            self._token_text,
        )

    def _misshapen(self, cells: int, length: int) -> Reason:
        if length > LONGEST_RECORD:
            return "record_too_long", "", f"{length} bytes", f"at most {LONGEST_RECORD} bytes"
        code = "too_few_cells" if cells < self._layout.width else "too_many_cells"
        return code, "", str(cells), f"{self._layout.width} cells"

    def _cells(self, record: bytes) -> list[str]:
        text = record.decode("latin-1").replace("\r\n", "\n")
        return [cell for row in self._dialect.records(text) for cell in row]

    def _slowly(self, data: bytes, starts: I32, ends: I32, numbers: I64) -> Batch:
        """Parse record by record: for odd dialects, monstrous records, and blocks that Arrow refuses."""
        csv.field_size_limit(LONGEST_RECORD)
        broken: list[Broken] = []
        kept: list[int] = []
        rows: list[list[bytes]] = []
        for index, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            record = data[start:end]
            if end - start > LONGEST_RECORD:
                broken.append(Broken(int(numbers[index]), *self._misshapen(0, len(record)), raw_text(record)))
                continue
            try:
                cells = self._cells(record)
            except csv.Error as error:
                broken.append(
                    Broken(int(numbers[index]), "not_a_record", "", str(error), "a record of cells", raw_text(record))
                )
                continue
            if len(cells) != self._layout.width:
                fault = self._misshapen(len(cells), len(record))
                broken.append(Broken(int(numbers[index]), *fault, raw_text(record)))
                continue
            kept.append(index)
            rows.append([cell.encode("latin-1") for cell in cells])
        return Batch(
            (
                None if source is None else arrow_arrays.binary([row[source] for row in rows])
                for source in self._layout.sources
            ),
            numbers[kept] if kept else numbers[:0],
            lambda chosen: _raw_texts(data, starts[kept][chosen], ends[kept][chosen]),
            as_refused(broken),
        )
