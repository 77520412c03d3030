"""ARM parameter files (`NAME_properties_typeProperties_..._KEY`), as the service's export names what differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from devhost.adf.errors import FactoryError
from devhost.adf.factory import Factory, read_pipeline

_IGNORED = ("factoryName", "dataFactory_location", "dataFactory_identity_type")


def apply_parameter_file(factory: Factory, file: Path) -> None:
    """Put a parameter file's values into a loaded factory. Raises FactoryError for a name that leads nowhere."""
    try:
        parameters = json.loads(file.read_text(encoding="utf-8-sig"))["parameters"]
    except (OSError, ValueError, KeyError) as error:
        raise FactoryError(f"{file}: not an ARM parameter file: {error}") from None
    for name, entry in parameters.items():
        if name not in _IGNORED:
            apply_parameter(factory, name, entry.get("value"), str(file))


def apply_parameter(factory: Factory, name: str, value: Any, where: str) -> None:
    """Set what one ARM parameter names. Raises FactoryError."""
    for prefix in (f"{factory.name}_", "default_"):
        key = name.removeprefix(prefix).removeprefix("properties_globalParameters_").removesuffix("_value")
        if name.startswith(f"{prefix}properties_globalParameters_"):
            factory.override_global(key, value)
            return
    for kind in (factory.linked_services, factory.triggers, factory.datasets):
        for owner in sorted(kind, key=len, reverse=True):
            if name.startswith(f"{owner}_") and _set(kind[owner], _steps(name.removeprefix(f"{owner}_")), value):
                return
    for owner in sorted(factory.pipelines, key=len, reverse=True):
        definition = factory.pipelines[owner].definition
        if name.startswith(f"{owner}_") and _set(definition, _steps(name.removeprefix(f"{owner}_")), value):
            factory.pipelines[owner] = read_pipeline(owner, definition)
            return
    raise FactoryError(f"{where}: parameter {name!r} names nothing in this factory")


def _steps(rest: str) -> list[str]:
    parts = rest.split("_")
    return parts[1:] if parts[:1] == ["properties"] else parts


def _set(target: Any, steps: list[str], value: Any) -> bool:
    """Walk keys and list positions (keys may hold underscores themselves); set the last one if it exists."""
    for taken in range(1, len(steps) + 1):
        key, rest = "_".join(steps[:taken]), steps[taken:]
        found: Any = None
        if isinstance(target, list):
            found = int(key) if key.isdigit() and int(key) < len(target) else None
        elif isinstance(target, dict) and key in target:
            found = key
        if found is None:
            continue
        if not rest:
            target[found] = value
            return True
        if _set(target[found], rest, value):
            return True
    return False
