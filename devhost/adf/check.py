"""Offline validation: references, parameters, expressions and, given an OpenAPI document, the called routes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from devhost.adf.errors import ExpressionError, FactoryError, ParameterError
from devhost.adf.expressions import Bindings, Node, evaluate, is_dynamic, parse
from devhost.adf.factory import Activity, Factory, Pipeline
from devhost.adf.parameters import ParameterSpec, coerce, specs
from devhost.adf.scope import ancestors, expressions_in, is_expression
from devhost.adf.triggers.starting import pipelines_of

FUNCTIONS: Final = frozenset(
    (
        "concat endsWith guid indexOf lastIndexOf replace split startsWith substring toLower toUpper trim "
        "contains empty first intersection join last length skip take union "
        "and equals greater greaterOrEquals if less lessOrEquals not or "
        "array base64 base64ToBinary base64ToString binary bool coalesce createArray dataUri dataUriToBinary "
        "dataUriToString decodeBase64 decodeDataUri decodeUriComponent encodeUriComponent float int json string "
        "uriComponent uriComponentToBinary uriComponentToString xml xpath "
        "add div max min mod mul rand range sub "
        "addDays addHours addMinutes addSeconds addToTime convertFromUtc convertTimeZone convertToUtc dayOfMonth "
        "dayOfWeek dayOfYear formatDateTime getFutureTime getPastTime startOfDay startOfHour startOfMonth "
        "subtractFromTime ticks utcNow"
    )
    .lower()
    .split()
)
_SYSTEM: Final = frozenset(
    (
        "dataFactory pipeline runId triggerType triggerId triggerName triggerTime groupId "
        "triggeredByPipelineName triggeredByPipelineRunId triggerEvent parameters globalParameters"
    )
    .lower()
    .split()
)
_REFERENCES: Final = {
    "PipelineReference": "pipelines",
    "DatasetReference": "datasets",
    "LinkedServiceReference": "linked_services",
}


@dataclass(frozen=True, order=True)
class Finding:
    """One fault and where it is (`pipeline/activity`)."""

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(frozen=True)
class Place:
    """One activity with what its expressions may name. `before` are activities that surely ended."""

    pipeline: Pipeline
    activity: Activity
    before: Mapping[str, Activity]
    in_loop: bool

    @property
    def where(self) -> str:
        """The finding's place."""
        return f"{self.pipeline.name}/{self.activity.name}"

    def definition(self) -> dict[str, Any]:
        """The activity's JSON without its inner activities."""
        return {**self.activity.definition, "typeProperties": self.activity.own_properties()}

    def earlier(self, name: str) -> Activity | None:
        """An activity that surely ended before this one, by name in any case."""
        return next((a for known, a in self.before.items() if known.lower() == name.lower()), None)

    def expressions(self) -> Iterator[str]:
        """Every expression of the activity itself, without those of its inner activities."""
        return expressions_in(self.definition())


def check_factory(
    factory: Factory, *, openapi: Path | Mapping[str, Any] | None = None, base: str | None = None
) -> list[Finding]:
    """Every fault of a factory, sorted. With an OpenAPI document, also every call that its app would not understand.

    `base` is the address of that app as the pipelines write it; by default the factory's function linked services.
    """
    found = {Finding(name, reason) for name, reason in factory.unreadable.items()}
    places = [place for pipeline in factory.pipelines.values() for place in _places(pipeline)]
    for place in places:
        found |= {Finding(place.where, text) for text in _check_activity(factory, place)}
    for name, definition in factory.triggers.items():
        found |= {Finding(f"trigger {name}", text) for text in _check_trigger(factory, definition)}
    if openapi is not None:
        from devhost.adf.contract import Contract

        document = json.loads(openapi.read_text(encoding="utf-8")) if isinstance(openapi, Path) else openapi
        contract = Contract(factory, document, base)
        for place in places:
            found |= {Finding(place.where, text) for text in contract.check(place)}
    return sorted(found)


