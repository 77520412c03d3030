"""The public listener: HTTP triggers, management routes, webhooks, admin routes."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web
from azure.functions.meta import Datum

from devhost.app_settings import HostConfig
from devhost.bindings import Bindings
from devhost.durable.client_binding import PATH as DURABLE_PATH
from devhost.durable.routes import DurableRoutes
from devhost.function_index import Function, FunctionIndex, converter_of
from devhost.logs import EventLog
from devhost.route_templates import RouteTemplate
from devhost.state import Keys

log = EventLog("devhost.http")
MAX_BODY = 100 * 1024 * 1024  # bytes, as on Azure
_BLOBS, _EVENTGRID = "/runtime/webhooks/blobs", "/runtime/webhooks/eventgrid"
EventSink = Callable[[Function, dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class _Route:
    template: RouteTemplate
    methods: frozenset[str] | None
    function: Function


class WebFront:
    """Routes every request of the public listener."""

    def __init__(self, index: FunctionIndex, config: HostConfig, bindings: Bindings, durable: DurableRoutes, keys: Keys,
                 *, enforce_keys: bool) -> None:  # fmt: skip
        self._index = index
        self._bindings = bindings
        self._durable = durable
        self._keys = keys
        self._enforce = enforce_keys
        self._prefix = "/" + config.route_prefix if config.route_prefix else ""
        self._routes = http_routes(index)
        self._began = time.monotonic()
        self.admin_run: Callable[[Function, Any], Awaitable[None]]
        self.blob_event: EventSink
        self.grid_event: EventSink
        self.state = "Starting"

    async def public(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request of the outside."""
        path = request.rel_url.raw_path
        origin = f"{request.scheme}://{request.host}"
        if path.startswith(DURABLE_PATH + "/"):
            if not self._allowed(request, self._keys.durable):
                return web.Response(status=401)
            return await self._durable.handle(request, path[len(DURABLE_PATH) :], origin)
        if path in (_BLOBS, _EVENTGRID):
            return await self._webhook(request, path)
        if path.startswith("/admin/"):
            return await self._admin(request, path)
        if self._prefix and path.lower().startswith(self._prefix.lower() + "/"):
            return await self._trigger(request, path[len(self._prefix) :])
        if not self._prefix:
            found = await self._trigger(request, path)
            if found.status != 404 or path != "/":
                return found
        if path == "/":
            return web.Response(text="Your functions host is running.")
        return web.Response(status=404)

    async def rpc(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer the SDK's client, which comes over loopback without a key."""
        path = request.rel_url.raw_path
        if not path.startswith("/durabletask/"):
            return web.Response(status=404)
        return await self._durable.handle(request, path[len("/durabletask") :], self._bindings.client.origin)

    def _allowed(self, request: web.BaseRequest, *keys: str) -> bool:
        given = request.headers.get("x-functions-key") or request.query.get("code") or ""
        fitting = (hmac.compare_digest(given.encode(), key.encode()) for key in (*keys, self._keys.master))
        return not self._enforce or any(fitting)

    # -- HTTP triggers ------------------------------------------------------------------------------
    async def _trigger(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        for route in self._routes:
            values = route.template.match(path)
            if values is not None and (route.methods is None or request.method in route.methods):
                return await self._invoke(route.function, request, values)
        return web.Response(status=404)

    async def _invoke(self, function: Function, request: web.BaseRequest, values: dict[str, str]) -> web.StreamResponse:
        level = str(function.trigger.settings.get("authLevel") or "FUNCTION").upper()
        if level == "FUNCTION" and not self._allowed(request, self._keys.function):
            return web.Response(status=401)
        if level == "ADMIN" and not self._allowed(request):
            return web.Response(status=401)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return web.Response(status=413)
        headers: dict[str, str] = {}
        for name in request.headers:
            headers[name.lower()] = ",".join(request.headers.getall(name))
        query = {k: ",".join(v) for k, v in parse_qs(request.rel_url.raw_query_string, keep_blank_values=True).items()}
        text = Datum
        datum = Datum(
            {
                "method": text(request.method, "string"),
                "url": text(f"{request.scheme}://{request.host}{request.raw_path}", "string"),
                "headers": {k: text(v, "string") for k, v in headers.items()},
                "query": {k: text(v, "string") for k, v in query.items()},
                "params": {k: text(v, "string") for k, v in values.items()},
                "body": text(body, "bytes"),
            },
            "http",
        )
        try:
            done = await self._bindings.run(function, datum, {}, {**query, **values})
            return _response(function, done.value)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException:
            return web.Response(status=500)

    # -- webhooks -----------------------------------------------------------------------------------
    async def _webhook(self, request: web.BaseRequest, path: str) -> web.Response:
        key = self._keys.blobs if path == _BLOBS else self._keys.eventgrid
        if not self._allowed(request, key):
            return web.Response(status=401)
        kind = "blobTrigger" if path == _BLOBS else "eventGridTrigger"
        name = request.query.get("functionName", "").removeprefix("Host.Functions.")
        function = self._index.find(name)
        if function is None or function.trigger.type != kind:
            return web.Response(status=404, text=f"cannot find function: '{name}'")
        what = request.headers.get("aeg-event-type", "").lower()
        if what == "unsubscribe":
            return web.Response(status=202)
        if what not in ("subscriptionvalidation", "notification"):
            return web.Response(status=400)
        try:
            document = json.loads(await request.read())
            events = document if isinstance(document, list) else [document]
            if what == "subscriptionvalidation":
                return web.json_response({"validationResponse": events[0]["data"]["validationCode"]})
            if path == _BLOBS:
                for item in events:
                    if not all(item["data"].get(field) for field in ("url", "eTag", "blobType")):
                        return web.Response(status=400, text="A blob event needs data.url, eTag and blobType.")
        except (ValueError, LookupError, TypeError, AttributeError):
            return web.Response(status=400)
        sink = self.blob_event if path == _BLOBS else self.grid_event
        for item in events:
            await sink(function, item)
        return web.Response(status=202)

    # -- admin --------------------------------------------------------------------------------------
    async def _admin(self, request: web.BaseRequest, path: str) -> web.Response:
        parts = path.strip("/").split("/")[1:]
        match request.method, parts:
            case "GET", ["host", "status"]:
                return web.json_response({
                    "id": "devhost", "state": self.state, "version": "4.0.0", "versionDetails": "devhost",
                    "platformVersion": "", "instanceId": str(os.getpid()),
                    "computerName": os.uname().nodename, "processUptime": int((time.monotonic() - self._began) * 1000),
                })  # fmt: skip
            case "GET" | "POST", ["host", "ping"]:
                return web.Response(status=200)
            case "GET", ["functions"]:
                return self._guarded(request, lambda: [self._describe(f, request) for f in self._index.functions])
            case "GET", ["functions", name]:
                function = self._index.find(name)
                if function is None:
                    return web.Response(status=404)
                return self._guarded(request, lambda: self._describe(function, request))
            case "POST", ["functions", name]:
                return await self._admin_call(request, name)
        return web.Response(status=404)

    def _guarded(self, request: web.BaseRequest, body: Callable[[], Any]) -> web.Response:
        return web.json_response(body()) if self._allowed(request) else web.Response(status=401)

    def _describe(self, function: Function, request: web.BaseRequest) -> dict[str, Any]:
        origin = f"{request.scheme}://{request.host}"
        route = function.trigger.settings.get("route")
        url = f"{origin}{self._prefix}/{str(route).strip('/')}" if function.trigger.type == "httpTrigger" else None
        return {
            "name": function.name,
            "script_href": None,
            "href": f"{origin}/admin/functions/{function.name}",
            "invoke_url_template": url,
            "language": "python",
            "isDisabled": False,
            "isDirect": function.trigger.type == "httpTrigger",
            "config": {"scriptFile": function.script_file, "bindings": function.raw_bindings},
        }

    async def _admin_call(self, request: web.BaseRequest, name: str) -> web.Response:
        if not self._allowed(request):
            return web.Response(status=401)
        function = self._index.find(name)
        if function is None:
            return web.Response(status=404)
        if function.trigger.type in ("httpTrigger", "orchestrationTrigger", "entityTrigger"):
            return web.json_response({"Message": f"{name} is started by its own routes, not here."}, status=400)
        try:
            body = json.loads(await request.read() or b"{}")
            given = body.get("input")
        except (ValueError, AttributeError):
            return web.json_response({"Message": 'The body must be JSON like {"input": "..."}.'}, status=400)
        await self.admin_run(function, given)
        return web.Response(status=202)


def http_routes(index: FunctionIndex) -> list[_Route]:
    """Routes of the app, most specific first."""
    routes = []
    for function in index.with_trigger("httpTrigger"):
        settings = function.trigger.settings
        methods = frozenset(str(m).upper() for m in settings["methods"]) if settings.get("methods") else None
        routes.append(_Route(RouteTemplate(str(settings.get("route") or function.name)), methods, function))
    return sorted(routes, key=lambda r: (r.template.precedence, r.template.template))


def _response(function: Function, value: Any) -> web.Response:
    binding = function.return_binding
    if binding is None or binding.type != "http":
        return web.Response(status=204)
    converter = converter_of("http")
    try:
        datum = converter.encode(value, expected_type=None)
    except NotImplementedError as problem:
        remedy = "return func.HttpResponse or str"
        log.error("unsupported response", function=function.name, type=type(value).__name__, remedy=remedy)
        raise TypeError(f"unable to encode a response of the Python type {type(value).__name__!r}") from problem
    if datum.type == "string":
        return web.Response(text=datum.value)
    head = {name: item.value for name, item in datum.value["headers"].items()}
    head.pop("content-length", None)
    response = web.Response(status=int(datum.value["status_code"].value), body=datum.value["body"].value, headers=head)
    for jar in datum.value["cookies"] or ():
        for morsel in jar.values():
            response.headers.add("Set-Cookie", morsel.OutputString())
    return response
