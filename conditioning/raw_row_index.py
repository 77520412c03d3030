"""Where the raw rows of every pair are: one sorted text file beside a curated folder, for `explain` (R132).

Lines are `store_id,product_id,sales_week,delivery_date,units,source_row`, sorted by store, product and week and without
a header, so that the rows of one pair are found with a handful of small ranged reads, however large the history is.
The raw file of a week stands in the folder's manifest. Jobs never read the index, so it lies outside their folder.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from domain.ports import Lake

if TYPE_CHECKING:
    import numpy.typing as npt

COLUMNS = ("store_id", "product_id", "sales_week", "delivery_date", "units", "source_row")
SLICE_ROWS = 200_000  # written at once: bounds the memory that the text takes


class RawRows:
    """Collects the conditioned deliveries of a run, week by week in order, and writes them as an index."""

    READS = ("delivery_date", "source_row", "source_file")  # beside store, product and units

    def __init__(self) -> None:
        self._weeks: list[pa.Table] = []
        self.files: dict[str, str] = {}

    def add(self, sales_week: str, table: pa.Table) -> None:
        """Keep what the index needs of one week; repeated texts are kept once."""
        self.files[sales_week] = "; ".join(sorted(pc.unique(table["source_file"]).to_pylist()))
        columns = {
            name: pa.array([sales_week] * table.num_rows) if name == "sales_week" else table[name] for name in COLUMNS
        }
        self._weeks.append(pa.table({
            name: pc.dictionary_encode(column) if name in COLUMNS[:4] else column for name, column in columns.items()
        }))

    def write(self, lake: Lake, container: str, path: str) -> int:
        """Write the index and return its rows."""
        table = pa.concat_tables(self._weeks).unify_dictionaries().combine_chunks()
        stores, _ = _ranks(table["store_id"])
        products, number = _ranks(table["product_id"])
        order = np.argsort(stores * number + products, kind="stable")  # stable: weeks, then rows, stay in order
        options = pacsv.WriteOptions(include_header=False, quoting_style="none")
        with lake.open_writer(container, path) as writer:
            for start in range(0, len(order), SLICE_ROWS):
                part = table.take(pa.array(order[start:start + SLICE_ROWS]))
                text = io.BytesIO()
                plain = [column.cast(pa.string()) for column in part.columns]
                pacsv.write_csv(pa.table(plain, names=list(COLUMNS)), text, options)
                writer.write(text.getvalue())
            writer.commit()
        return len(order)


def _ranks(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], int]:
    """Return each row's position in the sorted list of the column's values, and how many values there are."""
    encoded = column.combine_chunks()
    values = np.array(encoded.dictionary.to_pylist(), dtype=object)
    rank = np.empty(len(values), dtype=np.int64)
    rank[np.argsort(values, kind="stable")] = np.arange(len(values))
    return rank[encoded.indices.to_numpy()], len(values)
