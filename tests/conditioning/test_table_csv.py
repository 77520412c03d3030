"""A curated table's bytes are those that pandas writes, whatever is in its cells."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from conditioning.table_csv import table_csv


def by_pandas(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_csv(buffer, index=False, lineterminator="\n", float_format="%.4f", mode="wb")
    return buffer.getvalue()


@pytest.mark.parametrize("names", [
    ["0001", "0002", "0003"], ["", "Crème brûlée", " two "], ["a,b", 'say "x"', "line\nbreak"], ["x\r", None, "y"],
])
def test_the_bytes_are_those_of_pandas(names: list[str | None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conditioning.table_csv.SLICE_ROWS", 2)
    table = pd.DataFrame({
        "name": names, "units": [1.0, 2.34565, 1e9], "share": [np.nan, 0.1, -3.00005], "days": [1, 20, 3],
    }, index=[5, 2, 9])
    assert table_csv(table) == by_pandas(table)
    assert table_csv(table.iloc[:0]) == by_pandas(table.iloc[:0])
