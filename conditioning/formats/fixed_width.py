"""Text in columns of characters."""

from __future__ import annotations

from conditioning.batches import Broken
from conditioning.delimited import raw_text
from conditioning.dialect import FixedWidth, ReadContext, Row, Rows
from conditioning.raw_input import Stream
from conditioning.record_blocks import NEWLINE, record_blocks
from conditioning.record_tokens import records_of


def read_fixed_width(stream: Stream, context: ReadContext, dialect: FixedWidth) -> Rows:
    """Yield a row a line; a line shorter than its last column but one is broken, trailing blanks may be cut."""
    encoding = dialect.encoding or "utf-8"
    shortest = max(start for _, start, _ in dialect.columns)
    number = 0
    for block in record_blocks(stream, context.file, NEWLINE, None):
        records = records_of(block)
        for start, end in zip(records.starts.tolist(), records.ends.tolist(), strict=True):
            number += 1
            record = block.data[start:end]
            if len(record) > 1 << 16:
                yield Broken(
                    number,
                    "record_too_long",
                    "",
                    f"{len(record)} bytes",
                    "a line of the declared width",
                    raw_text(record),
                )
                continue
            try:
                text = record.decode(encoding)
            except UnicodeDecodeError:
                text = record.decode("cp1252", "replace")
            if len(text) < shortest:
                yield Broken(
                    number, "too_few_cells", "", f"{len(text)} characters", f"at least {shortest} characters", text
                )
                continue
            yield Row(number, [text[first - 1 : last].strip() for _, first, last in dialect.columns], text)
