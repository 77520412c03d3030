"""Numbers as people write them: decimal and thousands marks, negatives before, behind and in parentheses, units."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

from conditioning.contract import Field
from conditioning.reading import Reading, Rule
from conditioning.reasons import Reject
from conditioning.units import conversion

PLAIN_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_GROUPED_BY_ANY = re.compile(r"[+-]?\d{1,3}([,. '\u00a0\u202f]\d{3})+")
_AROUND = re.compile(r"^[^\d+\-.,()]+|[^\d.,)\-]+$")
_TYPOGRAPHY = str.maketrans({"\u2212": "-", "\u00a0": " ", "\u202f": " "})
_MAX_DIGITS = 40


class _Notation:
    """One column's way of writing numbers."""

    def __init__(self, item: Field, reading: Reading) -> None:
        self.decimal_char = reading.decimal_char or item.decimal_char
        self.group_char = reading.group_char or item.group_char
        self.negatives = reading.negatives or item.negatives
        self.bare = item.bare_number
        self.whole = item.type == "integer"
        self.code = "bad_integer" if self.whole else "bad_number"
        self.expected = f"{'a whole number' if self.whole else 'a number'} with decimal mark {self.decimal_char!r}"
        group, decimal = re.escape(self.group_char), re.escape(self.decimal_char)
        self.grouped = re.compile(rf"\d{{1,3}}({group}\d{{3}})+({decimal}\d*)?") if self.group_char else None

    def read(self, raw: str) -> Decimal | Reject:
        """Return the number that the text means."""
        text = raw if raw.isascii() else raw.translate(_TYPOGRAPHY)
        text, negative = self._sign(text if self.bare else _AROUND.sub("", text))
        digits = self._digits(text)
        if isinstance(digits, Reject):
            return digits
        if digits[:1] in ("+", "-") or not digits.isascii() or not PLAIN_NUMBER.fullmatch(digits):
            if digits.lower().lstrip("+-") in ("nan", "inf", "infinity"):
                return Reject("not_finite", self.expected)
            return Reject("ambiguous_number" if _GROUPED_BY_ANY.fullmatch(raw) else self.code, self.expected)
        value = Decimal(digits)
        too_many = len(digits) > _MAX_DIGITS and sum(char.isdigit() for char in digits) > _MAX_DIGITS
        beyond = too_many or abs(value.adjusted()) > _MAX_DIGITS
        if beyond or (self.whole and "e" in digits.lower()):
            return Reject(self.code, self.expected)
        return -value if negative else value

    def _sign(self, text: str) -> tuple[str, bool]:
        if "parentheses" in self.negatives and text[:1] == "(" and text[-1:] == ")":
            return text[1:-1].strip(), True
        if "trailing" in self.negatives and text[-1:] == "-":
            return text[:-1].strip(), True
        return (text[1:].strip(), text[0] == "-") if text[:1] in ("+", "-") else (text, False)

    def _digits(self, text: str) -> str | Reject:
        if self.grouped is not None and self.group_char in text:
            if not self.grouped.fullmatch(text):
                return Reject(self.code, f"{self.expected} and thousands mark {self.group_char!r}")
            text = text.replace(self.group_char, "")
        if self.decimal_char == ".":
            return text
        return Reject("ambiguous_number", self.expected) if "." in text else text.replace(self.decimal_char, ".")


def number_parser(item: Field, reading: Reading) -> Rule:
    """Return the parser of an integer or number column; raise BadRequest for a unit that nobody knows."""
    notation = _Notation(item, reading)
    change = conversion(reading.unit, item.unit) if reading.unit else None
    quantum = Decimal(1).scaleb(-item.scale) if item.scale is not None else None

    def parse(text: str) -> str | Reject:
        value = notation.read(text)
        if isinstance(value, Reject):
            return value
        if change is not None:
            value = (value + change[1]) * change[0]
        if notation.whole:
            return str(int(value)) if value == value.to_integral_value() else Reject(notation.code, notation.expected)
        if quantum is None:
            return plain_decimal(value)
        try:
            return plain_decimal(value.quantize(quantum, rounding=ROUND_HALF_EVEN), fixed=True)
        except InvalidOperation:
            return Reject(notation.code, notation.expected)

    return parse


def plain_decimal(value: Decimal, *, fixed: bool = False) -> str:
    """Write a number without exponent and without negative zero; strip needless zeros unless `fixed`."""
    if value == 0:
        value = abs(value)
    text = format(value, "f")
    return text if fixed or "." not in text else text.rstrip("0").rstrip(".") or "0"
