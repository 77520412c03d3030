"""Cell rules: raw text of one cell -> canonical text of the standard CSV, or the reason why not.

Pure and slow on purpose: the engine calls a rule once per distinct cell, so that rules can stay exact and readable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal

from conditioning.cell_checks import checks_of
from conditioning.contract import Field
from conditioning.date_cells import date_parser, datetime_parser, time_parser
from conditioning.number_cells import PLAIN_NUMBER, number_parser, plain_decimal
from conditioning.reading import Reading, Rule, WeekBounds
from conditioning.reasons import Reject

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FORMULA = re.compile(r"[=@\t\r]|[+\-](?![\d.,\s])")
_DURATION = r"-?P(?=.)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?"
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:\S+")
_UUID = re.compile(r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_ANY_DATE = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y")


def make_rule(item: Field, reading: Reading | None = None, bounds: WeekBounds | None = None) -> Rule:
    """Return the rule of one column: trim, missing, translate, parse, constrain."""
    reading, bounds = reading or Reading(), bounds or WeekBounds()
    parse = _parser(item, reading)
    checks = checks_of(item, bounds, parse)
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


def identity_pattern(item: Field, reading: Reading) -> str | None:
    """Return an RE2 pattern of cells that the column's rule certainly returns unchanged, or None.

    It lets the engine skip the rule for columns of millions of distinct cells; cells outside go through the rule.
    """
    if item.type in ("integer", "number"):
        return _plain_numbers(item, reading)
    if item.type not in ("string", "any") or item.format != "default" or reading.values or reading.format:
        return None
    known = {"required", "unique", "minLength", "maxLength", "pattern"}
    if set(item.constraints) - known or item.in_sales_week or item.outlier:
        return None
    shortest, longest = int(item.constraints.get("minLength", 1)), int(item.constraints.get("maxLength", 64))
    most = max(min(longest, 64) - 1, 0)
    plain = f"^[A-Za-z0-9][A-Za-z0-9_./:#-]{{{max(shortest - 1, 0)},{most}}}$"
    pattern = item.constraints.get("pattern")
    if pattern is None:
        return plain
    if not re.fullmatch(r"[A-Za-z0-9_\[\]{},+*?()|^$-]*", pattern) or "(?" in pattern or longest < 64 or shortest > 1:
        return None
    body = pattern.removeprefix("^").removesuffix("$")
    return None if re.search(r"\[\^|[\^$]", body) or not re.fullmatch(r"[^.\s]*", body) else f"^(?:{body})$"


def _plain_numbers(item: Field, reading: Reading) -> str | None:
    """Return the pattern of positive canonical numbers of as many digits as no limit forbids."""
    changed = reading.values or reading.format or reading.unit or item.in_sales_week or item.outlier
    if changed or set(item.constraints) - {"required", "unique", "minimum", "maximum"}:
        return None
    group_char = reading.group_char or item.group_char
    if (reading.decimal_char or item.decimal_char) != "." or group_char == "." or group_char.isdigit():
        return None
    digits = min(Decimal(str(item.constraints.get("maximum", "1e15"))).adjusted(), 15)
    if Decimal(str(item.constraints.get("minimum", 0))) > 0 or digits < 1 or not 0 <= (item.scale or 0) <= 9:
        return None
    whole = f"(?:0|[1-9][0-9]{{0,{digits - 1}}})"
    if item.type == "integer" or item.scale == 0:
        return f"^{whole}$"
    return rf"^{whole}(?:\.[0-9]{{0,8}}[1-9])?$" if item.scale is None else rf"^{whole}\.[0-9]{{{item.scale}}}$"


def _parser(item: Field, reading: Reading) -> Rule:
    pattern = reading.format or item.format
    makers: dict[str, Callable[[], Rule]] = {
        "integer": lambda: number_parser(item, reading),
        "number": lambda: number_parser(item, reading),
        "date": lambda: date_parser(pattern, reading),
        "datetime": lambda: datetime_parser(pattern),
        "time": lambda: time_parser(pattern),
        "boolean": lambda: _boolean_parser(item),
        "year": lambda: _shape_parser(r"-?\d{4}", "a year YYYY"),
        "yearmonth": lambda: _shape_parser(r"\d{4}-(0[1-9]|1[0-2])", "a month YYYY-MM"),
        "duration": lambda: _shape_parser(_DURATION, "an ISO 8601 duration"),
        "object": lambda: _json_parser("object"),
        "geojson": lambda: _json_parser("geojson"),
        "array": lambda: _json_parser("array"),
        "geopoint": lambda: _geopoint,
    }
    return makers.get(item.type, lambda: _text_parser(item, reading))()


def _boolean_parser(item: Field) -> Rule:
    words = {word: "true" for word in item.true_values} | {word: "false" for word in item.false_values}
    return lambda text: words.get(text) or Reject("bad_boolean", f"one of {', '.join(words)}")


def _shape_parser(pattern: str, expected: str) -> Rule:
    expression = re.compile(pattern, re.ASCII)
    return lambda text: text if expression.fullmatch(text) else Reject("bad_value", expected)


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


def _json_parser(kind: str) -> Rule:
    def parse(text: str) -> str | Reject:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return Reject("bad_value", f"JSON of type {kind}")
        if not isinstance(value, list if kind == "array" else dict) or (kind == "geojson" and "type" not in value):
            return Reject("bad_value", f"JSON of type {kind}")
        return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    return parse


def _geopoint(text: str) -> str | Reject:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 2 and all(PLAIN_NUMBER.fullmatch(part.lstrip("-")) for part in parts) and text.isascii():
        longitude, latitude = (Decimal(part) for part in parts)
        if abs(longitude) <= 180 and abs(latitude) <= 90:
            return f"{plain_decimal(longitude)}, {plain_decimal(latitude)}"
    return Reject("bad_value", "longitude, latitude")
