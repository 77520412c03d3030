"""Bring a factory to what adf/ holds: stop triggers, write everything, delete what is gone, start the chosen triggers.

python -m scripts.deploy_data_factory --environment dev [--plan]

What differs between environments comes from adf/parameters/ENVIRONMENT.json and from the outputs of the deployment
(environment variables FUNCTION_APP_URL, FUNCTIONS_AUDIENCE, LAKE_ACCOUNT_ID, DATA_FACTORY_NAME, AZURE_RESOURCE_GROUP,
AZURE_SUBSCRIPTION_ID). Triggers to start are named in infra/environments/ENVIRONMENT.json; the others stay stopped.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.azure_rest import AzureRest, sign_in

ROOT = Path(__file__).resolve().parent.parent
API = "api-version=2018-06-01"
KINDS = {"linkedService": "linkedservices", "dataset": "datasets", "pipeline": "pipelines", "trigger": "triggers"}
OUTPUTS = ("FUNCTION_APP_URL", "FUNCTIONS_AUDIENCE", "LAKE_ACCOUNT_ID")


@dataclass(frozen=True)
class Wanted:
    """Resources by kind and name, in the order in which they may be written."""

    resources: tuple[tuple[str, str, dict[str, Any]], ...]
    global_parameters: dict[str, Any]

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the resources of a kind by name."""
        return {name: body for one, name, body in self.resources if one == kind}


def wanted(environment: str, outputs: Mapping[str, str], folder: Path = ROOT / "adf") -> Wanted:
    """Read adf/ for one environment; raise KeyError if a parameter names a property that no file has."""
    parameters = json.loads((folder / "parameters" / f"{environment}.json").read_text("utf-8"))["parameters"]
    values = {name: item["value"] for name, item in parameters.items() if name != "factoryName"}
    factory = json.loads(next((folder / "factory").glob("*.json")).read_text("utf-8"))
    documents = {"default": {"properties": {"globalParameters": factory["properties"]["globalParameters"]}}}
    kinds: dict[str, str] = {}
    for kind in KINDS:
        for file in sorted((folder / kind).glob("*.json")):
            document = json.loads(file.read_text("utf-8"))
            documents[document["name"]], kinds[document["name"]] = document, kind
    documents = copy.deepcopy(documents)
    for name, value in values.items():
        _set(documents, name, value)
    _set(documents, "ls_functions_properties_typeProperties_functionAppUrl", outputs["FUNCTION_APP_URL"])
    _set(documents, "ls_functions_properties_typeProperties_resourceId", outputs["FUNCTIONS_AUDIENCE"])
    _set(documents, "default_properties_globalParameters_functions_url_value", outputs["FUNCTION_APP_URL"])
    _set(documents, "default_properties_globalParameters_functions_audience_value", outputs["FUNCTIONS_AUDIENCE"])
    for name, document in documents.items():
        if document["properties"].get("type") == "BlobEventsTrigger":
            _set(documents, f"{name}_properties_typeProperties_scope", outputs["LAKE_ACCOUNT_ID"])
    bodies = {name: {"properties": document["properties"]} for name, document in documents.items() if name in kinds}
    order = [name for kind in KINDS for name in _callees_first({n: b for n, b in bodies.items() if kinds[n] == kind})]
    global_parameters = documents["default"]["properties"]["globalParameters"]
    return Wanted(tuple((kinds[name], name, bodies[name]) for name in order), global_parameters)


def _set(documents: dict[str, dict[str, Any]], parameter: str, value: Any) -> None:
    """Set what an ARM parameter name points at: RESOURCE_properties_..._KEY; names hold underscores too."""
    resource = max((name for name in documents if parameter.startswith(f"{name}_")), key=len, default="")
    if not resource:
        raise KeyError(f"{parameter} names no resource of the factory")
    place: Any = documents[resource]
    keys = parameter.removeprefix(f"{resource}_")
    while True:
        key = max((k for k in place if keys == k or keys.startswith(f"{k}_")), key=len, default="")
        if not key:
            raise KeyError(f"{parameter}: {resource} has no property {keys}")
        if keys == key:
            place[key] = value
            return
        place, keys = place[key], keys.removeprefix(f"{key}_")