def _places(pipeline: Pipeline) -> Iterator[Place]:
    yield from _level(pipeline, pipeline.activities, {}, in_loop=False)


def _level(
    pipeline: Pipeline, activities: tuple[Activity, ...], outer: Mapping[str, Activity], *, in_loop: bool
) -> Iterator[Place]:
    named = {activity.name: activity for activity in activities}
    before = ancestors(activities)
    for activity in activities:
        if activity.inactive_as is not None:
            continue
        seen = dict(outer)
        for name in before[activity.name]:
            seen |= {inner.name: inner for inner in named[name].walk()}
        own = {inner.name: inner for inner in activity.walk()} if activity.type == "Until" else {}
        yield Place(pipeline, activity, seen | own, in_loop)
        for _, inner in activity.children:
            yield from _level(pipeline, inner, seen, in_loop=in_loop or activity.type == "ForEach")


def _check_activity(factory: Factory, place: Place) -> Iterator[str]:
    activity = place.activity
    definition = place.definition()
    yield from _check_references(factory, definition)
    for needed in activity.depends_on:
        beside = sorted({"Succeeded", "Failed"} & set(needed.conditions))
        if "Completed" in needed.conditions and beside:
            yield f"Completed stands beside {' and '.join(beside)}, which is refused"
    for inner in activity.walk() if activity.type in ("ForEach", "Until") else ():
        if inner is not activity and inner.type in ("ForEach", "Until"):
            yield f"{inner.type} {inner.name!r} stands inside a {activity.type}: use a pipeline of its own"
    if activity.type in ("SetVariable", "AppendVariable") and activity.properties.get("setSystemVariable") is not True:
        name = str(activity.properties.get("variableName"))
        if not _declared(name, place.pipeline.variables):
            yield f"variable {name!r} is not declared"
    for text in expressions_in(definition):
        yield from _check_expression(factory, place, text)


