"""The standard CSV: UTF-8, LF, comma, quotes only where needed, header always; and the two lists beside it."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from conditioning import arrow_arrays

QUARANTINE_COLUMNS = ("source_row", "reason_code", "field", "value", "expected", "raw_text", "source_file")
DUPLICATE_COLUMNS = ("source_row", "duplicate_of", "identical", "line", "source_file")
_QUOTE, _NOTHING = arrow_arrays.scalar(b'"'), arrow_arrays.scalar(b"")


def quoted(text: str) -> str:
    """Write one cell: quotes only where needed."""
    if "," in text or '"' in text or "\n" in text or "\r" in text:
        return '"' + text.replace('"', '""') + '"'
    return text


def all_quoted(cells: pa.Array) -> pa.Array:
    """Write many cells of a binary array: quotes only where needed."""
    needed = pc.match_substring_regex(cells, '[,"\r\n]')
    if not pc.any(needed).as_py():
        return cells
    inner = pc.replace_substring(cells.filter(needed), '"', '""')
    return pc.replace_with_mask(cells, needed, pc.binary_join_element_wise(_QUOTE, inner, _QUOTE, _NOTHING))


def one_line(text: str) -> str:
    """Write text on one line, with visible line breaks, so that no spreadsheet runs it when a person opens the file."""
    if not text.isprintable():
        text = text.replace("\0", "\\0").replace("\r", "\\r").replace("\n", "\\n")
    return "'" + text if text[:1] in ("=", "@", "+", "\t") or (text[:1] == "-" and text[1:2].isalpha()) else text


def line(cells: Sequence[str]) -> str:
    """Write one line of the standard CSV."""
    return ",".join(map(quoted, cells)) + "\n"
