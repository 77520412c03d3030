"""The ARM template of a factory's folder, with the parameters that its definition file names, as Studio exports it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from devhost.adf.errors import FactoryError

Json = dict[str, Any]
DEFINITION: Final = "arm-template-parameters-definition.json"
_API: Final = "2018-06-01"
_KINDS: Final = {
    "linkedService": "linkedServices",
    "dataset": "datasets",
    "pipeline": "pipelines",
    "trigger": "triggers",
}
_REFERENCES: Final = {
    "LinkedServiceReference": "linkedServices",
    "DatasetReference": "datasets",
    "PipelineReference": "pipelines",
}
_TYPES: Final = {str: "string", bool: "bool", int: "int", list: "array", dict: "object"}


def build_template(root: Path) -> Json:
    """The template of the folder: global parameters, linked services, datasets, pipelines, triggers in that order.

    Raises FactoryError for a file that is not JSON. The factory itself is not in it: its name is a parameter.
    """
    rules = _read(root / DEFINITION) if (root / DEFINITION).exists() else {}
    parameters: Json = {"factoryName": {"type": "string"}}
    resources = list(_globals(root, rules, parameters))
    for folder, kind in _KINDS.items():
        for file in sorted((root / folder).glob("*.json")):
            document = _read(file)
            properties = _escaped(document["properties"])
            needed = sorted(_needed(properties, kind, file.stem))
            if kind == "triggers":
                properties["runtimeState"] = "Stopped"
            rule = rules.get(f"Microsoft.DataFactory/factories/{kind}", {})
            _parametrise(
                properties, rule.get("properties", rule.get("*", {}).get("properties", {})), file.stem, parameters
            )
            resources.append(_resource(kind, file.stem, properties, needed))
    return {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "parameters": parameters,
        "variables": {
            "factoryId": "[concat('Microsoft.DataFactory/factories/', parameters('factoryName'))]",
        },
        "resources": resources,
    }


def _globals(root: Path, rules: Mapping[str, Any], parameters: Json) -> Iterator[Json]:
    """Global parameters as a resource of their own, named `default` by the service."""
    rule = rules.get("Microsoft.DataFactory/factories", {}).get("properties", {}).get("globalParameters", {})
    for file in sorted((root / "factory").glob("*.json")):
        declared = _escaped((_read(file).get("properties") or {}).get("globalParameters") or {})
        if declared:
            _parametrise(declared, rule, "default", parameters, ("properties", "globalParameters"))
            yield _resource("globalparameters", "default", declared, [])


def _resource(kind: str, name: str, properties: Json, needed: list[str]) -> Json:
    return {
        "name": f"[concat(parameters('factoryName'), '/{name}')]",
        "type": f"Microsoft.DataFactory/factories/{kind}",
        "apiVersion": _API,
        "properties": properties,
        "dependsOn": [f"[concat(variables('factoryId'), '/{path}')]" for path in needed],
    }


def _parametrise(target: Any, rule: Any, name: str, parameters: Json, path: tuple[str, ...] = ("properties",)) -> None:
    """Replace what the rule marks with `=` by a parameter whose default is the value in the file."""
    if not isinstance(target, dict) or not isinstance(rule, dict):
        return
    for key in list(target):
        below = rule.get(key, rule.get("*"))
        if below == "=":
            parameter = "_".join((name, *path, key))
            parameters[parameter] = {"type": _TYPES[type(target[key])], "defaultValue": target[key]}
            target[key] = f"[parameters('{parameter}')]"
        elif below is not None:
            _parametrise(target[key], below, name, parameters, (*path, key))


def _needed(value: Any, kind: str, name: str) -> set[str]:
    found: set[str] = set()
    if isinstance(value, list):
        for part in value:
            found |= _needed(part, kind, name)
    elif isinstance(value, dict):
        target = _REFERENCES.get(str(value.get("type")))
        reference = value.get("referenceName")
        if target and isinstance(reference, str) and (target, reference) != (kind, name):
            found.add(f"{target}/{reference}")
        for part in value.values():
            found |= _needed(part, kind, name)
    return found


def _escaped(value: Any) -> Any:
    """A text that starts with [ would be a template expression: it is written [[."""
    if isinstance(value, str):
        return f"[{value}" if value.startswith("[") else value
    if isinstance(value, list):
        return [_escaped(part) for part in value]
    if isinstance(value, dict):
        return {key: _escaped(part) for key, part in value.items()}
    return copy.copy(value)


def _read(file: Path) -> Json:
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise FactoryError(f"{file}: cannot be read as JSON: {error}") from None
    if not isinstance(found, dict):
        raise FactoryError(f"{file}: not an object")
    return found
