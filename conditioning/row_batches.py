"""Rows of formats that are read one by one, gathered into batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conditioning import arrow_arrays
from conditioning.batches import Batch, Broken, as_refused
from conditioning.delimited import RAW_TEXT_LIMIT
from conditioning.dialect import Row, Rows
from conditioning.headers import Layout

BATCH_ROWS = 20_000


def row_batches(rows: Rows, layout: Layout) -> Iterator[Batch]:
    """Yield batches of the rows; a row of another width than the header is broken."""
    kept: list[Row] = []
    broken: list[Broken] = []
    for row in rows:
        if isinstance(row, Broken):
            broken.append(row)
        elif len(row.cells) != layout.width:
            code = "too_few_cells" if len(row.cells) < layout.width else "too_many_cells"
            broken.append(
                Broken(row.number, code, "", str(len(row.cells)), f"{layout.width} cells", row.raw[:RAW_TEXT_LIMIT])
            )
        else:
            kept.append(row)
        if len(kept) + len(broken) >= BATCH_ROWS:
            yield _batch(kept, broken, layout)
            kept, broken = [], []
    if kept or broken:
        yield _batch(kept, broken, layout)


def _batch(kept: list[Row], broken: list[Broken], layout: Layout) -> Batch:
    columns = (
        None
        if source is None
        else arrow_arrays.binary([row.cells[source].encode("utf-8", "surrogatepass") for row in kept])
        for source in layout.sources
    )
    weights = np.array([row.weight + len(row.gathered) for row in kept], np.int64)
    return Batch(
        columns,
        np.array([row.number for row in kept], np.int64),
        lambda rows: arrow_arrays.binary([kept[row].raw[:RAW_TEXT_LIMIT].encode("utf-8", "replace") for row in rows]),
        as_refused(broken),
        weights=None if bool((weights == 1).all()) else weights,
        gathered=[row.gathered for row in kept],
    )
