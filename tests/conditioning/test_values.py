"""One cell at a time: what becomes of it, or why it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from conditioning.contract import Field, parse_contract
from conditioning.reading import Reading, WeekBounds
from conditioning.reasons import RECORD_REASONS, Reject
from conditioning.values import identity_pattern, make_rule


def field(**raw: Any) -> Field:
    return parse_contract({"fields": [{"name": "x", **raw}]}).fields[0]


def judged(cell: str, reading: Reading | None = None, bounds: WeekBounds | None = None, **raw: Any) -> str:
    outcome = make_rule(field(**raw), reading, bounds)(cell)
    if isinstance(outcome, Reject):
        assert outcome.code in RECORD_REASONS
        return f"!{outcome.code}"
    return outcome


@pytest.mark.parametrize(
    ("cell", "raw", "expected"),
    [
        ("007", {"type": "integer"}, "7"),
        ("12.0", {"type": "integer"}, "12"),
        ("12.5", {"type": "integer"}, "!bad_integer"),
        ("1e5", {"type": "integer"}, "!bad_integer"),
        ("²", {"type": "integer"}, "!bad_integer"),
        ("٣", {"type": "integer"}, "!bad_integer"),
        ("1,234", {"type": "integer"}, "!ambiguous_number"),
        ("1,234", {"type": "integer", "groupChar": ","}, "1234"),
        ("12,34", {"type": "integer", "groupChar": ","}, "!bad_integer"),
        ("(12)", {"type": "integer", "negatives": ["parentheses"]}, "-12"),
        ("12-", {"type": "integer", "negatives": ["trailing"]}, "-12"),
        ("--3", {"type": "integer"}, "!bad_integer"),
        ("-0", {"type": "integer"}, "0"),
        ("1.50", {"type": "number"}, "1.5"),
        ("1.5", {"type": "number", "scale": 2}, "1.50"),
        ("0.125", {"type": "number", "scale": 2}, "0.12"),
        ("-0.001", {"type": "number", "scale": 2}, "0.00"),
        ("1e3", {"type": "number"}, "1000"),
        ("NaN", {"type": "number"}, "!not_finite"),
        ("-inf", {"type": "number"}, "!not_finite"),
        ("1.234,5", {"type": "number", "decimalChar": ",", "groupChar": "."}, "1234.5"),
        ("1.5", {"type": "number", "decimalChar": ","}, "!ambiguous_number"),
        ("$1.50", {"type": "number", "bareNumber": False}, "1.5"),
        ("9" * 60, {"type": "number"}, "!bad_number"),
        ("2017-11-06", {"type": "date"}, "2017-11-06"),
        ("2017-11-06 00:00:00", {"type": "date"}, "2017-11-06"),
        ("2017-02-30", {"type": "date"}, "!bad_date"),
        ("now", {"type": "date", "format": "any"}, "!bad_date"),
        ("2026", {"type": "date", "format": "any"}, "!bad_date"),
        ("03/04/2026", {"type": "date", "format": "any"}, "!bad_date"),
        ("13/04/2026", {"type": "date", "format": "any"}, "2026-04-13"),
        ("9.3.2026", {"type": "date", "format": "any"}, "2026-03-09"),
        ("11/06/2017", {"type": "date", "format": "%m/%d/%Y"}, "2017-11-06"),
        ("43045", {"type": "date"}, "!bad_date"),
        ("2017-11-06T12:00:00+02:00", {"type": "datetime"}, "2017-11-06T10:00:00Z"),
        ("25:00:00", {"type": "time"}, "!bad_time"),
        ("true", {"type": "boolean"}, "true"),
        ("yes", {"type": "boolean"}, "!bad_boolean"),
        ("yes", {"type": "boolean", "trueValues": ["yes"]}, "true"),
        ("2017-13", {"type": "yearmonth"}, "!bad_value"),
        ("P1DT2H", {"type": "duration"}, "P1DT2H"),
        ('{"b":1,"a":2}', {"type": "object"}, '{"a":2,"b":1}'),
        ("90.5, 45", {"type": "geopoint"}, "90.5, 45"),
        ("a@b.c", {"type": "string", "format": "email"}, "a@b.c"),
        ("a b", {"type": "string", "format": "email"}, "!bad_format"),
        ("a\x00b", {"type": "string"}, "!control_character"),
        ("a\nb", {"type": "string"}, "!newline_in_cell"),
        ("a\nb", {"type": "string", "newlines": "space"}, "a b"),
        ("=1+1", {"type": "string"}, "!formula_injection"),
        ("@home", {"type": "string", "formulas": "allow"}, "@home"),
        ("-5", {"type": "string"}, "-5"),
        ("  x ", {"type": "string"}, "x"),
        ("", {"type": "string"}, ""),
        ("", {"type": "string", "constraints": {"required": True}}, "!missing_value"),
        ("", {"type": "integer", "default": "1", "constraints": {"required": True}}, "1"),
        ("-", {"type": "integer", "missingValues": ["-"]}, ""),
        ("5", {"type": "integer", "constraints": {"minimum": 6}}, "!below_minimum"),
        ("10", {"type": "integer", "constraints": {"maximum": 9}}, "!above_maximum"),
        ("abc", {"type": "string", "constraints": {"maxLength": 2}}, "!too_long"),
        ("abc", {"type": "string", "constraints": {"pattern": "[a-b]+"}}, "!pattern_mismatch"),
        ("c", {"type": "string", "constraints": {"enum": ["a", "b"]}}, "!not_in_enum"),
        ("1.0", {"type": "number", "scale": 1, "constraints": {"enum": [1, 2]}}, "1.0"),
        ("900", {"type": "integer", "outlier": {"maximum": 500}}, "!outlier"),
        ("FUEL", {"type": "string", "exclude": ["FUEL"]}, "!excluded_value"),
    ],
)
def test_a_cell_becomes_canonical_text_or_a_reason(cell: str, raw: dict[str, Any], expected: str) -> None:
    assert judged(cell, **raw) == expected


@pytest.mark.parametrize(
    ("cell", "unit", "field_unit", "expected"),
    [
        ("50", "°F", "celsius", "10.0"),
        ("2", "inch", "mm", "50.8"),
        ("36", "km/h", "m_s", "10.0"),
        ("101", "tenths_celsius", "celsius", "10.1"),
        ("7.5", "percent", "share", "0.1"),
    ],
)
def test_units_are_converted(cell: str, unit: str, field_unit: str, expected: str) -> None:
    assert judged(cell, Reading(unit=unit), type="number", scale=1, unit=field_unit) == expected


def test_a_day_outside_the_file_s_week_is_refused_by_name() -> None:
    bounds = WeekBounds("2017-11-06", "2017-11-12", "2017-01-02")
    rule = {"type": "date", "inSalesWeek": True}
    assert judged("2017-11-12", None, bounds, **rule) == "2017-11-12"
    assert judged("2017-11-13", None, bounds, **rule) == "!outside_sales_week"
    assert judged("2016-12-31", None, bounds, **rule) == "!before_history_start"


def test_the_shortcut_for_free_text_never_differs_from_the_rule() -> None:
    import re

    for raw in (
        {},
        {"constraints": {"maxLength": 12, "minLength": 2}},
        {"constraints": {"pattern": "[A-Z]?[0-9]{4,13}"}},
    ):
        item = field(type="string", **raw)
        pattern, rule = identity_pattern(item, Reading()), make_rule(item)
        assert pattern is not None
        for cell in ("A1234", "12345", "ab", "a", "abcdefghijklmnop", "x y", "=1", "-4", "é", "1\n", "Z99999999999999"):
            if re.search(pattern.replace("$", r"\Z"), cell):
                assert rule(cell) == cell


@pytest.mark.parametrize(
    ("raw", "taken"),
    [
        ({"type": "integer"}, {"0", "7", "1000", "999999999999999"}),
        ({"type": "integer", "constraints": {"minimum": -5, "maximum": 1999}}, {"0", "7"}),
        ({"type": "number"}, {"0", "7", "1000", "999999999999999", "0.5", "12.25", "999999999999999.123456789"}),
        ({"type": "number", "scale": 2, "constraints": {"minimum": 0}}, {"12.25", "1000.00", "0.00"}),
        ({"type": "number", "scale": 0, "groupChar": ","}, {"0", "7", "1000", "999999999999999"}),
    ],
)
def test_the_shortcut_for_numbers_takes_what_the_rule_leaves_as_it_is(raw: dict[str, Any], taken: set[str]) -> None:
    import re

    item = field(**raw)
    pattern, rule = identity_pattern(item, Reading()), make_rule(item)
    assert pattern is not None
    others = {"00", "-0", "-7", "+7", "1,000", "1e3", "12.250", "12.", ".5", "9" * 16, "١", "0.0000000001", ""}
    cells = taken | others | {"0", "7", "1000", "999999999999999", "0.5", "12.25", "1000.00", "0.00"}
    matched = {cell for cell in cells if re.search(pattern.replace("$", r"\Z"), cell)}
    assert matched == taken
    assert {rule(cell) for cell in taken} == taken


@pytest.mark.parametrize(
    "raw",
    [
        {"constraints": {"minimum": 1}},
        {"constraints": {"enum": ["1"]}},
        {"decimalChar": ","},
        {"groupChar": "."},
        {"outlier": {"maximum": 10}},
    ],
)
def test_numbers_that_a_rule_may_change_or_refuse_have_no_shortcut(raw: dict[str, Any]) -> None:
    assert identity_pattern(field(type="number", **raw), Reading()) is None
    assert identity_pattern(field(type="number"), Reading(unit="inch")) is None


def test_a_unit_that_nobody_taught_us_stops_the_contract() -> None:
    from domain.errors import BadRequest

    with pytest.raises(BadRequest, match="no conversion from 'furlong'"):
        make_rule(field(type="number", unit="mm"), Reading(unit="furlong"))
