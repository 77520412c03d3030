"""Census API answers: a JSON array of arrays, row 0 the header, every value text or null; jam values mean missing."""

from __future__ import annotations

from conditioning.dialect import ReadContext, Row, Rows
from conditioning.formats.documents import as_records, load_json
from conditioning.raw_input import Stream
from conditioning.reasons import FileRefused

COLUMNS = ("HOUSEHOLDS_E", "MEDIAN_INCOME_E", "MEDIAN_AGE_E", "HOUSEHOLD_SIZE_E", "COVERAGE_SHARE_E", "store")
JAM_VALUES = frozenset({"-666666666", "-222222222", "-999999999", "-888888888", "-555555555", "-333333333"})


def read_acs(stream: Stream, context: ReadContext) -> Rows:
    """Yield a row a store; the Census jam values (too few samples, not applicable, ...) become missing cells."""
    header, rows = as_records(load_json(stream, context.file, context.limits), context.file)
    lacking = [name for name in COLUMNS if name not in header]
    if lacking:
        raise FileRefused(
            "header_mismatch",
            f"{context.file}, row 0: missing {lacking}, found {header}",
            file=context.file,
            row=0,
            field=lacking[0],
            value=header,
            remedy="ask the API for these variables",
        )
    places = [header.index(name) for name in COLUMNS]
    for number, cells in enumerate(rows, 1):
        if len(cells) != len(header):
            yield Row(number, cells, " | ".join(cells))
            continue
        picked = [cells[place] for place in places]
        yield Row(number, ["" if cell.split(".")[0] in JAM_VALUES else cell for cell in picked], " | ".join(cells))
