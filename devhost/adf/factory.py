"""A factory's folder: pipelines, linked services, datasets, triggers, global parameters; read liberally.

Studio's git layout (`pipeline/NAME.json` ...) is the normal one. A folder of loose JSON files, a single pipeline file,
definitions without the `properties` wrapper and a missing `factory/` are read too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from devhost.adf.errors import FactoryError
from devhost.adf.parameters import ParameterSpec, specs

Json = dict[str, Any]
T = TypeVar("T")
_KINDS = {
    "linkedservice": "linked_services",
    "dataset": "datasets",
    "trigger": "triggers",
}
CHILD_KEYS = ("activities", "ifTrueActivities", "ifFalseActivities", "defaultActivities", "cases")
_URL_PROPERTY = {
    "AzureFunction": "functionAppUrl",
    "AzureBlobFS": "url",
    "HttpServer": "url",
    "RestService": "url",
    "AzureKeyVault": "baseUrl",
    "Web": "url",
}


@dataclass(frozen=True)
class Dependency:
    """One entry of dependsOn: the activity and the outcomes that let the run go on."""

    activity: str
    conditions: tuple[str, ...]


@dataclass(frozen=True)
class Activity:
    """One activity's definition. `children` holds (property label, activities) of a container."""

    name: str
    type: str
    properties: Json
    policy: Json
    depends_on: tuple[Dependency, ...]
    user_properties: tuple[Json, ...]
    linked_service: Json | None
    definition: Json
    children: tuple[tuple[str, tuple[Activity, ...]], ...]

    @property
    def inactive_as(self) -> str | None:
        """Succeeded, Failed or Skipped when the activity is switched off, else None."""
        if str(self.definition.get("state", "Active")).lower() != "inactive":
            return None
        return str(self.definition.get("onInactiveMarkAs") or "Succeeded").capitalize()

    def block(self, label: str) -> tuple[Activity, ...]:
        """The inner activities under a property's name; empty when there are none."""
        return next((inner for name, inner in self.children if name == label), ())

    def own_properties(self) -> Json:
        """The type properties without inner activities."""
        return {key: value for key, value in self.properties.items() if key not in CHILD_KEYS}

    def walk(self) -> Iterator[Activity]:
        """This activity and all inner ones, without those below an inactive one."""
        yield self
        if self.inactive_as is None:
            for _, inner in self.children:
                for child in inner:
                    yield from child.walk()


@dataclass(frozen=True)
class Pipeline:
    """One pipeline's definition."""

    name: str
    activities: tuple[Activity, ...]
    parameters: Mapping[str, ParameterSpec]
    variables: Mapping[str, ParameterSpec]
    concurrency: int | None
    definition: Json

    def walk(self) -> Iterator[Activity]:
        """Every activity that can run."""
        for activity in self.activities:
            yield from activity.walk()


@dataclass
class Factory:
    """All definitions of one factory, by name as declared."""

    name: str
    root: Path
    pipelines: dict[str, Pipeline] = field(default_factory=dict)
    linked_services: dict[str, Json] = field(default_factory=dict)
    datasets: dict[str, Json] = field(default_factory=dict)
    triggers: dict[str, Json] = field(default_factory=dict)
    global_parameters: dict[str, Any] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)  # pipelines that cannot run, with the reason

    @classmethod
    def load(cls, path: str | Path) -> Factory:
        """Read a folder or one file. Raises FactoryError naming the file that cannot be read."""
        root = Path(path)
        if not root.exists():
            raise FactoryError(f"no factory at {root}: give the folder that holds pipeline/, linkedService/, ...")
        factory = cls(name=root.resolve().name, root=root)
        for file, kind in _files(root):
            factory._add(file, kind, _read(file))
        if not factory.pipelines and not factory.unreadable:
            raise FactoryError(f"{root} holds no pipeline: expected {root / 'pipeline'}/NAME.json")
        return factory

    def pipeline(self, name: str) -> Pipeline:
        """A pipeline by name (case does not matter). Raises FactoryError listing the names that exist."""
        for known, reason in self.unreadable.items():
            if known.lower() == name.lower():
                raise FactoryError(f"pipeline {known!r} cannot run: {reason}")
        return _find(self.pipelines, name, "pipeline")

    def linked_service(self, name: str) -> Json:
        """A linked service's properties by name. Raises FactoryError."""
        return _find(self.linked_services, name, "linked service")

    def dataset(self, name: str) -> Json:
        """A dataset's properties by name. Raises FactoryError."""
        return _find(self.datasets, name, "dataset")

    def trigger(self, name: str) -> Json:
        """A trigger's properties by name. Raises FactoryError."""
        return _find(self.triggers, name, "trigger")

    def override_global(self, name: str, value: Any) -> None:
        """Replace one global parameter's value. Raises FactoryError when it is not declared."""
        self.global_parameters[_spelling(self.global_parameters, name, "global parameter")] = value

    def override_linked_service(self, name: str, target: str) -> None:
        """Point a linked service at another address (or connection string). Raises FactoryError."""
        properties = self.linked_service(name)
        settings = properties.setdefault("typeProperties", {})
        kind = str(properties.get("type"))
        if kind in ("AzureBlobStorage", "AzureStorage", "AzureBlobFS") and not target.startswith("http"):
            settings.clear()
            settings["connectionString"] = target
            return
        settings[_URL_PROPERTY.get(kind, "serviceEndpoint" if kind == "AzureBlobStorage" else "url")] = target

    def _add(self, file: Path, kind: str, document: Json) -> None:
        name = str(document.get("name") or file.stem)
        properties = document.get("properties", document)
        if not isinstance(properties, dict):
            raise FactoryError(f"{file}: properties is not an object")
        if kind == "pipeline":
            try:
                self.pipelines[name] = read_pipeline(name, properties)
            except FactoryError as error:
                self.unreadable[name] = str(error)
        elif kind in _KINDS:
            getattr(self, _KINDS[kind])[name] = properties
        elif kind == "factory":
            self.name = name
            self._add_globals(properties.get("globalParameters") or {})
        elif kind == "globalparameters":
            self._add_globals(properties)

    def _add_globals(self, declared: Json) -> None:
        for name, entry in declared.items():
            self.global_parameters[name] = entry.get("value") if isinstance(entry, dict) else entry


