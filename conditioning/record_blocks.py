"""Cut delimited text into blocks that end with a record, exactly as quotes demand, and find the records of a block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from conditioning.raw_input import Stream, read_up_to
from conditioning.reasons import FileRefused

I64 = npt.NDArray[np.int64]

BLOCK_BYTES = 6 << 20
MAX_RECORD_BYTES = 16 << 20  # no line end within this many bytes: the file cannot be what it says
NEWLINE, RETURN = 10, 13
_NO_TOGGLES = np.zeros(0, np.int64)
_PASS = 1 << 18  # bytes looked at together: they and what is found of them stay near the processor


@dataclass(frozen=True)
class Block:
    """Whole records as bytes, and where its quotes open and close cells."""

    data: bytes
    toggles: I64


def quote_toggles(data: bytes, delimiter: int, quote: int) -> I64:
    """Return the positions of the quotes that open or close a cell; `data` starts outside of quotes.

    A quote opens only at the start of a cell; elsewhere (5" pipe) it is text. In nearly all files simple parity is
    right, and that is proven here for all quotes at once; only where it fails the quotes are walked one by one.
    """
    array = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(array == quote)
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
        return end + 1, _NO_TOGGLES
    toggles = quote_toggles(data, delimiter, quote)
    while end >= 0:
        before = int(np.searchsorted(toggles, end))
        if before % 2 == 0:
            return end + 1, toggles[:before]
        end = data.rfind(b"\n", 0, int(toggles[before - 1]))
    return 0, _NO_TOGGLES


def record_blocks(
    stream: Stream, name: str, delimiter: int, quote: int | None, block_bytes: int = BLOCK_BYTES
) -> Iterator[Block]:
    """Yield the stream as blocks of whole records; lone carriage returns become line feeds."""
    rest, line, ended, held = b"", 1, False, b""
    while not ended:
        fresh = read_up_to(stream, block_bytes)
        ended = not fresh
        fresh = held + fresh
        held = b""
        if b"\r" in fresh:
            if fresh.endswith(b"\r") and not ended:  # its line feed may be the next byte
                fresh, held = fresh[:-1], b"\r"
            if _has_lone_return(fresh):
                fresh = fresh.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        data = rest + fresh if rest else fresh
        if ended:
            data = data.rstrip(b"\x1a")  # the end-of-file mark of old systems
            if data and not data.endswith(b"\n"):
                data += b"\n"
        end, toggles = last_record_end(data, delimiter, quote)
        if end == 0 and len(data) > MAX_RECORD_BYTES:
            raise FileRefused(
                "record_too_long",
                f"{name}: no record ends within {MAX_RECORD_BYTES >> 20} MB after line {line}",
                file=name,
                row=line,
            )
        rest = data[end:]
        if ended and rest:
            yield from _unterminated(data, end, toggles, name, delimiter, quote, line)
            return
        if end:
            block = data[:end] if rest else data
            line += int(np.count_nonzero(np.frombuffer(block, np.uint8) == NEWLINE))
            del data, fresh  # while the block is worked on, nothing else of its size is held
            yield Block(block, toggles)
            del block


def _unterminated(
    data: bytes, end: int, toggles: I64, name: str, delimiter: int, quote: int | None, line: int
) -> Iterator[Block]:
    if end:
        yield Block(data[:end], toggles)
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
    if data.endswith(b"\r"):
        return True
    array = np.frombuffer(data, np.uint8)
    for start in range(0, len(array) - 1, _PASS):
        part = array[start : start + _PASS + 1]
        returns = part[:-1] == RETURN
        if np.count_nonzero(returns) != np.count_nonzero(returns & (part[1:] == NEWLINE)):
            return True
    return False


def record_spans(data: bytes, delimiter: int, quote: int | None) -> tuple[I64, I64]:
    """Return (starts, ends) of the records of a block, blank lines left out, line ends excluded."""
    array = np.frombuffer(data, np.uint8)
    breaks = np.flatnonzero(array == NEWLINE)
    if quote is not None and quote in data:
        toggles = quote_toggles(data, delimiter, quote)
        breaks = breaks[np.searchsorted(toggles, breaks) % 2 == 0]
    starts = np.empty(len(breaks), np.int64)
    starts[:1] = 0
    starts[1:] = breaks[:-1] + 1
    ends = breaks.astype(np.int64)
    filled = ends > starts
    returned = filled & (array[np.maximum(ends - 1, 0)] == RETURN)
    ends = ends - returned
    keep = ends > starts
    return (starts, ends) if keep.all() else (starts[keep], ends[keep])
