"""The HTTP management routes of the task hub: /runtime/webhooks/durabletask, and /durabletask for the SDK's client."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from devhost.durable import episode as ep
from devhost.durable import status
from devhost.durable.client_binding import ClientBinding
from devhost.durable.entities import entity_id
from devhost.durable.history import Kind, compact, event, from_text, parse_time, wire_time
from devhost.durable.hub import TaskHub
from devhost.durable.store import Store
from devhost.errors import UnknownFunction
from devhost.route_table import RouteTable

PAGE = 100  # instances or entities in an answer unless `top` says otherwise, as in the extension
_LONGEST_ID = 256
_BAD_ARGUMENT = "One or more of the arguments submitted is incorrect"
_BROKEN = "Something went wrong while processing your request"
_TOKEN = "x-ms-continuation-token"  # noqa: S105 (a header's name)
_CONTROLS = {
    "terminate": Kind.EXECUTION_TERMINATED, "suspend": Kind.EXECUTION_SUSPENDED, "resume": Kind.EXECUTION_RESUMED,
}  # fmt: skip
_Handler = Callable[..., Awaitable[web.Response]]


class ArgumentError(ValueError):
    """A caller's mistake: 400."""


class DurableRoutes:
    """Answers management requests once what they changed is on disk; a handler gets the request and the path's values.

    `request["origin"]` is the address under which links in the answer reach this host.
    """

    def __init__(self, store: Store, hub: TaskHub, client: ClientBinding) -> None:
        self._store = store
        self._hub = hub
        self._client = client
        self._router = RouteTable[_Handler]([
            (["POST"], "orchestrators/{name}/{instance_id?}", self._start),
            (["GET"], "instances", self._list),
            (["DELETE"], "instances", self._purge_many),
            (["GET"], "instances/{instance_id}", self._status),
            (["DELETE"], "instances/{instance_id}", self._purge),
            (["POST"], "instances/{instance_id}/raiseEvent/{name}", self._raise),
            (["POST"], "instances/{instance_id}/restart", self._restart),
            (["POST"], "instances/{instance_id}/rewind", self._rewind),
            (["POST"], "instances/{instance_id}/{operation}", self._control),
            (["GET"], "entities/{name?}", self._list_entities),
            (["GET"], "entities/{name}/{key}", self._entity),
            (["POST", "DELETE"], "entities/{name}/{key?}", self._signal),
            (["POST"], "makeprimary", self._make_primary),
        ])  # fmt: skip

    async def handle(self, request: web.BaseRequest, path: str, origin: str) -> web.Response:
        """Answer one request to the path below the base; never raises for what a caller did."""
        found = self._router.find(request.method, path)
        if found is None:
            return web.Response(status=404)
        request["origin"] = origin
        handler, values = found
        try:
            answer = await handler(request, **values)
            await self._store.committed()
            return answer
        except (ArgumentError, UnknownFunction) as problem:
            return _problem(400, _BAD_ARGUMENT, problem, "System.ArgumentException")
        except ValueError as problem:
            return _problem(500, _BROKEN, problem, "System.InvalidOperationException")

    # -- instances ----------------------------------------------------------------------------------
    async def _start(self, request: web.BaseRequest, name: str, instance_id: str = "") -> web.Response:
        instance_id = instance_id or uuid.uuid4().hex
        _check_id(instance_id)
        timeout, interval = _number(request, "timeout"), _number(request, "pollingInterval")
        if timeout is not None and interval is not None and interval > timeout:
            raise ArgumentError(f"Total timeout {timeout} s should be bigger than retry timeout {interval} s")
        self._hub.start(name, instance_id, _json_text(await request.read()), request.query.get("version"))
        if timeout is not None and interval is not None:
            await self._hub.wait(instance_id, timeout)
            shown = self._payload(instance_id)
            if shown["runtimeStatus"] in ep.FINISHED:
                return _json(200, shown["output"] if shown["runtimeStatus"] == ep.COMPLETED else shown)
        return self._accepted(request, instance_id)

    def _accepted(self, request: web.BaseRequest, instance_id: str, body: Any = None) -> web.Response:
        """The links of an instance that has just begun, or the body of one that has not ended."""
        links = self._client.management_urls(instance_id, request["origin"])
        del links["rewindPostUri"]  # as the real host
        headers = {"Location": links["statusQueryGetUri"], "Retry-After": "5" if body else "10"}
        return _json(202, body or links, headers)

    def _known(self, instance_id: str, ended: tuple[str, ...] = ep.FINISHED) -> str:
        """Status of an instance; 404 if there is none, 410 if it has ended."""
        found = self._hub.status_of(instance_id)
        if found is None:
            message = compact({"Message": f"No instance with ID '{instance_id}' found."})
            raise web.HTTPNotFound(text=message, content_type="application/json")
        if found in ended:
            raise web.HTTPGone
        return found

    def _payload(self, instance_id: str, *, show_input: bool = True) -> dict[str, Any]:
        self._known(instance_id, ())
        row = self._store.row(f"SELECT {status.COLUMNS} FROM instances WHERE id=?", instance_id)  # noqa: S608
        assert row is not None
        return status.payload(row, show_input=show_input)

    async def _status(self, request: web.BaseRequest, instance_id: str) -> web.Response:
        show_input = _flag(request, "showInput", default=True)
        body = self._payload(instance_id, show_input=show_input)
        if _flag(request, "showHistory"):
            events = self._store.rows("SELECT event FROM history WHERE instance=? ORDER BY seq", instance_id)
            body["historyEvents"] = status.history_events(
                [from_text(text) for (text,) in events], show_output=_flag(request, "showHistoryOutput"),
                show_input=show_input,
            )  # fmt: skip
        if body["runtimeStatus"] not in ep.FINISHED:
            return self._accepted(request, instance_id, body)
        failed = body["runtimeStatus"] == ep.FAILED and _flag(request, "returnInternalServerErrorOnFailure")
        return _json(500 if failed else 200, body)

    async def _list(self, request: web.BaseRequest) -> web.Response:
        where, values = _instance_filter(request, ep.STATUSES)
        prefix = request.query.get("instanceIdPrefix", "")
        found, headers = self._page(request, f"{status.COLUMNS} FROM instances", prefix, where, values)
        show_input = _flag(request, "showInput", default=True)
        return _json(200, [status.payload(row, show_input=show_input) for row in found], headers)

    def _page(self, request: web.BaseRequest, columns_from: str, prefix: str, where: str,
              values: list[Any]) -> tuple[list[tuple[Any, ...]], dict[str, str]]:  # fmt: skip
        """Rows after the continuation token whose id, the first column, has a prefix; and the next token's header."""
        top = int(_number(request, "top") or PAGE)
        token = request.headers.get(_TOKEN, "null")
        try:
            after = "" if token in ("", "null") else base64.urlsafe_b64decode(token).decode()  # clients send the word
        except ValueError as problem:
            raise ArgumentError(f"The continuation token {token!r} is not one of this host.") from problem
        rows = self._store.rows(
            f"SELECT {columns_from} WHERE id > ? AND substr(id, 1, ?) = ? {where} ORDER BY id LIMIT ?",
            after, len(prefix), prefix, *values, top + 1,
        )  # fmt: skip
        more = {_TOKEN: base64.urlsafe_b64encode(rows[top - 1][0].encode()).decode()} if len(rows) > top else {}
        return rows[:top], more

    async def _purge(self, _request: web.BaseRequest, instance_id: str) -> web.Response:
        self._known(instance_id, ())
        self._hub.purge(instance_id)
        return _json(200, {"instancesDeleted": 1})

    async def _purge_many(self, request: web.BaseRequest) -> web.Response:
        if not request.query.get("createdTimeFrom"):
            return _json(400, {"Message": "Please provide value for 'createdTimeFrom' parameter."})
        where, values = _instance_filter(request, ep.FINISHED)
        found = self._store.rows(f"SELECT id FROM instances WHERE 1=1 {where}", *values)  # noqa: S608
        if not found:
            return _json(404, {"Message": "No instances were found that match the conditions."})
        for (instance_id,) in found:
            self._hub.purge(instance_id)
        return _json(200, {"instancesDeleted": len(found)})

    async def _raise(self, request: web.BaseRequest, instance_id: str, name: str) -> web.Response:
        if request.content_type != "application/json":
            return _json(400, {"Message": "Only application/json request content is supported"})
        self._known(instance_id)
        given = _json_text(await request.read())
        self._hub.deliver(instance_id, None, event(Kind.EVENT_RAISED, Name=name, Input=given))
        return web.Response(status=202)

    async def _control(self, request: web.BaseRequest, instance_id: str, operation: str) -> web.Response:
        kind = _CONTROLS.get(operation.lower())
        if kind is None:
            return web.Response(status=404)
        suspended = self._known(instance_id) == ep.SUSPENDED
        if kind is Kind.EXECUTION_SUSPENDED and suspended:
            raise ValueError(f"Cannot suspend orchestration instance {instance_id} in the Suspended state.")
        if kind is Kind.EXECUTION_RESUMED and not suspended:
            raise ValueError(f"Cannot resume orchestration instance {instance_id}: it is not suspended.")
        reason = request.query.get("reason")
        fields: Any = {"Input": reason} if kind is Kind.EXECUTION_TERMINATED else {"Reason": reason}
        self._hub.deliver(instance_id, None, event(kind, **fields))
        return web.Response(status=202)

    async def _rewind(self, request: web.BaseRequest, instance_id: str) -> web.Response:
        if self._known(instance_id, (ep.COMPLETED, ep.CANCELED, ep.TERMINATED)) != ep.FAILED:
            raise ValueError("The rewind operation is only supported on failed orchestration instances.")
        self._hub.rewind(instance_id, request.query.get("reason"))
        return web.Response(status=202)

    async def _restart(self, request: web.BaseRequest, instance_id: str) -> web.Response:
        row = self._store.row("SELECT name, input FROM instances WHERE id=?", instance_id)
        if row is None:
            raise ArgumentError(f"An orchestration with the instanceId {instance_id} was not found.")
        if _flag(request, "restartWithNewInstanceId", default=True):
            instance_id = uuid.uuid4().hex
        self._hub.start(row[0], instance_id, row[1])
        return self._accepted(request, instance_id)

    async def _make_primary(self, _request: web.BaseRequest) -> web.Response:
        return web.Response()

    # -- entities -----------------------------------------------------------------------------------
    async def _list_entities(self, request: web.BaseRequest, name: str = "") -> web.Response:
        where, values = _time_filter(request, "updated", "lastOperationTime")
        prefix = entity_id(name, "") if name else ""
        found, headers = self._page(request, "id, updated, state FROM entities", prefix, where, values)
        body = []
        for scheduler_id, updated, state in found:
            _, entity, key = scheduler_id.split("@", 2)
            shown = status.parsed(state) if _flag(request, "fetchState") else None
            body.append({"entityId": {"name": entity, "key": key}, "lastOperationTime": updated, "state": shown})
        return _json(200, body, headers)

    async def _entity(self, _request: web.BaseRequest, name: str, key: str) -> web.Response:
        state = self._hub.entities.state(entity_id(name, "" if key == "$" else key))
        if state is None:
            return web.Response(status=404)
        return web.Response(text=state, content_type="application/json")

    async def _signal(self, request: web.BaseRequest, name: str, key: str = "$") -> web.Response:
        self._hub.check(Kind.EVENT_SENT, name)
        operation = "delete" if request.method == "DELETE" else request.query.get("op", "")
        self._hub.entities.signal(name, "" if key == "$" else key, operation, _json_text(await request.read()))
        return web.Response(status=202)


