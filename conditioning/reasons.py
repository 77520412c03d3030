"""The closed vocabulary of why a record, or a whole file, is not in the conditioned data.

Record codes appear in quarantine rows and in `counts.by_reason`; file codes in rejected outcomes. The first failing
rule of a record wins: record shape, declared exclusions, fields from left to right, rules across fields, duplicates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from domain.errors import ShelfcastError

RECORD_REASONS: dict[str, str] = {
    "too_few_cells": "the record has fewer cells than the header: ask for the missing cell, or fix the delimiter",
    "too_many_cells": "the record has more cells than the header: quote cells that hold the delimiter",
    "record_too_long": "the record is longer than the limit: a quote or line end is probably missing",
    "undecodable_text": "bytes are neither UTF-8 nor the declared encoding: declare the encoding",
    "control_character": "the cell holds a NUL or another control character: export it again as text",
    "newline_in_cell": 'the cell holds a line break: remove it, or allow it with "newlines": "space" in the contract',
    "formula_injection": 'the cell starts like a spreadsheet formula: remove the prefix, or set "formulas": "allow"',
    "missing_value": "a required value is missing: deliver it",
    "bad_integer": "not a whole number in the declared notation",
    "bad_number": "not a number in the declared notation (see decimalChar and groupChar)",
    "ambiguous_number": "the mark could be a decimal or a thousands mark: declare decimalChar and groupChar",
    "not_finite": "infinite or not a number: deliver an empty cell for a missing value",
    "bad_date": "not a date in the declared format",
    "bad_time": "not a time or date-time in the declared format",
    "bad_boolean": "not one of the declared true and false words",
    "bad_value": "not a value of the declared type",
    "bad_format": "the text does not have the declared format",
    "pattern_mismatch": "the text does not match the declared pattern",
    "too_short": "shorter than minLength",
    "too_long": "longer than maxLength",
    "below_minimum": "below the declared minimum",
    "above_maximum": "above the declared maximum",
    "not_in_enum": "not one of the declared values",
    "excluded_value": "the contract declares that such records are left out",
    "outlier": "beyond the declared outlier limits: release it by re-driving with a corrected value or a wider limit",
    "outside_sales_week": "the date is not in the sales week that the file is about: deliver it in its own week's file",
    "before_history_start": "the date is before the history starts",
    "fields_disagree": "two fields of the record contradict each other",
    "quality_flag": "the provider marks the value as failed in its own checks",
    "unknown_station": "no zip is known for the station: add it to column_maps/weather_stations.csv",
    "unknown_element": "the element is not used",
    "control_total": "the document's own total does not agree with its lines",
    "not_a_record": "the record cannot be read",
}
"""Record-level reason code -> what it means and what to do."""

FILE_REASONS: dict[str, str] = {
    "empty_file": "the file holds no bytes: deliver it again",
    "no_records": "the file holds a header and no records",
    "unknown_format": "the file is none of the formats that the source knows",
    "undecodable_file": "the text encoding cannot be found out: declare it or deliver UTF-8",
    "header_mismatch": "the header is not the declared one: compare both lists",
    "duplicate_header": "a column name that is needed appears twice in the header",
    "unterminated_quote": "a quote is opened and never closed: fix the named record",
    "record_too_long": "a record never ends: a quote or the line ends are missing",
    "truncated_file": "the compressed file ends too early: upload it again",
    "corrupt_file": "the file is damaged: upload it again",
    "decompression_bomb": "the file expands beyond the limit: deliver it in smaller files",
    "encrypted_file": "the file is protected by a password: deliver it without",
    "several_members": "the archive must hold exactly one file",
    "wrong_sheet": "the workbook has no such sheet",
    "trailer_mismatch": "the trailer's count disagrees with the records",
    "malformed_envelope": "the interchange's counts or control numbers do not agree",
    "malformed_document": "the document cannot be parsed",
    "too_many_quarantined": "more records are bad than the contract tolerates: correct the file and deliver it again",
    "poison": "conditioning failed five times on this file: it is set aside whole for an engineer",
}
"""File-level reason code -> what it means and what to do."""

UNCOUNTED = frozenset({"excluded_value", "unknown_element"})
"""Declared exclusions: not the provider's fault, so they never count against the quarantine share."""


@dataclass(frozen=True)
class Reject:
    """Why one cell is refused: a code of RECORD_REASONS and what was expected."""

    code: str
    expected: str = ""


class FileRefused(ShelfcastError):
    """The whole file cannot be conditioned; the same bytes will be refused again."""

    code: ClassVar[str] = "file_refused"
    http_status: ClassVar[int] = 422

    def __init__(self, reason: str, message: str, **fields: Any) -> None:
        """`reason` is a code of FILE_REASONS; its remedy is added to the fields."""
        fields.setdefault("remedy", FILE_REASONS[reason].split(": ", 1)[-1])
        super().__init__(message, reason=reason, **fields)
        self.reason = reason
