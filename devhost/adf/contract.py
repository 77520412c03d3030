"""Called routes and the fields that expressions read from their answers, checked against an OpenAPI document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from devhost.adf.errors import ExpressionError
from devhost.adf.expressions import Node, parse
from devhost.adf.factory import Activity, Factory
from devhost.adf.http import host
from devhost.adf.scope import is_expression

if TYPE_CHECKING:
    from devhost.adf.check import Place

HOLE: Final = "\x00"  # stands for a part of a text that only a run knows
_ADDED: Final = frozenset(  # output fields that Data Factory adds itself
    {
        "adfwebactivityresponseheaders",
        "effectiveintegrationruntime",
        "executionduration",
        "durationinqueue",
        "billingreference",
        "response",
    }
)


@dataclass(frozen=True)
class Operation:
    """One route with its method in the document."""

    method: str
    path: str
    details: Mapping[str, Any]


class Contract:
    """An app's OpenAPI document, asked about the calls of a factory's activities."""

    def __init__(self, factory: Factory, document: Mapping[str, Any], base: str | None) -> None:
        self._factory = factory
        self._document = document
        self._bases = {base.rstrip("/").lower()} if base else _function_apps(factory)
        self._operations = list(_operations(document))

    def check(self, place: Place) -> Iterator[str]:
        """Faults of one activity: its own call, and what its expressions read from earlier calls."""
        call = self._call(place.activity)
        if call is not None:
            yield from self._check_call(place.activity, *call)
        for text in place.expressions():
            yield from self._check_reads(place, text)

    def _call(self, activity: Activity) -> tuple[str, str] | None:
        """Method and path (with holes) of an activity that calls this app, else None."""
        if activity.type == "AzureFunctionActivity":
            route = self._text(activity.properties.get("functionName"))
            return str(activity.properties.get("method", "GET")).upper(), f"/api/{route.lstrip('/')}".split("?")[0]
        if activity.type in ("WebActivity", "WebHook"):
            url = self._text(activity.properties.get("url"))
            for base in self._bases:
                if url.lower().startswith(base + "/"):
                    method = "POST" if activity.type == "WebHook" else str(activity.properties.get("method", "GET"))
                    return method.upper(), url[len(base) :].split("?")[0]
        return None

    def _check_call(self, activity: Activity, method: str, path: str) -> Iterator[str]:
        shown = path.replace(HOLE, "{...}")
        if path.strip("/") in (HOLE, f"api/{HOLE}"):
            return
        here = [op for op in self._operations if _matches(op.path, path)]
        if not here:
            yield f"no route {shown} in the app's OpenAPI document"
            return
        operation = next((op for op in here if op.method == method), None)
        if operation is None:
            yield f"route {shown} does not take {method}, only {', '.join(sorted(op.method for op in here))}"
            return
        yield from self._check_body(activity, operation)

    def _check_body(self, activity: Activity, operation: Operation) -> Iterator[str]:
        sent = self._body(activity.properties.get("body"))
        content = (operation.details.get("requestBody") or {}).get("content") or {}
        schema = self._schema((content.get("application/json") or {}).get("schema") or {})
        if sent is None or not schema:
            return
        known, open_ended = self._fields(schema)
        name = f"{operation.method} {operation.path}"
        for field in sent:
            if field not in known and known and not open_ended:
                yield f"{name} does not take {field!r}; it takes {', '.join(sorted(known))}"
        added = {"callBackUri"} if activity.type == "WebHook" else set()
        for field in schema.get("required") or []:
            if field not in sent and field not in added:
                yield f"{name} needs {field!r}, which is not sent"

    def _check_reads(self, place: Place, text: str) -> Iterator[str]:
        try:
            calls = [node for node in parse(text).walk() if node.kind == "call"]
        except ExpressionError:
            return
        for node in calls:
            if str(node.value).lower() != "activity":
                continue
            keys = node.keys()
            read = place.earlier(str(node.arguments[0].value)) if node.arguments else None
            if read is None or len(keys) < 2 or str(keys[0]).lower() != "output":
                continue
            call = None if read.type == "WebHook" else self._call(read)
            operation = self._operation(*call) if call else None
            if operation is None or str(keys[1]).lower() in _ADDED:
                continue
            schemas = list(self._answers(operation, follow=read.type == "WebActivity"))
            shown = ".".join(str(key) for key in keys[1:])
            if not schemas:
                yield f"{operation.method} {operation.path} does not say what it answers; {shown!r} cannot be checked"
            elif not any(self._has(schema, keys[1:]) for schema in schemas):
                yield f"{operation.method} {operation.path} answers nothing called {shown!r}"

    def _operation(self, method: str, path: str) -> Operation | None:
        return next((op for op in self._operations if op.method == method and _matches(op.path, path)), None)

    def _answers(self, operation: Operation, *, follow: bool) -> Iterator[Mapping[str, Any]]:
        """Schemas of the good answers; a 202 is no answer to an activity that follows it."""
        for status, answer in (operation.details.get("responses") or {}).items():
            if not str(status).startswith("2") or (follow and str(status) == "202"):
                continue
            content = self._schema(answer).get("content") or {}
            schema = (content.get("application/json") or {}).get("schema")
            if schema:
                yield self._schema(schema)

    def _has(self, schema: Mapping[str, Any], keys: tuple[str | int | None, ...]) -> bool:
        if not keys:
            return True
        schema = self._schema(schema)
        for part in ("allOf", "anyOf", "oneOf"):
            if any(self._has(choice, keys) for choice in schema.get(part) or []):
                return True
        key = keys[0]
        if key is None or isinstance(key, int):
            items = schema.get("items")
            return isinstance(items, dict) and self._has(items, keys[1:])
        for name, below in (schema.get("properties") or {}).items():
            if name.lower() == key.lower():
                return self._has(below, keys[1:])
        more = schema.get("additionalProperties")
        return more is True or (isinstance(more, dict) and self._has(more, keys[1:]))

    def _fields(self, schema: Mapping[str, Any]) -> tuple[set[str], bool]:
        known, open_ended = set(schema.get("properties") or {}), bool(schema.get("additionalProperties"))
        for part in ("allOf", "anyOf", "oneOf"):
            for choice in schema.get(part) or []:
                more, also_open = self._fields(self._schema(choice))
                known, open_ended = known | more, open_ended or also_open
        return known, open_ended

    def _schema(self, schema: Any) -> Mapping[str, Any]:
        while isinstance(schema, dict) and "$ref" in schema:
            found: Any = self._document
            for step in str(schema["$ref"]).removeprefix("#/").split("/"):
                found = found[step.replace("~1", "/").replace("~0", "~")]
            schema = found
        return schema if isinstance(schema, dict) else {}

    def _text(self, value: Any) -> str:
        """A text as far as it is known before a run, with a HOLE for each part that is not."""
        if is_expression(value):
            value = value.get("value", value.get("content"))
        if not isinstance(value, str):
            return HOLE
        try:
            return re.sub(f"{HOLE}+", HOLE, self._known(parse(value)))
        except ExpressionError:
            return HOLE

    def _known(self, node: Node) -> str:
        if node.kind == "literal":
            return "" if node.value is None else str(node.value)
        if node.kind == "text" or (node.kind == "call" and str(node.value).lower() == "concat"):
            return "".join(self._known(part) for part in node.arguments)
        keys = node.keys()
        if str(node.value).lower() == "pipeline" and len(keys) == 2 and str(keys[0]).lower() == "globalparameters":
            value = self._factory.global_parameters.get(str(keys[1]))
            return value if isinstance(value, str) else HOLE
        return HOLE

    def _body(self, value: Any) -> Mapping[str, Any] | None:
        """The body's top-level fields, as far as they can be read without a run."""
        if isinstance(value, dict) and not is_expression(value):
            return value
        try:
            found = json.loads(self._text(value).replace(HOLE, "0"))
        except ValueError:
            return None
        return found if isinstance(found, dict) else None


def _operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    servers = document.get("servers") or []
    prefix = re.sub(r"^https?://[^/]+", "", str(servers[0].get("url", ""))).rstrip("/") if servers else ""
    for path, methods in (document.get("paths") or {}).items():
        whole = path if path.startswith("/api/") else f"{prefix or '/api'}{path}"
        for method, details in methods.items():
            if method.lower() in ("get", "post", "put", "patch", "delete", "head", "options", "trace"):
                yield Operation(method.upper(), whole, details)


def _matches(route: str, path: str) -> bool:
    """True when a call's path (with holes) leads to a route. A hole fills a parameter, never a fixed part."""
    wanted, given = route.strip("/").split("/"), path.strip("/").split("/")
    if len(wanted) != len(given):
        return False
    for fixed, part in zip(wanted, given, strict=True):
        if not (fixed.startswith("{") and fixed.endswith("}")) and fixed.lower() != part.lower():
            return False
    return True


def _function_apps(factory: Factory) -> set[str]:
    apps = set()
    for service in factory.linked_services.values():
        if service.get("type") == "AzureFunction":
            url = (service.get("typeProperties") or {}).get("functionAppUrl")
            apps.add(host(str(url.get("value") if isinstance(url, dict) else url)))
    return apps - {""}
