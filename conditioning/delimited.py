"""Delimited text to batches: blocks of whole records parsed by Arrow; our own spans know what it cannot say."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from conditioning import arrow_arrays
from conditioning.batches import Batch, Broken
from conditioning.dialect import Delimited
from conditioning.headers import Layout
from conditioning.raw_input import Stream
from conditioning.reasons import FileRefused
from conditioning.record_blocks import BLOCK_BYTES, I64, Block, record_blocks, record_spans

LONGEST_RECORD = 1 << 20  # a record beyond it is quarantined: no table has one, a lost quote or line end does
RAW_TEXT_LIMIT = 2_000  # characters of raw text kept in quarantine
_CODED = pa.dictionary(pa.int32(), pa.binary())


def raw_text(data: bytes) -> str:
    """Return a record's bytes as text, cut to the limit."""
    try:
        text = data[: RAW_TEXT_LIMIT * 4].decode("utf-8")
    except UnicodeDecodeError:
        text = data[: RAW_TEXT_LIMIT * 4].decode("cp1252", "replace")
    return text if len(text) <= RAW_TEXT_LIMIT else text[:RAW_TEXT_LIMIT] + " [cut]"


class DelimitedReader:
    """Yields batches; `wide` names columns (by field position) whose cells are too many to encode."""

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
        self.wide: set[int] = set()
        self.empty_lines = 0
        self.trailer: list[str] | None = None
        self._file = file
        self._dialect = dialect
        self._layout = layout
        self._skip = skip_records
        self._delimiter = ord(dialect.delimiter)
        self._quote = ord(dialect.quote) if dialect.quote else None
        self._blocks = record_blocks(stream, file, self._delimiter, self._quote, block_bytes)
        self._number = 0
        # Doubled and escaped quotes, or two-character marks, are not Arrow's business with our own record borders.
        self._plain = not (dialect.escape or dialect.skip_initial_space or dialect.comment)

    def __iter__(self) -> Iterator[Batch]:
        held: Block | None = None  # one block behind, because only the last one may hold the trailer
        try:
            for block in self._blocks:
                if held is not None:
                    yield self._batch(held, last=False)
                held = block
        except FileRefused as refused:
            refused.fields.setdefault("record", self._number)
            raise
        if held is not None:
            yield self._batch(held, last=True)

    def _batch(self, block: Block, *, last: bool) -> Batch:
        data = block.data
        starts, ends = record_spans(data, self._delimiter, self._quote)
        if self._skip:
            dropped = min(self._skip, len(starts))
            starts, ends, self._skip = starts[dropped:], ends[dropped:], self._skip - dropped
            if len(starts) and dropped:
                data = data[int(starts[0]) :]
                starts, ends = starts - starts[0], ends - starts[0]
        if self._dialect.comment:
            mark = self._dialect.comment.encode()
            keep = np.array([not data.startswith(mark, int(start)) for start in starts], np.bool_)
            starts, ends = starts[keep], ends[keep]
        if last and self._dialect.trailer and len(starts):
            cells = self._cells(data[int(starts[-1]) : int(ends[-1])])
            if cells and cells[0].strip() == self._dialect.trailer:
                self.trailer = cells
                data, starts, ends = data[: int(starts[-1])], starts[:-1], ends[:-1]
        numbers = self._number + 1 + np.arange(len(starts), dtype=np.int64)
        self._number += len(starts)
        if len(starts) and int((ends - starts).max()) > LONGEST_RECORD:
            return self._slowly(data, starts, ends, numbers)
        return self._quickly(data, starts, ends, numbers) if self._plain else self._slowly(data, starts, ends, numbers)

    def _quickly(self, data: bytes, starts: I64, ends: I64, numbers: I64) -> Batch:
        if not len(starts):
            return Batch([None] * len(self._layout.fields), numbers, lambda _: "")
        latin, fed = False, data
        if not data.isascii():
            try:
                data.decode("utf-8")
            except UnicodeDecodeError:
                latin, fed = True, data.decode("latin-1").encode("utf-8")
        bad: list[tuple[int, int]] = []

        def on_bad(row: arrow_csv.InvalidRow) -> str:
            bad.append((row.number, row.actual_columns))
            return "skip"

        wanted = [source for source in self._layout.sources if source is not None]
        kinds = {
            f"c{source}": pa.binary() if position in self.wide else _CODED
            for position, source in enumerate(self._layout.sources)
            if source is not None
        }
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(fed),
                read_options=arrow_csv.ReadOptions(
                    column_names=[f"c{index}" for index in range(self._layout.width)],
                    use_threads=False,
                    block_size=len(fed) + 1,
                ),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=self._dialect.delimiter,
                    quote_char=self._dialect.quote or False,
                    newlines_in_values=True,
                    invalid_row_handler=on_bad,
                ),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=kinds,
                    include_columns=[f"c{source}" for source in dict.fromkeys(wanted)],
                    strings_can_be_null=False,
                    quoted_strings_can_be_null=False,
                    check_utf8=False,
                ),
            )
        except pa.ArrowInvalid:
            return self._slowly(data, starts, ends, numbers)
        if table.num_rows + len(bad) != len(starts):
            return self._slowly(data, starts, ends, numbers)
        broken: list[Broken] = []
        good_spans: I64 | None = None
        if bad:
            mask = np.ones(len(starts), np.bool_)
            for row, cells in bad:
                index = row - 1
                mask[index] = False
                broken.append(self._misshapen(int(numbers[index]), cells, data[int(starts[index]) : int(ends[index])]))
            good_spans = np.flatnonzero(mask)
            numbers = numbers[good_spans]
        columns: list[pa.Array | None] = [
            None if source is None else table.column(f"c{source}").combine_chunks() for source in self._layout.sources
        ]
        columns = [column.chunk(0) if isinstance(column, pa.ChunkedArray) else column for column in columns]

        def raw(row: int) -> str:
            index = row if good_spans is None else int(good_spans[row])
            return raw_text(data[int(starts[index]) : int(ends[index])])

        return Batch(columns, numbers, raw, broken, latin)

    def _misshapen(self, number: int, cells: int, record: bytes) -> Broken:
        code = "too_few_cells" if cells < self._layout.width else "too_many_cells"
        return Broken(number, code, "", str(cells), f"{self._layout.width} cells", raw_text(record))

    def _cells(self, record: bytes) -> list[str]:
        text = record.decode("latin-1").replace("\r\n", "\n")
        dialect = self._dialect
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=dialect.delimiter,
            quotechar=dialect.quote or None,
            quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
            skipinitialspace=dialect.skip_initial_space,
            escapechar=dialect.escape or None,
            doublequote=not dialect.escape,
        )
        return [cell for row in reader for cell in row]

    def _slowly(self, data: bytes, starts: I64, ends: I64, numbers: I64) -> Batch:
        """Parse record by record: for odd dialects, monstrous records, and blocks that Arrow refuses."""
        csv.field_size_limit(LONGEST_RECORD)
        broken: list[Broken] = []
        kept: list[int] = []
        rows: list[list[bytes]] = []
        for index, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            record = data[start:end]
            if end - start > LONGEST_RECORD:
                broken.append(
                    Broken(
                        int(numbers[index]),
                        "record_too_long",
                        "",
                        f"{end - start} bytes",
                        f"at most {LONGEST_RECORD} bytes",
                        raw_text(record),
                    )
                )
                continue
            try:
                cells = self._cells(record)
            except csv.Error as error:
                broken.append(
                    Broken(int(numbers[index]), "not_a_record", "", str(error), "a record of cells", raw_text(record))
                )
                continue
            if len(cells) != self._layout.width:
                broken.append(self._misshapen(int(numbers[index]), len(cells), record))
                continue
            kept.append(index)
            rows.append([cell.encode("latin-1") for cell in cells])
        columns: list[pa.Array | None] = [
            None if source is None else arrow_arrays.binary([row[source] for row in rows])
            for source in self._layout.sources
        ]
        return Batch(
            columns,
            numbers[kept] if kept else numbers[:0],
            lambda row: raw_text(data[int(starts[kept[row]]) : int(ends[kept[row]])]),
            broken,
        )
