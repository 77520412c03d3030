"""Typed parameters and variables of pipelines, datasets and linked services."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from devhost.adf.errors import ParameterError

MASK: Final = "********"


@dataclass(frozen=True)
class ParameterSpec:
    """One declared parameter or variable. `type` is lower case; `required` when it has no default."""

    name: str
    type: str
    required: bool
    default: Any

    @property
    def secure(self) -> bool:
        """True for values that no record may show."""
        return self.type in ("securestring", "secureobject")


def specs(declared: Any) -> dict[str, ParameterSpec]:
    """The declarations of a `parameters` or `variables` object (a list of such objects is read too)."""
    entries: dict[str, Any] = {}
    for part in declared if isinstance(declared, list) else [declared or {}]:
        entries.update(part)
    found = {}
    for name, entry in entries.items():
        details = entry if isinstance(entry, dict) else {"type": "String", "defaultValue": entry}
        default = details.get("defaultValue")
        found[name] = ParameterSpec(
            name, str(details.get("type", "String")).lower(), "defaultValue" not in details, default
        )
    return found


def bind(
    given: Mapping[str, Any], declared: Mapping[str, ParameterSpec], *, owner: str, strict: bool
) -> dict[str, Any]:
    """Values for every declared parameter: given ones coerced to their type, defaults for the rest.

    Raises ParameterError for a missing one, a value that cannot be of the type and, when strict, an unknown name.
    """
    spelled = {name.lower(): name for name in declared}
    values: dict[str, Any] = {}
    for name, value in given.items():
        known = spelled.get(name.lower())
        if known is not None:
            values[known] = coerce(value, declared[known].type, f"parameter {known!r} of {owner}")
        elif strict:
            raise ParameterError(f"{owner} has no parameter {name!r}; it has: {', '.join(declared) or 'none'}")
    for name, spec in declared.items():
        if name in values:
            continue
        if spec.required:
            raise ParameterError(f"parameter {name!r} of {owner} was not given and has no default")
        values[name] = coerce(copy.deepcopy(spec.default), spec.type, f"default of {name!r} of {owner}")
    return values


def coerce(value: Any, kind: str, what: str) -> Any:
    """A value as its declared type where nothing is lost; null stays null. Raises ParameterError."""
    if value is None:
        return None
    try:
        return _coerced(value, kind.lower())
    except (ValueError, TypeError, KeyError):
        shown = MASK if kind.lower().startswith("secure") else json.dumps(value, default=str)[:80]
        raise ParameterError(f"{what} is declared {kind}, and {shown} is not one") from None


def _coerced(value: Any, kind: str) -> Any:
    if kind == "string":
        return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    if kind == "securestring":
        return value.get("value") if isinstance(value, dict) else str(value)
    if kind in ("int", "integer"):
        return _whole(value)
    if kind == "float":
        return _refuse(kind) if isinstance(value, bool) else float(value)
    if kind in ("bool", "boolean"):
        return value if isinstance(value, bool) else {"true": True, "false": False}[str(value).strip().lower()]
    if kind in ("array", "object", "secureobject"):
        return _json_of(value, list if kind == "array" else dict | list)
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or float(value) != int(float(value)):
        raise ValueError(value)
    return int(value)


def _json_of(value: Any, wanted: Any) -> Any:
    found = json.loads(value) if isinstance(value, str) else value
    return found if isinstance(found, wanted) else _refuse("JSON")


def _refuse(kind: str) -> Any:
    raise ValueError(kind)


def kind_of(value: Any) -> str:
    """The engine's name of a value's type, as error messages write it."""
    if value is None:
        return "Null"
    names = {bool: "Boolean", int: "Integer", float: "Float", str: "String", list: "Array", dict: "Object"}
    return names[type(value)]


def masked(values: Mapping[str, Any], declared: Mapping[str, ParameterSpec]) -> dict[str, Any]:
    """The values as a record may show them."""
    return {name: MASK if name in declared and declared[name].secure else value for name, value in values.items()}
