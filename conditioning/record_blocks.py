"""Cut delimited text into blocks that end with a record, exactly as quotes demand, and find the records of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import numpy.typing as npt

from conditioning.overlap import ahead
from conditioning.raw_input import Stream, read_up_to
from conditioning.reasons import FileRefused

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

BLOCK_BYTES = 6 << 20
MAX_RECORD_BYTES = 16 << 20  # no line end within this many bytes: the file cannot be what it says
NEWLINE, RETURN = 10, 13
_NO_PLACES = np.zeros(0, np.int64)
_PASS = 1 << 17  # bytes looked at together: they and what is found of them stay near the processor


@dataclass(frozen=True)
class Block:
    """Some whole records: where their delimiters and line feeds are, and where quotes open and close cells."""

    data: bytes  # what lies behind the last mark is of the next block
    marks: I32  # delimiters and line feeds, those within quotes too
    breaks: Mask  # which of them are line feeds
    toggles: I64


def _marks(data: bytes, delimiter: int) -> tuple[I32, Mask]:
    """Return the places of delimiters and line feeds, and which of them are line feeds."""
    array = np.frombuffer(data, np.uint8)
    marks, breaks = [np.zeros(0, np.int32)], [np.zeros(0, np.bool_)]
    for start in range(0, len(array), _PASS):
        part = array[start : start + _PASS]
        is_break = part == NEWLINE
        is_mark = part == delimiter
        is_mark |= is_break
        places = np.flatnonzero(is_mark)
        breaks.append(np.take(is_break, places))
        places += start
        marks.append(places.astype(np.int32))
    return np.concatenate(marks), np.concatenate(breaks)


def _places_of(data: bytes, byte: int) -> I64:
    """Return where a byte is: one after the other while they are few, else all at once."""
    mark, few = bytes([byte]), len(data) >> 10
    places: list[int] = []
    at = data.find(mark)
    while at >= 0:
        if len(places) > few:
            array = np.frombuffer(data, np.uint8)
            return np.concatenate(
                [np.flatnonzero(array[start : start + _PASS] == byte) + start for start in range(0, len(array), _PASS)]
            )
        places.append(at)
        at = data.find(mark, at + 1)
    return np.array(places, np.int64)


def quote_toggles(data: bytes, delimiter: int, quote: int) -> I64:
    """Return the positions of the quotes that open or close a cell; `data` starts outside of quotes.

    A quote opens only at the start of a cell; elsewhere (5" pipe) it is text. In nearly all files simple parity is
    right, and that is proven here for all quotes at once; only where it fails the quotes are walked one by one.
    """
    array = np.frombuffer(data, np.uint8)
    quotes = _places_of(data, quote)
    if not len(quotes):
        return quotes
    before = array[quotes - 1]
    starts_cell = (before == delimiter) | (before == NEWLINE) | (before == RETURN)
    starts_cell[0] |= quotes[0] == 0
    doubled = np.zeros(len(quotes), np.bool_)
    doubled[1:] = quotes[1:] == quotes[:-1] + 1
    if bool(np.all((starts_cell | doubled)[0::2])):
        return quotes
    toggles: list[int] = []
    inside, skip = False, -1
    openers = starts_cell.tolist()
    positions = quotes.tolist()
    for index, position in enumerate(positions):
        if position == skip:
            continue
        if not inside:
            if openers[index]:
                inside = True
                toggles.append(position)
        elif index + 1 < len(positions) and positions[index + 1] == position + 1:
            skip = position + 1
        else:
            inside = False
            toggles.append(position)
    return np.array(toggles, np.int64)


def last_record_end(data: bytes, delimiter: int, quote: int | None) -> tuple[int, I64]:
    """Return where the last whole record of the data ends (0 if none does), and the quote toggles before that."""
    end = data.rfind(b"\n")
    if end < 0 or quote is None or quote not in data:
        return end + 1, _NO_PLACES
    toggles = quote_toggles(data, delimiter, quote)
    while end >= 0:
        before = int(np.searchsorted(toggles, end))
        if before % 2 == 0:
            return end + 1, toggles[:before]
        end = data.rfind(b"\n", 0, int(toggles[before - 1]))
    return 0, _NO_PLACES


def record_blocks(
    stream: Stream, name: str, delimiter: int, quote: int | None, block_bytes: int = BLOCK_BYTES
) -> Iterator[Block]:
    """Yield the stream as blocks of whole records; lone carriage returns become line feeds."""
    read = partial(read_up_to, stream, block_bytes)
    with closing(ahead(chain(iter(read, b""), [b""]))) as pieces:
        yield from _blocks_of(pieces, name, delimiter, quote)


def _blocks_of(pieces: Iterator[bytes], name: str, delimiter: int, quote: int | None) -> Iterator[Block]:
    """Yield blocks; the last of the pieces is empty."""
    rest, lines, held = b"", 0, b""
    for piece in pieces:
        ended = not piece
        fresh = held + piece
        held = b""
        if fresh.endswith(b"\r") and not ended:  # its line feed may be the next byte
            fresh, held = fresh[:-1], b"\r"
        data = rest + fresh if rest else fresh
        if _has_lone_return(data):
            data = rest + fresh.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if ended:
            data = data.rstrip(b"\x1a")  # the end-of-file mark of old systems
            if data and not data.endswith(b"\n"):
                data += b"\n"
        marks, breaks = _marks(data, delimiter)
        end, toggles = last_record_end(data, delimiter, quote)
        if end == 0 and len(data) > MAX_RECORD_BYTES:
            raise FileRefused(
                "record_too_long",
                f"{name}: no record ends within {MAX_RECORD_BYTES >> 20} MB after line {lines + 1}",
                file=name,
                row=lines + 1,
            )
        rest = data[end:]
        if ended and rest:
            yield from _unterminated(data, end, toggles, name, delimiter, quote, lines + 1)
            return
        if end:
            within = int(np.searchsorted(marks, np.int32(end)))
            block = Block(data, marks[:within], breaks[:within], toggles)
            lines += int(np.count_nonzero(block.breaks))
            del data, fresh, piece, marks, breaks  # while the block is worked on, nothing else of its size is held
            yield block
            del block


def _unterminated(
    data: bytes, end: int, toggles: I64, name: str, delimiter: int, quote: int | None, line: int
) -> Iterator[Block]:
    if end:
        yield Block(data, *_marks(data[:end], delimiter), toggles)
    assert quote is not None
    opened = int(quote_toggles(data, delimiter, quote)[-1])
    at_line = line + data.count(b"\n", 0, opened)
    start = data.rfind(b"\n", 0, opened) + 1
    raise FileRefused(
        "unterminated_quote",
        f"{name}: a quote opened on line {at_line} is never closed",
        file=name,
        row=at_line,
        field="record",
        value=data[start : start + 200].decode("utf-8", "replace"),
    )


def _has_lone_return(data: bytes) -> bool:
    """Say whether a carriage return is not followed by a line feed."""
    if b"\r" not in data:
        return False
    array = np.frombuffer(data, np.uint8)
    for start in range(0, len(array), _PASS):
        part = array[start : start + _PASS + 1]
        lone = part[:-1] == RETURN
        lone &= part[1:] != NEWLINE
        if lone.any():
            return True
    return data.endswith(b"\r")
