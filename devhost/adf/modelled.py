"""What this runner models. Everything else is refused by name before anything runs."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from devhost.adf.activities import blobs, control, web
from devhost.adf.calls import Handler
from devhost.adf.errors import NotModelled
from devhost.adf.expressions import is_dynamic
from devhost.adf.factory import Activity, Factory, Pipeline
from devhost.adf.scope import is_expression


@dataclass(frozen=True)
class Modelled:
    """One activity type: what executes it, the properties it honours, and those that mean nothing on one machine."""

    handler: Handler
    honoured: frozenset[str]
    without_meaning: frozenset[str] = frozenset()


def _type(handler: Handler, honoured: str, without_meaning: str = "") -> Modelled:
    return Modelled(handler, frozenset(honoured.split()), frozenset(without_meaning.split()))


_WEB: Final = "url method headers body authentication httpRequestTimeout turnOffAsync disableCertValidation"
TYPES: Final[Mapping[str, Modelled]] = {
    "AppendVariable": _type(control.append_variable, "variableName value"),
    "AzureFunctionActivity": _type(web.azure_function, "functionName method headers body", "functionTimeout"),
    "Copy": _type(
        blobs.copy,
        "source sink translator",
        "enableStaging parallelCopies dataIntegrationUnits validateDataConsistency logSettings",
    ),
    "Delete": _type(
        blobs.delete, "dataset recursive storeSettings", "enableLogging logStorageSettings maxConcurrentConnections"
    ),
    "ExecutePipeline": _type(control.execute_pipeline, "pipeline parameters waitOnCompletion"),
    "Fail": _type(control.fail, "message errorCode"),
    "Filter": _type(control.filter_items, "items condition"),
    "ForEach": _type(control.for_each, "items isSequential batchCount activities"),
    "GetMetadata": _type(blobs.get_metadata, "dataset fieldList storeSettings formatSettings"),
    "IfCondition": _type(control.if_condition, "expression ifTrueActivities ifFalseActivities"),
    "Lookup": _type(blobs.lookup, "source dataset firstRowOnly"),
    "SetVariable": _type(control.set_variable, "variableName value setSystemVariable"),
    "Switch": _type(control.switch, "on cases defaultActivities"),
    "Until": _type(control.until, "expression timeout activities"),
    "Validation": _type(blobs.validation, "dataset timeout sleep minimumSize childItems"),
    "Wait": _type(control.wait, "waitTimeInSeconds"),
    "WebActivity": _type(web.web_activity, _WEB, "connectVia"),
    "WebHook": _type(web.web_hook, "url method headers body authentication timeout reportStatusOnCallBack"),
}
HANDLERS: Final[Mapping[str, Handler]] = {name: modelled.handler for name, modelled in TYPES.items()}
_AUTHENTICATIONS: Final = (*web.IDENTITIES, "Basic")


def refuse_unmodelled(factory: Factory, name: str, answered: Container[str] = ()) -> None:
    """Raise NotModelled with everything that a pipeline, or one it calls, needs and this runner does not do.

    Inactive activities and those in `answered` (by NAME or PIPELINE/NAME) are not looked at. FactoryError: a called
    pipeline does not exist.
    """
    found, seen = [], set()
    waiting = [factory.pipeline(name)]
    while waiting:
        pipeline = waiting.pop()
        if pipeline.name in seen:
            continue
        seen.add(pipeline.name)
        for activity in pipeline.walk():
            if activity.inactive_as or activity.name in answered or f"{pipeline.name}/{activity.name}" in answered:
                continue
            faults = list(_faults(factory, activity))
            if faults:
                found.append(f"{pipeline.name}/{activity.name}: {', '.join(faults)}")
            waiting += _called(factory, activity)
    if found:
        raise NotModelled(found)


def _called(factory: Factory, activity: Activity) -> Iterator[Pipeline]:
    target = (activity.properties.get("pipeline") or {}).get("referenceName")
    if activity.type == "ExecutePipeline" and isinstance(target, str) and not is_dynamic(target):
        yield factory.pipeline(target)


def _faults(factory: Factory, activity: Activity) -> Iterator[str]:
    modelled = TYPES.get(activity.type)
    if modelled is None:
        yield f"activity type {activity.type}"
        return
    for key, value in activity.properties.items():
        if key not in modelled.honoured | modelled.without_meaning and value not in (None, [], {}, "", False):
            yield f"property {key!r} of {activity.type}"
    yield from _authentication(activity)
    yield from blobs.unmodelled(factory, activity)


def _authentication(activity: Activity) -> Iterator[str]:
    settings: Any = activity.properties.get("authentication")
    if activity.type not in ("WebActivity", "WebHook") or not settings:
        return
    if not isinstance(settings, dict) or is_expression(settings):
        yield "authentication given as an expression"
    elif settings.get("type") not in _AUTHENTICATIONS:
        yield f"authentication of type {settings.get('type')!r}"
