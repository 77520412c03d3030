"""Constraints of a column, as checks on canonical text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from conditioning.contract import Field
from conditioning.reading import Rule, WeekBounds
from conditioning.reasons import Reject
from domain.errors import BadRequest

Check = Callable[[str], Reject | None]

# constraint -> (code, which order of value and limit fails, how the limit is put in words)
_LIMITS: dict[str, tuple[str, Callable[[Any, Any], bool], str]] = {
    "minimum": ("below_minimum", lambda value, limit: value < limit, "at least"),
    "maximum": ("above_maximum", lambda value, limit: value > limit, "at most"),
    "exclusiveMinimum": ("below_minimum", lambda value, limit: value <= limit, "more than"),
    "exclusiveMaximum": ("above_maximum", lambda value, limit: value >= limit, "less than"),
}


def sort_key(item: Field) -> Callable[[str], Any]:
    """Return what orders canonical texts of the column by value (for limits, minimum and maximum)."""
    return Decimal if item.type in ("integer", "number", "year") else str


def checks_of(item: Field, bounds: WeekBounds, parse: Rule) -> list[Check]:
    """Return the checks in the order in which they count; raise BadRequest for a limit that is no value of the type."""
    return [*_day_checks(item, bounds), *_limit_checks(item), *_text_checks(item, parse), *_outlier_checks(item)]


def _day_checks(item: Field, bounds: WeekBounds) -> Iterator[Check]:
    if not item.in_sales_week:
        return
    first, last, start = bounds.first, bounds.last, bounds.history_start
    if start:
        yield lambda text: Reject("before_history_start", f"not before {start}") if text < start else None
    if first:
        outside = Reject("outside_sales_week", f"a day from {first} to {last}")
        yield lambda text: None if first <= text <= last else outside


def _limit_checks(item: Field) -> Iterator[Check]:
    for name, (code, fails, word) in _LIMITS.items():
        if name in item.constraints:
            yield _limit(item, name, item.constraints[name], fails, Reject(code, f"{word} {item.constraints[name]}"))


def _outlier_checks(item: Field) -> Iterator[Check]:
    for name in ("minimum", "maximum"):
        if name in item.outlier:
            _, fails, word = _LIMITS[name]
            yield _limit(item, name, item.outlier[name], fails, Reject("outlier", f"{word} {item.outlier[name]}"))


def _limit(item: Field, name: str, raw: Any, fails: Callable[[Any, Any], bool], refusal: Reject) -> Check:
    key = sort_key(item)
    try:
        limit = key(str(raw))
    except InvalidOperation as error:
        raise BadRequest(
            f"field {item.name!r}: {name} {raw!r} is no {item.type}", field=item.name, value=raw, remedy="give a number"
        ) from error
    return lambda text: refusal if fails(key(text), limit) else None


def _text_checks(item: Field, parse: Rule) -> Iterator[Check]:
    limits = item.constraints
    if "minLength" in limits:
        shortest, too_short = (
            int(limits["minLength"]),
            Reject("too_short", f"at least {limits['minLength']} characters"),
        )
        yield lambda text: too_short if len(text) < shortest else None
    if "maxLength" in limits:
        longest, too_long = int(limits["maxLength"]), Reject("too_long", f"at most {limits['maxLength']} characters")
        yield lambda text: too_long if len(text) > longest else None
    if "pattern" in limits:
        expression, unlike = re.compile(limits["pattern"]), Reject("pattern_mismatch", f"text like {limits['pattern']}")
        yield lambda text: None if expression.fullmatch(text) else unlike
    if "enum" in limits:
        words = {word for value in limits["enum"] if isinstance(word := parse(_word(value)), str)}
        unknown = Reject("not_in_enum", "one of " + ", ".join(sorted(words))[:200])
        yield lambda text: None if text in words else unknown


def _word(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
