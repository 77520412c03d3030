"""64-bit hashes of canonical cells and rows, the same whichever way a cell came and however a file was cut.

Not against forgery (the outcome carries SHA-256 for that): they find candidates for duplicates, which are then
compared in full, and make a hash of the content that does not depend on row order or provenance columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from conditioning import arrow_arrays

U64 = npt.NDArray[np.uint64]

_ODD = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_CELL_CONSTANTS = np.random.default_rng(7).integers(1, 2**63, size=4096, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_COLUMN_CONSTANTS = np.random.default_rng(11).integers(1, 2**63, size=(3, 4096), dtype=np.uint64)[2] * np.uint64(
    2
) + np.uint64(1)


def mix(values: U64) -> U64:
    """Scramble 64-bit values (the finisher of splitmix64), in place."""
    values += _ODD
    values ^= values >> np.uint64(30)
    values *= _MIX_1
    values ^= values >> np.uint64(27)
    values *= _MIX_2
    values ^= values >> np.uint64(31)
    return values


def hash_texts(texts: pa.Array) -> U64:
    """Return a hash for each cell of a binary array without nulls."""
    count = len(texts)
    if count == 0:
        return np.empty(0, np.uint64)
    lengths = arrow_arrays.as_int32(pc.binary_length(texts)).astype(np.uint64)
    longest = int(lengths.max(initial=0))
    if longest > 256 and count > 1:  # one long cell must not widen all others
        short = lengths <= 256
        hashes = np.empty(count, np.uint64)
        hashes[short] = hash_texts(texts.filter(arrow_arrays.mask(short)))
        for index in np.flatnonzero(~short):
            hashes[index] = hash_texts(texts.slice(index, 1))[0]
        return hashes
    width = max(-(-longest // 8) * 8, 8)
    padded = pc.ascii_rpad(
        texts.cast(pa.string()) if pa.types.is_binary(texts.type) else texts, width=width, padding="\0"
    )
    words = np.frombuffer(padded.buffers()[2], np.uint64, count=count * width // 8).reshape(count, width // 8)
    hashes = lengths * _ODD
    for position in range(words.shape[1]):
        word = words[:, position]
        hashes += mix(word * _CELL_CONSTANTS[position % 4096] + np.uint64(position // 4096)) * (word != 0)
    return mix(hashes)


def hash_values(texts: Sequence[str]) -> U64:
    """Return a hash for each canonical text."""
    return hash_texts(arrow_arrays.binary([text.encode() for text in texts]))


def terms(cells: U64, column: int) -> U64:
    """Return what the cells of a column add to the hashes of their rows: `mix` the sum when all columns are in."""
    weighted: U64 = cells * _COLUMN_CONSTANTS[column % 4096]
    return weighted