def _callees_first(bodies: dict[str, dict[str, Any]]) -> list[str]:
    """Order pipelines so that each comes after those that it calls."""
    calls = {name: {callee for callee in _references(body) if callee in bodies} for name, body in bodies.items()}
    done: list[str] = []
    while len(done) < len(bodies):
        ready = sorted(name for name in bodies if name not in done and calls[name] <= {*done, name})
        if not ready:
            raise ValueError(f"pipelines call each other in a circle: {sorted(set(bodies) - set(done))}")
        done += ready
    return done


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("type") == "PipelineReference":
            yield str(node["referenceName"])
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


@dataclass(frozen=True)
class Factory:
    """A factory in Azure, by its resource id."""

    rest: AzureRest
    resource_id: str

    def deploy(self, target: Wanted, start: list[str]) -> list[str]:
        """Make the factory what `target` says; return what was done, a line a change. Safe to repeat."""
        done: list[str] = []
        running = [
            name for name, one in self._list("triggers").items() if one["properties"].get("runtimeState") == "Started"
        ]
        for name in sorted(running):
            self._post("triggers", name, "stop")
            done.append(f"stopped {name}")
        try:
            done += self._write(target)
        except Exception:
            for name in sorted(running):  # a failed deployment leaves the factory working as before
                self._post("triggers", name, "start")
            raise
        for name in sorted(start):
            self._post("triggers", name, "start")
            done.append(f"started {name}")
        return done

    def _write(self, target: Wanted) -> list[str]:
        done = []
        factory = self.rest.call("GET", f"{self.resource_id}?{API}")
        factory["properties"]["globalParameters"] = target.global_parameters
        body = {key: factory[key] for key in ("location", "identity", "tags", "properties") if key in factory}
        self.rest.call("PUT", f"{self.resource_id}?{API}", body)
        for kind, name, resource in target.resources:
            self.rest.call("PUT", f"{self.resource_id}/{KINDS[kind]}/{name}?{API}", resource)
            done.append(f"wrote {name}")
        for kind in reversed(KINDS):  # callers before what they call
            gone = sorted(set(self._list(KINDS[kind])) - set(target.of(kind)))
            for name in gone:
                self.rest.call("DELETE", f"{self.resource_id}/{KINDS[kind]}/{name}?{API}")
                done.append(f"deleted {name}")
        return done

    def _list(self, kind: str) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        path: str | None = f"{self.resource_id}/{kind}?{API}"
        while path:
            page = self.rest.call("GET", path) or {}
            found |= {item["name"]: item for item in page.get("value", [])}
            path = page.get("nextLink")
        return found

    def _post(self, kind: str, name: str, action: str) -> None:
        self.rest.call("POST", f"{self.resource_id}/{kind}/{name}/{action}?{API}")


def main(arguments: list[str] | None = None) -> int:
    """Deploy, or print what would be written."""
    parser = argparse.ArgumentParser(description="Bring a Data Factory to what adf/ holds.")
    parser.add_argument("--environment", required=True, choices=("dev", "staging", "prod"))
    parser.add_argument("--plan", action="store_true", help="print the resources in their order and send nothing")
    wish = parser.parse_args(arguments)
    start = json.loads((ROOT / "infra" / "environments" / f"{wish.environment}.json").read_text("utf-8"))[
        "startTriggers"
    ]
    if wish.plan:
        target = wanted(wish.environment, {name: f"{{{name}}}" for name in OUTPUTS})
        print(
            "\n".join(
                [*(f"write {kind} {name}" for kind, name, _ in target.resources), *(f"start {n}" for n in start)]
            )
        )
        return 0
    target = wanted(wish.environment, os.environ)
    resource_id = (
        f"/subscriptions/{os.environ['AZURE_SUBSCRIPTION_ID']}/resourceGroups/{os.environ['AZURE_RESOURCE_GROUP']}"
        f"/providers/Microsoft.DataFactory/factories/{os.environ['DATA_FACTORY_NAME']}"
    )
    print("\n".join(Factory(AzureRest(sign_in()), resource_id).deploy(target, start)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