def _time_filter(request: web.BaseRequest, column: str, parameter: str) -> tuple[str, list[Any]]:
    """SQL and values for the query parameters ...From and ...To."""
    where, values = "", list[Any]()
    for end, sign in (("From", ">="), ("To", "<=")):
        if text := request.query.get(parameter + end):
            try:
                values.append(wire_time(parse_time(text.replace(" ", "+"))))
            except ValueError as problem:
                raise ArgumentError(f"{text!r} is not a time: {problem}") from problem
            where += f" AND {column} {sign} ?"
    return where, values


def _instance_filter(request: web.BaseRequest, allowed: tuple[str, ...]) -> tuple[str, list[Any]]:
    """SQL and values for times and for those of the allowed statuses that are asked for."""
    where, values = _time_filter(request, "created", "createdTime")
    wanted = {name.strip().lower() for text in request.query.getall("runtimeStatus", []) for name in text.split(",")}
    names = [name for name in allowed if name.lower() in wanted] if wanted - {""} else list(allowed)
    return f"{where} AND status IN ({','.join('?' * len(names))})", [*values, *names]


def _number(request: web.BaseRequest, name: str) -> float | None:
    text = request.query.get(name)
    try:
        return float(text) if text else None
    except ValueError as problem:
        raise ArgumentError(f"{name} must be a number, not {text!r}") from problem


def _flag(request: web.BaseRequest, name: str, *, default: bool = False) -> bool:
    text = request.query.get(name)
    return default if text is None else text.lower() == "true"


def _check_id(instance_id: str) -> None:
    if instance_id.startswith("@"):
        raise ArgumentError("Orchestration instance IDs must not start with @.")
    if any(c in "/\\#?" or ord(c) < 32 or 127 <= ord(c) < 160 for c in instance_id):
        raise ArgumentError("Orchestration instance IDs must not contain /, \\, #, ?, or control characters.")
    if len(instance_id) > _LONGEST_ID:
        raise ArgumentError(f"Instance ID lengths must not exceed {_LONGEST_ID} characters.")


def _json_text(body: bytes) -> str | None:
    """Compact JSON of a request body, None for an empty one."""
    try:
        return compact(json.loads(body)) if body.strip() else None
    except ValueError as problem:
        raise ArgumentError(f"The request body is not valid JSON: {problem}") from problem


def _json(code: int, body: Any, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=code, text=compact(body), content_type="application/json", headers=headers)


def _problem(code: int, message: str, problem: Exception, kind: str) -> web.Response:
    return _json(code, {"Message": message, "ExceptionMessage": str(problem), "ExceptionType": kind, "StackTrace": ""})
