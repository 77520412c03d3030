"""A contract: a versioned Table Schema (Frictionless vocabulary) that says what the standard CSV holds.

Any Table Schema is a contract. Beyond the vocabulary we read, per field: `unit`, `scale` (decimals written), `default`,
`exclude` (values left out on purpose), `outlier` {minimum, maximum}, `inSalesWeek`, `newlines`, `formulas`,
`negatives`; per contract: `version`, `unknownColumns` (evolve | freeze | discard), `rowRules`, `maxQuarantineShare`,
`allowEmpty`, and `dialect`, `format`, `encoding` as a Data Resource has them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from domain.errors import BadRequest

TYPES = (
    "string",
    "integer",
    "number",
    "boolean",
    "date",
    "datetime",
    "time",
    "year",
    "yearmonth",
    "duration",
    "object",
    "array",
    "list",
    "geopoint",
    "geojson",
    "any",
)
MODES = ("evolve", "freeze", "discard")
PROVENANCE = ("source_file", "source_row")


@dataclass(frozen=True)
class Field:
    """One column of the standard CSV, with the rules that its cells obey."""

    name: str
    type: str = "string"
    format: str = "default"
    required: bool = False
    unique: bool = False
    unit: str = ""
    scale: int | None = None  # decimals written; None writes as many as the value needs
    default: str = ""
    constraints: Mapping[str, Any] = field(default_factory=dict)
    missing_values: frozenset[str] = frozenset({""})
    exclude: frozenset[str] = frozenset()
    outlier: Mapping[str, Any] = field(default_factory=dict)
    in_sales_week: bool = False
    newlines: str = "refuse"  # refuse | space
    formulas: str = "refuse"  # refuse | allow
    negatives: tuple[str, ...] = ("leading",)
    decimal_char: str = "."
    group_char: str = ""
    bare_number: bool = True
    true_values: tuple[str, ...] = ("true", "True", "TRUE", "1")
    false_values: tuple[str, ...] = ("false", "False", "FALSE", "0")


@dataclass(frozen=True)
class RowRule:
    """A rule across fields: `ascending` (each value <= the next one; missing values are passed over)."""

    check: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Contract:
    """What one standard dataset looks like."""

    name: str
    version: str
    fields: tuple[Field, ...]
    primary_key: tuple[str, ...] = ()
    unknown_columns: str = "freeze"
    fields_match: str = "partial-strict"
    row_rules: tuple[RowRule, ...] = ()
    max_quarantine_share: float = 1.0
    allow_empty: bool = False
    dialect: Mapping[str, Any] | None = None
    format: str = ""
    encoding: str = ""
    digest: str = ""
    warnings: tuple[str, ...] = ()

    def field_named(self, name: str) -> Field:
        """Return the named field; the caller knows that it exists."""
        return next(item for item in self.fields if item.name == name)

    @property
    def names(self) -> list[str]:
        """Field names in the order of the standard CSV, without the provenance columns."""
        return [item.name for item in self.fields]

    @property
    def keys(self) -> tuple[tuple[str, ...], ...]:
        """Every set of columns whose values may appear once: the primary key, else the unique fields."""
        unique = tuple((item.name,) for item in self.fields if item.unique)
        return ((self.primary_key,) if self.primary_key else ()) + unique


_SHAPES: dict[str, type] = {
    **dict.fromkeys(("constraints", "outlier"), dict),
    **dict.fromkeys(("exclude", "missingValues", "negatives", "trueValues", "falseValues"), list),
}
_TABLE_SHAPES: dict[str, type] = {"dialect": dict, "rowRules": list, "missingValues": list}
_CONSTRAINT_SHAPES: dict[str, type] = {"minLength": int, "maxLength": int, "enum": list}
_JSON_NAMES = {dict: "an object", list: "a list", int: "a whole number"}


def _shaped(raw: Mapping[str, Any], shapes: Mapping[str, type], where: str, faults: list[str]) -> dict[str, Any]:
    """Return the properties without those of a wrong shape, which become faults."""
    wrong = [name for name, kind in shapes.items() if raw.get(name) is not None and not isinstance(raw[name], kind)]
    faults += [f"{where}{name} {raw[name]!r} is not {_JSON_NAMES[shapes[name]]}" for name in wrong]
    return {name: value for name, value in raw.items() if name not in wrong}


def load_contract(path: Path) -> Contract:
    """Read a contract file: a Table Schema, a Data Resource with one, or a Data Package with one resource."""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BadRequest(
            f"the contract {path} cannot be read: {error.strerror}", field="contract", value=str(path)
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the contract {path} is not JSON: {error}", field="contract", value=str(path)) from error
    return parse_contract(document, name=path.stem)


def parse_contract(document: Any, name: str = "table") -> Contract:
    """Build a contract; raise BadRequest that names every fault."""
    if isinstance(document, dict) and isinstance(document.get("resources"), list) and len(document["resources"]) == 1:
        document = document["resources"][0]
    if not isinstance(document, dict):
        raise BadRequest(
            "a contract is a JSON object with a list `fields`", field="contract", value=type(document).__name__
        )
    faults: list[str] = []
    resource: Mapping[str, Any] = _shaped(document, _TABLE_SHAPES, "", faults)
    schema = resource
    if isinstance(document.get("schema"), dict):
        schema = _shaped(document["schema"], _TABLE_SHAPES, "schema.", faults)
    raw_fields = schema.get("fields")
    if not isinstance(raw_fields, list) or not raw_fields:
        raise BadRequest(
            "the contract has no list `fields`",
            field="fields",
            remedy='give a Table Schema: {"fields": [{"name": ...}]}',
        )
    missing = _missing_values(schema.get("missingValues", [""]))
    fields = tuple(_field(item, missing, faults) for item in raw_fields)
    names = [item.name for item in fields]
    faults += [f"field {item!r} appears twice" for item in sorted({item for item in names if names.count(item) > 1})]
    faults += [f"field {item!r} is a name that the engine adds itself" for item in names if item in PROVENANCE]
    key = schema.get("primaryKey") or []
    key = tuple([key] if isinstance(key, str) else key)
    faults += [f"primaryKey names {item!r}, which is no field" for item in key if item not in names]
    rules = tuple(
        RowRule(str(rule.get("check")), tuple(rule.get("columns", ()))) for rule in schema.get("rowRules", [])
    )
    for rule in rules:
        if rule.check != "ascending" or not all(column in names for column in rule.columns):
            faults.append(f"rowRules: {rule.check!r} over {list(rule.columns)} is not `ascending` over known fields")
    match = schema.get("fieldsMatch", "partial-strict")
    match = match[0] if isinstance(match, list) and match else match
    unknown = schema.get("unknownColumns") or {"superset": "freeze", "subset": "discard", "partial": "discard"}.get(
        match, "freeze"
    )
    if unknown not in MODES:
        faults.append(f"unknownColumns {unknown!r} is none of {', '.join(MODES)}")
    share = schema.get("maxQuarantineShare", 1.0)
    if not isinstance(share, int | float) or not 0 <= share <= 1:
        faults.append(f"maxQuarantineShare {share!r} is not a share between 0 and 1")
    if faults:
        raise BadRequest("the contract is not usable: " + "; ".join(faults), field="contract", faults=faults)
    warnings = ["foreignKeys name other tables and are not checked here"] if schema.get("foreignKeys") else []
    return Contract(
        name=str(schema.get("name") or resource.get("name") or name),
        version=str(schema.get("version") or resource.get("version") or "0"),
        fields=fields,
        primary_key=key,
        unknown_columns=unknown,
        fields_match=match,
        row_rules=rules,
        max_quarantine_share=float(share),
        allow_empty=bool(schema.get("allowEmpty", False)),
        dialect=resource.get("dialect") if isinstance(resource.get("dialect"), dict) else schema.get("dialect"),
        format=str(resource.get("format") or ""),
        encoding=str(resource.get("encoding") or schema.get("encoding") or ""),
        digest=hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest(),
        warnings=tuple(warnings),
    )


def _missing_values(raw: Any) -> frozenset[str]:
    items = raw if isinstance(raw, list) else [""]
    return frozenset(str(item["value"] if isinstance(item, dict) else item) for item in items)


def _field(raw: Any, missing: frozenset[str], faults: list[str]) -> Field:
    if isinstance(raw, str):
        raw = {"name": raw}
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str) or not raw["name"]:
        faults.append(f"a field has no name: {raw!r}")
        return Field("?")
    name = raw["name"]
    raw = _shaped(raw, _SHAPES, f"field {name!r}: ", faults)
    kind = raw.get("type", "string" if "format" in raw else "any")
    if kind not in TYPES:
        faults.append(f"field {name!r}: type {kind!r} is none of {', '.join(TYPES)}")
    constraints = _shaped(raw.get("constraints") or {}, _CONSTRAINT_SHAPES, f"field {name!r}: ", faults)
    pattern = constraints.get("pattern")
    if pattern is not None:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            faults.append(f"field {name!r}: pattern {pattern!r} is no regular expression ({error})")
    scale = raw.get("scale")
    if scale is not None and (not isinstance(scale, int) or not 0 <= scale <= 18):
        faults.append(f"field {name!r}: scale {scale!r} is not a whole number from 0 to 18")
    return Field(
        name=name,
        type=kind,
        format=str(raw.get("format", "default")),
        required=bool(constraints.get("required")),
        unique=bool(constraints.get("unique")),
        unit=str(raw.get("unit", "")),
        scale=scale,
        default=str(raw.get("default", "")),
        constraints=constraints,
        missing_values=_missing_values(raw["missingValues"]) if "missingValues" in raw else missing,
        exclude=frozenset(map(str, raw.get("exclude", ()))),
        outlier=dict(raw.get("outlier") or {}),
        in_sales_week=bool(raw.get("inSalesWeek")),
        newlines=str(raw.get("newlines", "refuse")),
        formulas=str(raw.get("formulas", "refuse")),
        negatives=tuple(raw.get("negatives", ("leading",))),
        decimal_char=str(raw.get("decimalChar", ".")),
        group_char=str(raw.get("groupChar", "")),
        bare_number=bool(raw.get("bareNumber", True)),
        true_values=tuple(map(str, raw.get("trueValues", Field.true_values))),
        false_values=tuple(map(str, raw.get("falseValues", Field.false_values))),
    )
