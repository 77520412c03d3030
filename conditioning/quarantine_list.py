"""The quarantine list of one file while it is written: a line for every input record that has no place in the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from operator import itemgetter
from typing import Any

from conditioning.batches import Broken
from conditioning.spool import Scratch, Spool
from conditioning.standard_csv import QUARANTINE_COLUMNS, line, one_line, quoted

EXAMPLES = 5  # records named per reason in the outcome
_REASONS_KEPT = 10_000


class QuarantineList:
    """Takes refused records block by block; knows how many there are of each reason, and the first of each."""

    def __init__(self, source_file: str, scratch: Callable[[], Scratch]) -> None:
        self.by_reason: Counter[str] = Counter()
        self.examples: dict[str, list[dict[str, Any]]] = {}
        self._end = f",{quoted(source_file)}\n"
        self._reasons: dict[tuple[str, str, str, str], str] = {}  # how a reason reads, for most are met often
        self._lines = Spool(scratch)

    @property
    def rows(self) -> int:
        """How many records are on the list."""
        return self._lines.rows

    def add(self, refused: list[Broken]) -> None:
        """Put the refused records of one block on the list, in the order of the file."""
        refused.sort(key=itemgetter(0))
        lines = []
        for number, code, column, value, expected, raw, _ in refused:
            reason = self._reasons.get((code, column, value, expected))
            if reason is None:
                reason = self._reason(code, column, value, expected)
            lines.append(f"{number}{reason}{quoted(one_line(raw))}{self._end}")
        self._lines.write("".join(lines).encode("utf-8", "replace"), len(lines))
        self.by_reason.update(item.code for item in refused if item.weight)
        for code in dict.fromkeys(map(itemgetter(1), refused)):
            examples = self.examples.setdefault(code, [])
            if len(examples) < EXAMPLES:
                examples += [
                    {"row": item.number, "field": item.column, "value": item.value[:200], "expected": item.expected}
                    for item in refused
                    if item.code == code
                ][: EXAMPLES - len(examples)]

    def _reason(self, code: str, column: str, value: str, expected: str) -> str:
        if len(self._reasons) >= _REASONS_KEPT:
            self._reasons.clear()
        text = f",{code},{quoted(column)},{quoted(one_line(value))},{quoted(expected)},"
        self._reasons[code, column, value, expected] = text
        return text

    def write(self, write: Callable[[bytes], object]) -> int:
        """Write the list with its header; return its rows."""
        write(line(QUARANTINE_COLUMNS).encode())
        for data, _ in self._lines.blocks():
            write(data)
        return self.rows

    def discard(self) -> None:
        """Give scratch space back."""
        self._lines.discard()