def _check_references(factory: Factory, value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for part in value:
            yield from _check_references(factory, part)
    if not isinstance(value, dict):
        return
    kind, name = _REFERENCES.get(str(value.get("type"))), value.get("referenceName")
    if kind and isinstance(name, str) and not is_dynamic(name):
        target = getattr(factory, kind).get(name)
        what = f"{kind.removesuffix('s').replace('_', ' ')} {name!r}"
        if target is None:
            yield f"{what} does not exist"
        elif kind != "pipelines":
            yield from _check_given(value.get("parameters") or {}, specs(target.get("parameters")), what)
    pipeline = value.get("pipeline")
    if isinstance(pipeline, dict) and pipeline.get("referenceName") in factory.pipelines:
        child = factory.pipelines[str(pipeline["referenceName"])]
        yield from _check_given(value.get("parameters") or {}, child.parameters, f"pipeline {child.name!r}")
    for part in value.values():
        yield from _check_references(factory, part)


def _check_given(given: Mapping[str, Any], declared: Mapping[str, ParameterSpec], target: str) -> Iterator[str]:
    for name, value in given.items():
        known = next((k for k in declared if k.lower() == name.lower()), None)
        if known is None:
            yield f"{target} has no parameter {name!r}"
        elif not is_expression(value) and not (isinstance(value, str) and is_dynamic(value)):
            try:
                coerce(value, declared[known].type, f"parameter {name!r} of {target}")
            except ParameterError as error:
                yield str(error)
    for name, spec in declared.items():
        if spec.required and not _declared(name, given):
            yield f"parameter {name!r} of {target} is not given and has no default"


def _check_expression(factory: Factory, place: Place, text: str) -> Iterator[str]:
    try:
        tree = parse(text)
    except ExpressionError as error:
        yield str(error)
        return
    for node in tree.walk():
        if node.kind == "call":
            yield from (f"{fault} (in {text[:120]})" for fault in _check_call(factory, place, node))


def _check_call(factory: Factory, place: Place, node: Node) -> Iterator[str]:
    name, keys = str(node.value).lower(), node.keys()
    literals = [str(a.value) for a in node.arguments if a.kind == "literal"]
    if name == "pipeline":
        yield from _check_pipeline_read(factory, place, keys)
    elif name == "variables":
        unknown = [name for name in literals if not _declared(name, place.pipeline.variables)]
        yield from (f"variable {name!r} is not declared" for name in unknown)
    elif name == "activity":
        for read in literals:
            earlier = place.earlier(read)
            if earlier is None:
                yield f"activity({read!r}) is not an activity that surely ended before this one"
            else:
                yield from _check_return(factory, earlier, keys)
    elif name == "item":
        if not place.in_loop and place.activity.type not in ("Filter", "ForEach"):
            yield "item() outside a ForEach or Filter"
    elif name in ("trigger", "triggerbody"):
        yield f"{node.value}() outside a trigger: hand it over as a parameter"
    elif name not in FUNCTIONS:
        yield f"{node.value}() is not one of Data Factory's functions"
    else:
        yield from _check_count(str(node.value), len(node.arguments))


def _check_pipeline_read(factory: Factory, place: Place, keys: tuple[str | int | None, ...]) -> Iterator[str]:
    first = str(keys[0]).lower() if keys else ""
    second = keys[1] if len(keys) > 1 else None
    if first not in _SYSTEM:
        yield f"pipeline().{keys[0] if keys else ''} is not a system variable"
    elif first == "parameters" and isinstance(second, str) and not _declared(second, place.pipeline.parameters):
        yield f"parameter {second!r} is not declared"
    elif first == "globalparameters" and isinstance(second, str) and not _declared(second, factory.global_parameters):
        yield f"global parameter {second!r} is not declared"


def _declared(name: str, names: Iterable[str]) -> bool:
    """True when a name is declared; the service does not mind its case."""
    return name.lower() in {known.lower() for known in names}


def _check_return(factory: Factory, called: Activity, keys: tuple[str | int | None, ...]) -> Iterator[str]:
    """A value read from a called pipeline must be one that it returns."""
    if called.type != "ExecutePipeline" or [str(k).lower() for k in keys[:2]] != ["output", "pipelinereturnvalue"]:
        return
    child = factory.pipelines.get(str((called.properties.get("pipeline") or {}).get("referenceName")))
    if child is None or len(keys) < 3 or not isinstance(keys[2], str):
        return
    returned = {
        str(entry.get("key"))
        for activity in child.walk()
        if activity.type == "SetVariable" and activity.properties.get("setSystemVariable") is True
        for entry in activity.properties.get("value") or []
    }
    if keys[2] not in returned:
        known = ", ".join(sorted(returned)) or "nothing"
        yield f"pipeline {child.name!r} does not return {keys[2]!r}; it returns {known}"


def _check_count(function: str, count: int) -> Iterator[str]:
    try:
        evaluate(f"@{function}({','.join(['null'] * count)})", Bindings())
    except ExpressionError as error:
        if re.search(r"was invoked with (no parameters|'\d+' parameter)", str(error)):
            yield str(error).split(" Please see")[0]


def _check_trigger(factory: Factory, definition: Mapping[str, Any]) -> Iterator[str]:
    for name, given in pipelines_of(definition):
        try:
            pipeline = factory.pipeline(name)
        except FactoryError as error:
            yield str(error)
            continue
        yield from _check_given(given, pipeline.parameters, f"pipeline {name!r}")
        for text in expressions_in(dict(given)):
            try:
                calls = [node for node in parse(text).walk() if node.kind == "call"]
            except ExpressionError as error:
                yield str(error)
                continue
            for node in calls:
                function = str(node.value).lower()
                if function not in FUNCTIONS | {"trigger", "triggerbody", "pipeline"}:
                    yield f"{node.value}() is not one of Data Factory's functions (in {text[:120]})"
    for entry in (definition.get("typeProperties") or {}).get("dependsOn") or []:
        other = (entry.get("referenceTrigger") or {}).get("referenceName")
        if other and other not in factory.triggers:
            yield f"trigger {other!r} does not exist"
