"""Arrow arrays built from buffers.

`pyarrow.array` and `pyarrow.scalar` import pandas whenever it is installed: 45 MB and half a second that conditioning
does not need.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


@cache
def use_plain_allocator() -> None:
    """Let Arrow take memory from the C library, which gives it back: 30 MB less at the peak, at no cost in speed."""
    pa.set_memory_pool(pa.system_memory_pool())


def binary(cells: Sequence[bytes]) -> pa.Array:
    """Return a binary array of the cells."""
    offsets = np.fromiter(accumulate(map(len, cells), initial=0), np.int32, len(cells) + 1)
    return pa.Array.from_buffers(pa.binary(), len(cells), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(cells))])


def scalar(cell: bytes) -> pa.Scalar:
    """Return a binary scalar."""
    return binary([cell])[0]


def integers(values: npt.NDArray[np.int32] | npt.NDArray[np.int64]) -> pa.Array:
    """Return an integer array that shares the values' memory."""
    kind = pa.int32() if values.dtype == np.int32 else pa.int64()
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def take(texts: pa.Array, places: npt.NDArray[np.int32]) -> pa.Array:
    """Return the texts at some places, all of which there are."""
    return pc.take(texts, integers(places), boundscheck=False)


def decimals(values: npt.NDArray[np.int64]) -> pa.Array:
    """Return integers as text in a binary array."""
    return pc.cast(pc.cast(integers(values), pa.string()), pa.binary())


def mask(rows: npt.NDArray[np.bool_]) -> pa.Array:
    """Return a boolean array."""
    return pa.Array.from_buffers(pa.bool_(), len(rows), [None, pa.py_buffer(np.packbits(rows, bitorder="little"))])


def as_int32(values: pa.Array) -> npt.NDArray[np.int32]:
    """Return the numbers of an int32 array without nulls, sharing its memory."""
    return np.frombuffer(values.buffers()[1], np.int32)[values.offset : values.offset + len(values)]


def as_bool(values: pa.Array) -> npt.NDArray[np.bool_]:
    """Return the values of a boolean array without nulls."""
    bits = np.frombuffer(values.buffers()[1], np.uint8)
    return np.unpackbits(bits, bitorder="little")[values.offset : values.offset + len(values)].astype(np.bool_)
