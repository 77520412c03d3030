"""Cell rules: raw text of one cell -> canonical text of the standard CSV, or the reason why not.

Pure and slow on purpose: the engine calls a rule once per distinct cell, so that rules can stay exact and readable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any

from conditioning.contract import Field
from conditioning.reasons import Reject
from conditioning.units import conversion

Rule = Callable[[str], str | Reject]

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ISO_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_MIDNIGHT = re.compile(r"(.*\d)[T ]00:00(?::00(?:\.0+)?)?(?:Z)?")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_GROUPED_BY_ANY = re.compile(r"[+-]?\d{1,3}([,. '\u00a0\u202f]\d{3})+")
_FORMULA = re.compile(r"[=@\t\r]|[+\-](?![\d.,\s])")
_DURATION = re.compile(r"-?P(?=.)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:\S+")
_UUID = re.compile(r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_ANY_DATE = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y")
_EITHER_ORDER = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})")
_MAX_DIGITS = 40
_EXCEL_EPOCH = date(1899, 12, 30)


@dataclass(frozen=True)
class Reading:
    """How one provider writes a column; empty means: as the contract says."""

    unit: str = ""
    format: str = ""  # date patterns separated by ";", first that fits wins; or zfillN, or decimal for integers
    values: dict[str, str] = field(default_factory=dict)  # provider's word -> ours
    decimal_char: str = ""
    group_char: str = ""
    negatives: tuple[str, ...] = ()
    excel_dates: bool = False  # a bare number is a day count since 1899-12-30


@dataclass(frozen=True)
class WeekBounds:
    """Days (ISO text) that a record may be about; empty text means unbounded."""

    first: str = ""
    last: str = ""
    history_start: str = ""


def make_rule(item: Field, reading: Reading | None = None, bounds: WeekBounds | None = None) -> Rule:
    """Return the rule of one column: trim, missing, translate, parse, constrain."""
    reading, bounds = reading or Reading(), bounds or WeekBounds()
    parse = _parser(item, reading)
    checks = _checks(item, bounds, parse)
    missing = {text.strip() for text in item.missing_values} | {""}
    absent: str | Reject = Reject("missing_value", "a value") if item.required and not item.default else item.default

    def rule(cell: str) -> str | Reject:
        if _CONTROL.search(cell):
            return Reject("control_character", "printable text")
        text = cell.strip().strip("\u00a0\ufeff")
        if text in missing:
            return absent
        text = reading.values.get(text, text)
        if text in item.exclude:
            return Reject("excluded_value", f"a {item.name} that is not excluded")
        parsed = parse(text)
        if isinstance(parsed, Reject):
            return parsed
        for check in checks:
            fault = check(parsed)
            if fault is not None:
                return fault
        return parsed

    return rule


def sort_key(item: Field) -> Callable[[str], Any]:
    """Return what orders canonical texts of the column by value (for minimum and maximum)."""
    return Decimal if item.type in ("integer", "number", "year") else str


def identity_pattern(item: Field, reading: Reading) -> str | None:
    """Return an RE2 pattern of cells that the column's rule certainly returns unchanged, or None.

    It lets the engine skip the rule for columns of millions of distinct cells; cells outside go through the rule.
    """
    if item.type not in ("string", "any") or item.format != "default" or reading.values or reading.format:
        return None
    known = {"required", "unique", "minLength", "maxLength", "pattern"}
    if set(item.constraints) - known or item.in_sales_week or item.outlier:
        return None
    shortest, longest = int(item.constraints.get("minLength", 1)), int(item.constraints.get("maxLength", 64))
    plain = "^[A-Za-z0-9][A-Za-z0-9_./:#-]{%d,%d}$" % (max(shortest - 1, 0), max(min(longest, 64) - 1, 0))
    pattern = item.constraints.get("pattern")
    if pattern is None:
        return plain
    if not re.fullmatch(r"[A-Za-z0-9_\[\]{},+*?()|^$-]*", pattern) or "(?" in pattern or longest < 64 or shortest > 1:
        return None
    body = pattern.removeprefix("^").removesuffix("$")
    return None if re.search(r"\[\^|[\^$]", body) or not re.fullmatch(r"[^.\s]*", body) else f"^(?:{body})$"


def _parser(item: Field, reading: Reading) -> Rule:
    if item.type in ("integer", "number"):
        return _number_parser(item, reading)
    if item.type == "date":
        return _date_parser(reading.format or item.format, reading)
    if item.type == "boolean":
        words = {word: "true" for word in item.true_values} | {word: "false" for word in item.false_values}
        return lambda text: words.get(text) or Reject("bad_boolean", f"one of {', '.join(words)}")
    if item.type == "datetime":
        return _datetime_parser(reading.format or item.format)
    if item.type == "time":
        return _time_parser(reading.format or item.format)
    fixed = {
        "year": (r"-?\d{4}", "a year YYYY"),
        "yearmonth": (r"\d{4}-(0[1-9]|1[0-2])", "a month YYYY-MM"),
        "duration": (_DURATION.pattern, "an ISO 8601 duration"),
    }.get(item.type)
    if fixed is not None:
        expression, expected = re.compile(fixed[0], re.ASCII), fixed[1]
        return lambda text: text if expression.fullmatch(text) else Reject("bad_value", expected)
    if item.type in ("object", "array", "geojson"):
        return _json_parser(item.type)
    if item.type == "geopoint":
        return _geopoint
    return _text_parser(item, reading)


def _text_parser(item: Field, reading: Reading) -> Rule:
    formats = {"email": _EMAIL, "uri": _URI, "uuid": _UUID, "binary": _BASE64}
    expression = formats.get(item.format)
    width = int(reading.format[5:]) if reading.format.startswith("zfill") else 0
    case = {"lower": str.lower, "upper": str.upper}.get(reading.format)

    def parse(text: str) -> str | Reject:
        if "\n" in text or "\r" in text:
            if item.newlines != "space":
                return Reject("newline_in_cell", "text on one line")
            text = " ".join(text.split())
        if item.formulas != "allow" and _FORMULA.match(text):
            return Reject("formula_injection", "text that no spreadsheet would run")
        if expression is not None and not expression.fullmatch(text):
            return Reject("bad_format", f"format {item.format}")
        if case is not None:
            text = case(text)
        return text.zfill(width)

    return parse


def _number_parser(item: Field, reading: Reading) -> Rule:  # noqa: C901 - one straight list of notations
    decimal_char = reading.decimal_char or item.decimal_char
    group_char = reading.group_char or item.group_char
    negatives = reading.negatives or item.negatives
    change = conversion(reading.unit, item.unit) if reading.unit else None
    whole = item.type == "integer"
    code = "bad_integer" if whole else "bad_number"
    expected = f"{'a whole number' if whole else 'a number'} with decimal mark {decimal_char!r}"
    grouped = (
        re.compile(rf"\d{{1,3}}({re.escape(group_char)}\d{{3}})+({re.escape(decimal_char)}\d*)?")
        if group_char
        else None
    )
    quantum = Decimal(1).scaleb(-item.scale) if item.scale is not None else None

    def parse(text: str) -> str | Reject:
        raw, negative = text, False
        if not text.isascii():
            text = text.replace("\u2212", "-").replace("\u00a0", " ").replace("\u202f", " ")
        if not item.bare_number:
            text = re.sub(r"^[^\d+\-.,()]+|[^\d.,)\-]+$", "", text)
        if "parentheses" in negatives and text[:1] == "(" and text[-1:] == ")":
            text, negative = text[1:-1].strip(), True
        elif "trailing" in negatives and text[-1:] == "-":
            text, negative = text[:-1].strip(), True
        elif text[:1] in "+-":
            text, negative = text[1:].strip(), text[0] == "-"
        if group_char and group_char in text:
            if grouped is None or not grouped.fullmatch(text):
                return Reject(code, expected + f" and thousands mark {group_char!r}")
            text = text.replace(group_char, "")
        if decimal_char != ".":
            if "." in text:
                return Reject("ambiguous_number", expected)
            text = text.replace(decimal_char, ".")
        if text[:1] in ("+", "-") or not text.isascii() or not _NUMBER.fullmatch(text):
            if text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
                return Reject("not_finite", expected)
            return Reject("ambiguous_number" if _GROUPED_BY_ANY.fullmatch(raw) else code, expected)
        if sum(char.isdigit() for char in text) > _MAX_DIGITS or (whole and ("e" in text or "E" in text)):
            return Reject(code, expected)
        value = Decimal(text)
        if abs(value.adjusted()) > _MAX_DIGITS:
            return Reject(code, expected)
        value = -value if negative else value
        if change is not None:
            value = (value + change[1]) * change[0]
        if whole:
            return str(int(value)) if value == value.to_integral_value() else Reject(code, expected)
        if quantum is not None:
            try:
                value = value.quantize(quantum, rounding=ROUND_HALF_EVEN)
            except InvalidOperation:
                return Reject(code, expected)
        return plain_decimal(value, fixed=quantum is not None)

    return parse


def plain_decimal(value: Decimal, *, fixed: bool = False) -> str:
    """Write a number without exponent and without negative zero; strip needless zeros unless `fixed`."""
    if value == 0:
        value = abs(value)
    text = format(value, "f")
    return text if fixed or "." not in text else text.rstrip("0").rstrip(".") or "0"


def _date_parser(patterns: str, reading: Reading) -> Rule:
    wanted = [] if patterns in ("default", "any", "") else patterns.split(";")
    expected = "a date " + (
        " or ".join(wanted) if wanted else "YYYY-MM-DD" if patterns != "any" else "in an unambiguous notation"
    )

    def parse(text: str) -> str | Reject:
        if not text.isascii():
            return Reject("bad_date", expected)
        if reading.excel_dates and re.fullmatch(r"[1-9]\d{4}(\.0+)?", text):
            return (_EXCEL_EPOCH + timedelta(days=int(text[:5]))).isoformat()
        midnight = _MIDNIGHT.fullmatch(text)
        text = midnight[1] if midnight else text
        if wanted:
            for pattern in wanted:
                found = _strptime(text, pattern)
                if found is not None:
                    return found.date().isoformat()
            return Reject("bad_date", expected)
        found_date = _iso_date(text)
        if found_date is None and patterns == "any":
            found_date = _any_date(text)
        return found_date.isoformat() if found_date else Reject("bad_date", expected)

    return parse


def _iso_date(text: str) -> date | None:
    match = _ISO_DATE.fullmatch(text)
    try:
        return date(int(match[1]), int(match[2]), int(match[3])) if match else None
    except ValueError:
        return None


def _any_date(text: str) -> date | None:
    for pattern in _ANY_DATE:
        found = _strptime(text, pattern)
        if found is not None:
            return found.date()
    match = _EITHER_ORDER.fullmatch(text)
    if match and (int(match[1]) > 12 or int(match[3]) > 12 or match[1] == match[3] or match[2] == "."):
        day_first = match[2] == "." or int(match[1]) > 12
        found = _strptime(text, f"%d{match[2]}%m{match[2]}%Y" if day_first else f"%m{match[2]}%d{match[2]}%Y")
        return found.date() if found else None
    return None  # 03/04/2026 could be March or April: never guessed


def _strptime(text: str, pattern: str) -> datetime | None:
    if not text.isascii() or ("%d" in pattern and pattern.replace("%", "").isalpha() and len(text) not in (6, 8)):
        return None
    try:
        return datetime.strptime(text, pattern)
    except ValueError:
        return None


def _datetime_parser(pattern: str) -> Rule:
    def parse(text: str) -> str | Reject:
        expected = "a date-time " + (pattern if pattern not in ("default", "any") else "YYYY-MM-DDThh:mm:ssZ")
        try:
            if pattern in ("default", "any", ""):
                if not text.isascii() or not re.match(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}", text):
                    return Reject("bad_time", expected)
                moment = datetime.fromisoformat(text)
            else:
                moment = datetime.strptime(text, pattern)
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            return Reject("bad_time", expected)
        stamp = moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
        return stamp + (f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else "") + "Z"

    return parse


def _time_parser(pattern: str) -> Rule:
    def parse(text: str) -> str | Reject:
        try:
            if pattern not in ("default", "any", ""):
                return datetime.strptime(text, pattern).strftime("%H:%M:%S")
            if re.fullmatch(r"\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?", text, re.ASCII):
                return time.fromisoformat(text).isoformat()
        except ValueError:
            pass
        return Reject("bad_time", "a time " + (pattern if pattern not in ("default", "any", "") else "hh:mm:ss"))

    return parse


def _json_parser(kind: str) -> Rule:
    wanted: type[list[Any]] | type[dict[str, Any]] = list if kind == "array" else dict

    def parse(text: str) -> str | Reject:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return Reject("bad_value", f"JSON of type {kind}")
        if not isinstance(value, wanted) or (kind == "geojson" and "type" not in list(value)):
            return Reject("bad_value", f"JSON of type {kind}")
        return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    return parse


def _geopoint(text: str) -> str | Reject:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 2 and all(_NUMBER.fullmatch(part.lstrip("-")) for part in parts) and text.isascii():
        longitude, latitude = (Decimal(part) for part in parts)
        if abs(longitude) <= 180 and abs(latitude) <= 90:
            return f"{plain_decimal(longitude)}, {plain_decimal(latitude)}"
    return Reject("bad_value", "longitude, latitude")


def _checks(item: Field, bounds: WeekBounds, parse: Rule) -> list[Callable[[str], Reject | None]]:
    found: list[Callable[[str], Reject | None]] = []
    limits = item.constraints
    key = sort_key(item)

    def compare(code: str, limit: Any, fails: Callable[[Any, Any], bool], word: str) -> None:
        edge = key(str(limit))
        found.append(lambda text: Reject(code, f"{word} {limit}") if fails(key(text), edge) else None)

    if bounds.history_start and item.in_sales_week:
        compare("before_history_start", bounds.history_start, lambda value, edge: value < edge, "not before")
    if bounds.first and item.in_sales_week:
        first, last = bounds.first, bounds.last
        found.append(
            lambda text: (
                None if first <= text <= last else Reject("outside_sales_week", f"a day from {first} to {last}")
            )
        )
    if "minimum" in limits:
        compare("below_minimum", limits["minimum"], lambda value, edge: value < edge, "at least")
    if "maximum" in limits:
        compare("above_maximum", limits["maximum"], lambda value, edge: value > edge, "at most")
    if "exclusiveMinimum" in limits:
        compare("below_minimum", limits["exclusiveMinimum"], lambda value, edge: value <= edge, "more than")
    if "exclusiveMaximum" in limits:
        compare("above_maximum", limits["exclusiveMaximum"], lambda value, edge: value >= edge, "less than")
    if "minLength" in limits:
        found.append(
            lambda text: (
                Reject("too_short", f"at least {limits['minLength']} characters")
                if len(text) < limits["minLength"]
                else None
            )
        )
    if "maxLength" in limits:
        found.append(
            lambda text: (
                Reject("too_long", f"at most {limits['maxLength']} characters")
                if len(text) > limits["maxLength"]
                else None
            )
        )
    if "pattern" in limits:
        expression = re.compile(limits["pattern"])
        found.append(
            lambda text: (
                None if expression.fullmatch(text) else Reject("pattern_mismatch", f"text like {expression.pattern}")
            )
        )
    if "enum" in limits:
        words = {word for value in limits["enum"] if isinstance(word := parse(_word(value)), str)}
        found.append(
            lambda text: None if text in words else Reject("not_in_enum", "one of " + ", ".join(sorted(words))[:200])
        )
    if "minimum" in item.outlier:
        compare("outlier", item.outlier["minimum"], lambda value, edge: value < edge, "not below")
    if "maximum" in item.outlier:
        compare("outlier", item.outlier["maximum"], lambda value, edge: value > edge, "not above")
    return found


def _word(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