def read_pipeline(name: str, properties: Json) -> Pipeline:
    """A pipeline from its JSON properties. Raises FactoryError for shapes that cannot be run."""
    concurrency = properties.get("concurrency")
    return Pipeline(
        name=name,
        activities=read_activities(properties.get("activities") or []),
        parameters=specs(properties.get("parameters")),
        variables=specs(properties.get("variables")),
        concurrency=int(concurrency) if isinstance(concurrency, int | str) and str(concurrency).isdigit() else None,
        definition=properties,
    )


def read_activities(definitions: Sequence[Any]) -> tuple[Activity, ...]:
    """Activities of one scope; checks that dependencies name activities of the scope and have no circle."""
    names = {str(d["name"]).lower(): str(d["name"]) for d in definitions if isinstance(d, dict) and d.get("name")}
    activities = tuple(_activity(definition, names) for definition in definitions)
    if len(names) < len(activities):
        raise FactoryError(f"two of the activities {', '.join(a.name for a in activities)} have the same name")
    for activity in activities:
        for needed in activity.depends_on:
            if needed.activity not in names.values():
                raise FactoryError(f"activity {activity.name!r} depends on {needed.activity!r}, which is not beside it")
    _refuse_circles(activities)
    return activities


def _activity(definition: Any, names: Mapping[str, str]) -> Activity:
    if not isinstance(definition, dict) or not definition.get("name") or not definition.get("type"):
        raise FactoryError("an activity without name or type")
    properties = definition.get("typeProperties") or {}
    depends = []
    for entry in definition.get("dependsOn") or []:
        conditions = entry.get("dependencyConditions") or ["Succeeded"]
        named = str(entry.get("activity"))
        outcomes = tuple(str(condition).capitalize() for condition in conditions)
        depends.append(Dependency(names.get(named.lower(), named), outcomes))
    return Activity(
        name=str(definition["name"]),
        type=str(definition["type"]),
        properties=properties,
        policy=definition.get("policy") or {},
        depends_on=tuple(depends),
        user_properties=tuple(definition.get("userProperties") or ()),
        linked_service=definition.get("linkedServiceName"),
        definition=definition,
        children=tuple(_children(properties)),
    )


def _children(properties: Json) -> Iterator[tuple[str, tuple[Activity, ...]]]:
    for label in ("activities", "ifTrueActivities", "ifFalseActivities", "defaultActivities"):
        if isinstance(properties.get(label), list):
            yield label, read_activities(properties[label])
    for case in properties.get("cases") or []:
        if isinstance(case, dict):
            yield f"case {case.get('value')}", read_activities(case.get("activities") or [])


def _refuse_circles(activities: tuple[Activity, ...]) -> None:
    waiting = {a.name: {d.activity for d in a.depends_on} for a in activities}
    while waiting:
        free = [name for name, needed in waiting.items() if not needed & waiting.keys()]
        if not free:
            raise FactoryError(f"activities depend on each other in a circle: {', '.join(sorted(waiting))}")
        for name in free:
            del waiting[name]


def _files(root: Path) -> Iterator[tuple[Path, str]]:
    if root.is_file():
        yield root, _kind_by_content(_read(root))
        return
    home = root if (root / "pipeline").is_dir() else next((p.parent for p in sorted(root.glob("*/pipeline"))), None)
    if home is None:
        for file in sorted(root.rglob("*.json")):
            yield file, _kind_by_content(_read(file))
        return
    for file in sorted(home.glob("*/*.json")):
        yield file, file.parent.name.lower()


def _kind_by_content(document: Json) -> str:
    properties = document.get("properties", document)
    if not isinstance(properties, dict):
        return "unknown"
    if isinstance(properties.get("activities"), list):
        return "pipeline"
    if isinstance(properties.get("globalParameters"), dict):
        return "factory"
    kind = str(properties.get("type", ""))
    if kind.endswith("Trigger"):
        return "trigger"
    if "linkedServiceName" in properties:
        return "dataset"
    return "linkedservice" if kind and "typeProperties" in properties else "unknown"


def _read(file: Path) -> Json:
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError) as error:
        raise FactoryError(f"{file}: cannot be read as JSON: {error}") from None
    return document if isinstance(document, dict) else {}


def _spelling(names: Mapping[str, Any], name: str, what: str) -> str:
    if name in names:
        return name
    for known in names:
        if known.lower() == name.lower():
            return known
    known_names = ", ".join(sorted(names)) or "none"
    raise FactoryError(f"{what} {name!r} does not exist; known: {known_names}")


def _find(names: Mapping[str, T], name: str, what: str) -> T:
    return names[_spelling(names, name, what)]
