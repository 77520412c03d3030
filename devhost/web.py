"""The public listener: HTTP triggers, management routes, webhooks, admin routes."""

from __future__ import annotations

import hmac
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web
from azure.functions.http import HttpRequest

from devhost.bindings import Bindings
from devhost.durable.client_binding import PATH as DURABLE_PATH
from devhost.durable.routes import DurableRoutes
from devhost.function_index import Function, converter_of
from devhost.logs import EventLog
from devhost.route_table import RouteTable
from devhost.state import Keys
from devhost.triggers.listeners import Listeners

log = EventLog("devhost.http")
MAX_BODY = 100 * 1024 * 1024  # bytes, as on Azure
Values = Mapping[str, str]  # of a route's {names}
EventSink = Callable[[Function, dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class _Guarded:
    """A handler and the keys that open it beside the master key; None: it is open."""

    handler: Callable[[web.BaseRequest, Values], Awaitable[web.StreamResponse]]
    keys: tuple[str, ...] | None


class WebFront:
    """Answers every request of both listeners."""

    def __init__(self, bindings: Bindings, durable: DurableRoutes, listeners: Listeners, keys: Keys, *,
                 enforce_keys: bool) -> None:  # fmt: skip
        self._index = index = bindings.index
        self._bindings = bindings
        self._durable = durable
        self._listeners = listeners
        self._master_key = keys.master
        self._enforce = enforce_keys
        self._prefix = f"/{bindings.config.route_prefix}" if bindings.config.route_prefix else ""
        self._began = time.monotonic()
        self.state = "Starting"
        blobs = partial(self._webhook, "blobTrigger", listeners.blobs.accept)
        grid = partial(self._webhook, "eventGridTrigger", listeners.grid_event)
        self._router = RouteTable[_Guarded]([
            ((), "", _Guarded(self._home, None)),
            ((), f"{DURABLE_PATH}/{{*rest}}", _Guarded(self._manage, (keys.durable,))),
            ((), "runtime/webhooks/blobs", _Guarded(blobs, (keys.blobs,))),
            ((), "runtime/webhooks/eventgrid", _Guarded(grid, (keys.eventgrid,))),
            (["GET"], "admin/host/status", _Guarded(self._status, None)),
            (["GET", "POST"], "admin/host/ping", _Guarded(self._home, None)),
            (["GET"], "admin/functions/{name?}", _Guarded(self._describe, ())),
            (["POST"], "admin/functions/{name}", _Guarded(self._admin_call, ())),
            *((f.methods, f"{self._prefix}/{f.route}", _Guarded(partial(self._invoke, f), _keys_of(f, keys)))
              for f in index.with_trigger("httpTrigger")),
        ])  # fmt: skip

    async def public(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request of the outside."""
        found = self._router.find(request.method, request.rel_url.raw_path)
        if found is None:
            return web.Response(status=404)
        guarded, values = found
        if self._enforce and guarded.keys is not None:
            given = request.headers.get("x-functions-key") or request.query.get("code") or ""
            fitting = (self._master_key, *guarded.keys)
            if not any(hmac.compare_digest(given.encode(), key.encode()) for key in fitting):
                return web.Response(status=401)
        return await guarded.handler(request, values)

    async def rpc(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer the SDK's client, which comes over loopback without a key."""
        path = request.rel_url.raw_path
        if not path.startswith("/durabletask/"):
            return web.Response(status=404)
        return await self._durable.handle(request, path.removeprefix("/durabletask"), self._bindings.client.origin)

    async def _manage(self, request: web.BaseRequest, _values: Values) -> web.StreamResponse:
        return await self._durable.handle(request, request.rel_url.raw_path[len(DURABLE_PATH) :], _origin(request))

    async def _home(self, _request: web.BaseRequest, _values: Values) -> web.StreamResponse:
        return web.Response(text="Your functions host is running.")

    # -- HTTP triggers ------------------------------------------------------------------------------
    async def _invoke(self, function: Function, request: web.BaseRequest, values: Values) -> web.StreamResponse:
        query = {k: ",".join(v) for k, v in parse_qs(request.rel_url.raw_query_string, keep_blank_values=True).items()}
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return web.Response(status=413)
        given = HttpRequest(
            request.method, f"{_origin(request)}{request.raw_path}", params=query, route_params=values,
            headers={n.lower(): ",".join(request.headers.getall(n)) for n in request.headers},
            body_type="bytes", body=body,
        )  # fmt: skip
        try:
            done = await self._bindings.run(function, given, {}, {**query, **values})
            return _response(function, done.get("$return"))
        except Exception:  # it is in the log
            return web.Response(status=500)

    # -- webhooks -----------------------------------------------------------------------------------
    async def _webhook(self, kind: str, sink: EventSink, request: web.BaseRequest, _values: Values) -> web.Response:
        name = request.query.get("functionName", "").removeprefix("Host.Functions.")
        function = self._index.find(name)
        if function is None or function not in self._index.with_trigger(kind):
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
            needed = ("url", "eTag", "blobType") if kind == "blobTrigger" else ()
            if not all(item["data"].get(field) for item in events for field in needed):
                return web.Response(status=400, text="A blob event needs data.url, eTag and blobType.")
        except (ValueError, LookupError, TypeError, AttributeError):
            return web.Response(status=400)
        for item in events:
            await sink(function, item)
        return web.Response(status=202)

    # -- admin --------------------------------------------------------------------------------------
    async def _status(self, _request: web.BaseRequest, _values: Values) -> web.Response:
        return web.json_response({
            "id": "devhost", "state": self.state, "version": "4.0.0", "versionDetails": "devhost",
            "platformVersion": "", "instanceId": str(os.getpid()), "computerName": os.uname().nodename,
            "processUptime": int((time.monotonic() - self._began) * 1000),
        })  # fmt: skip

    async def _describe(self, request: web.BaseRequest, values: Values) -> web.Response:
        if "name" not in values:
            return web.json_response([self._description(f, _origin(request)) for f in self._index.functions])
        function = self._index.find(values["name"])
        if function is None:
            return web.Response(status=404)
        return web.json_response(self._description(function, _origin(request)))

    def _description(self, function: Function, origin: str) -> dict[str, Any]:
        is_http = function.trigger.type == "httpTrigger"
        return {
            "name": function.name, "script_href": None, "href": f"{origin}/admin/functions/{function.name}",
            "invoke_url_template": f"{origin}{self._prefix}/{function.route}" if is_http else None,
            "language": "python", "isDisabled": function.is_disabled, "isDirect": is_http,
            "config": {"scriptFile": function.script_file, "bindings": function.raw_bindings},
        }  # fmt: skip

    async def _admin_call(self, request: web.BaseRequest, values: Values) -> web.Response:
        function = self._index.find(values["name"])
        if function is None:
            return web.Response(status=404)
        if function.trigger.type in ("httpTrigger", "orchestrationTrigger", "entityTrigger"):
            message = f"{function.name} is started by its own routes, not here."
            return web.json_response({"Message": message}, status=400)
        try:
            given = json.loads(await request.read() or b"{}").get("input")
        except (ValueError, AttributeError):
            return web.json_response({"Message": 'The body must be JSON like {"input": "..."}.'}, status=400)
        self._listeners.run_by_hand(function, given)
        return web.Response(status=202)


def _keys_of(function: Function, keys: Keys) -> tuple[str, ...] | None:
    level = str(function.trigger.settings.get("authLevel") or "FUNCTION").upper()
    return {"ANONYMOUS": None, "FUNCTION": (keys.function,)}.get(level, ())


def _origin(request: web.BaseRequest) -> str:
    return f"{request.scheme}://{request.host}"


def _response(function: Function, value: Any) -> web.Response:
    binding = function.return_binding
    if binding is None or binding.type != "http":
        return web.Response(status=204)
    try:
        datum = converter_of("http").encode(value, expected_type=None)
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
