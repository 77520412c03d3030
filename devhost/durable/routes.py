"""The HTTP management routes of the task hub: /runtime/webhooks/durabletask, and /durabletask for the SDK's client."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from devhost.durable import episode as ep
from devhost.durable import status
from devhost.durable.client_binding import ClientBinding
from devhost.durable.entities import EntityHub, entity_id
from devhost.durable.history import Kind, compact, from_text, parse_time, wire_time
from devhost.durable.hub import TaskHub
from devhost.durable.program import UnknownFunction
from devhost.durable.store import Store

PAGE = 100  # instances or entities in an answer unless `top` says otherwise, as in the extension
_LONGEST_ID = 256
_BAD_ARGUMENT = "One or more of the arguments submitted is incorrect"
_BROKEN = "Something went wrong while processing your request"
_TOKEN = "x-ms-continuation-token"  # noqa: S105 (a header's name)
_TERMINAL = sorted(ep.FINISHED)


class ArgumentError(ValueError):
    """A caller's mistake: 400."""


class DurableRoutes:
    """Answers management requests; `parts` is the path below the base, split and unquoted."""

    def __init__(self, store: Store, hub: TaskHub, entities: EntityHub, client: ClientBinding) -> None:
        self._store = store
        self._hub = hub
        self._entities = entities
        self._client = client

    async def handle(self, request: web.BaseRequest, path: str, origin: str) -> web.Response:
        """Answer one request; never raises for what a caller did."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        try:
            return await self._route(request, parts, origin)
        except (ArgumentError, UnknownFunction) as problem:
            return _problem(400, _BAD_ARGUMENT, problem, "System.ArgumentException")
        except ValueError as problem:
            return _problem(500, _BROKEN, problem, "System.InvalidOperationException")

    async def _route(  # noqa: C901, PLR0911 (one line a route: a table reads no better)
        self, request: web.BaseRequest, parts: list[str], origin: str
    ) -> web.Response:
        match request.method, parts:
            case "POST", ["orchestrators", name]:
                return await self._start(request, name, uuid.uuid4().hex, origin)
            case "POST", ["orchestrators", name, instance_id]:
                return await self._start(request, name, instance_id, origin)
            case "GET", ["instances"]:
                return self._list(request)
            case "DELETE", ["instances"]:
                return await self._purge_many(request)
            case "GET", ["instances", instance_id]:
                return self._status(request, instance_id, origin)
            case "DELETE", ["instances", instance_id]:
                return await self._purge(instance_id)
            case "POST", ["instances", instance_id, "raiseEvent" | "raiseevent", name]:
                return await self._raise(request, instance_id, name)
            case "POST", ["instances", instance_id, operation]:
                return await self._operate(request, instance_id, operation.lower(), origin)
            case "GET", ["entities"]:
                return self._list_entities(request, None)
            case "GET", ["entities", name]:
                return self._list_entities(request, name)
            case "GET", ["entities", name, key]:
                return self._entity(name, key)
            case "POST" | "DELETE", ["entities", name, key]:
                return await self._signal(request, name, key)
            case "POST", ["entities", name] if name:
                return await self._signal(request, name, "")
            case "POST", ["makeprimary"]:
                return web.Response(status=200)
        return web.Response(status=404)

    # -- instances ----------------------------------------------------------------------------------
    async def _start(self, request: web.BaseRequest, name: str, instance_id: str, origin: str) -> web.Response:
        instance_id = instance_id or uuid.uuid4().hex
        _check_id(instance_id)
        timeout, interval = _number(request, "timeout"), _number(request, "pollingInterval")
        if timeout is not None and interval is not None and interval > timeout:
            raise ArgumentError(f"Total timeout {timeout} s should be bigger than retry timeout {interval} s")
        text = _json_text(await request.read())
        self._hub.start(name, instance_id, text, request.query.get("version"))
        if timeout is None or interval is None:
            await self._store.committed()
            return self._accepted(instance_id, origin)
        ended = self._hub.watch(instance_id)
        await self._store.committed()
        await asyncio.wait([ended], timeout=timeout)
        row = self._row(instance_id)
        if row is None or row[2] not in ep.FINISHED:
            return self._accepted(instance_id, origin)
        if row[2] == ep.COMPLETED:
            return _json(200, status.parsed(row[5]))
        return _json(200, status.payload(row, show_input=True))

    def _accepted(self, instance_id: str, origin: str) -> web.Response:
        body = self._client.check_status(instance_id, origin)
        return _json(202, body, {"Location": body["statusQueryGetUri"], "Retry-After": "10"})

    def _row(self, instance_id: str) -> tuple[Any, ...] | None:
        return self._store.row(f"SELECT {status.COLUMNS} FROM instances WHERE id=?", instance_id)  # noqa: S608

    def _status(self, request: web.BaseRequest, instance_id: str, origin: str) -> web.Response:
        row = self._row(instance_id)
        if row is None:
            return _json(404, {"Message": f"No instance with ID '{instance_id}' found."})
        show_input = _flag(request, "showInput", default=True)
        body = status.payload(row, show_input=show_input)
        if _flag(request, "showHistory"):
            events = self._store.rows("SELECT event FROM history WHERE instance=? ORDER BY seq", instance_id)
            body["historyEvents"] = status.history_events(
                [from_text(text) for (text,) in events],
                show_output=_flag(request, "showHistoryOutput"),
                show_input=show_input,
            )
        if row[2] not in ep.FINISHED:
            urls = self._client.check_status(instance_id, origin)
            return _json(202, body, {"Location": urls["statusQueryGetUri"], "Retry-After": "5"})
        failed = row[2] == ep.FAILED and _flag(request, "returnInternalServerErrorOnFailure")
        return _json(500 if failed else 200, body)

    def _list(self, request: web.BaseRequest) -> web.Response:
        where, values = _conditions(request)
        prefix = request.query.get("instanceIdPrefix")
        if prefix:
            where += " AND substr(id, 1, ?) = ?"
            values += [len(prefix), prefix]
        top = int(_number(request, "top") or PAGE)
        after = _after(request)
        rows = self._store.rows(
            f"SELECT {status.COLUMNS} FROM instances WHERE id > ? {where} ORDER BY id LIMIT ?",  # noqa: S608
            after, *values, top + 1,
        )  # fmt: skip
        show_input = _flag(request, "showInput", default=True)
        body = [status.payload(row, show_input=show_input) for row in rows[:top]]
        return _json(200, body, _next_page(rows, top))

    async def _purge(self, instance_id: str) -> web.Response:
        if self._row(instance_id) is None:
            return _json(404, {"Message": f"No instance with ID '{instance_id}' found."})
        self._hub.purge(instance_id)
        await self._store.committed()
        return _json(200, {"instancesDeleted": 1})

    async def _purge_many(self, request: web.BaseRequest) -> web.Response:
        if not request.query.get("createdTimeFrom"):
            return _json(400, {"Message": "Please provide value for 'createdTimeFrom' parameter."})
        where, values = _conditions(request, terminal_only=True)
        found = self._store.rows(f"SELECT id FROM instances WHERE 1=1 {where}", *values)  # noqa: S608
        if not found:
            return _json(404, {"Message": "No instances were found that match the conditions."})
        for (instance_id,) in found:
            self._hub.purge(instance_id)
        await self._store.committed()
        return _json(200, {"instancesDeleted": len(found)})

    async def _raise(self, request: web.BaseRequest, instance_id: str, name: str) -> web.Response:
        if request.content_type != "application/json":
            return _json(400, {"Message": "Only application/json request content is supported"})
        refusal = self._refusal(instance_id)
        if refusal is not None:
            return refusal
        body = await request.read()
        try:
            text = _json_text(body)
        except ArgumentError as problem:
            return _json(400, {"Message": str(problem)})
        self._hub.raise_event(instance_id, name, text)
        await self._store.committed()
        return web.Response(status=202)

    def _refusal(self, instance_id: str, gone: frozenset[str] = ep.FINISHED) -> web.Response | None:
        now_is = self._hub.status_of(instance_id)
        if now_is is None:
            return _json(404, {"Message": f"No instance with ID '{instance_id}' found."})
        if now_is in gone:
            return web.Response(status=410)
        return None

    async def _operate(self, request: web.BaseRequest, instance_id: str, operation: str, origin: str) -> web.Response:
        reason = request.query.get("reason")
        if operation == "restart":
            return await self._restart(request, instance_id, origin)
        if operation == "rewind":
            return await self._rewind(instance_id, reason)
        kinds = {"terminate": Kind.EXECUTION_TERMINATED, "suspend": Kind.SUSPENDED, "resume": Kind.RESUMED}
        if operation not in kinds:
            return web.Response(status=404)
        refusal = self._refusal(instance_id)
        if refusal is not None:
            return refusal
        suspended = self._hub.status_of(instance_id) == ep.SUSPENDED
        if operation == "suspend" and suspended:
            raise ValueError(f"Cannot suspend orchestration instance {instance_id} in the Suspended state.")
        if operation == "resume" and not suspended:
            raise ValueError(f"Cannot resume orchestration instance {instance_id}: it is not suspended.")
        self._hub.control(instance_id, kinds[operation], reason)
        await self._store.committed()
        return web.Response(status=202)

    async def _rewind(self, instance_id: str, reason: str | None) -> web.Response:
        refusal = self._refusal(instance_id, ep.FINISHED - {ep.FAILED})
        if refusal is not None:
            return refusal
        if self._hub.status_of(instance_id) != ep.FAILED:
            raise ValueError("The rewind operation is only supported on failed orchestration instances.")
        self._hub.rewind(instance_id, reason)
        await self._store.committed()
        return web.Response(status=202)

    async def _restart(self, request: web.BaseRequest, instance_id: str, origin: str) -> web.Response:
        row = self._row(instance_id)
        if row is None:
            raise ArgumentError(f"An orchestration with the instanceId {instance_id} was not found.")
        fresh = _flag(request, "restartWithNewInstanceId", default=True)
        new_id = uuid.uuid4().hex if fresh else instance_id
        self._hub.start(row[1], new_id, row[3])
        await self._store.committed()
        return self._accepted(new_id, origin)

    # -- entities -----------------------------------------------------------------------------------
    def _list_entities(self, request: web.BaseRequest, name: str | None) -> web.Response:
        where, values = "", list[Any]()
        for key, sign in (("lastOperationTimeFrom", ">="), ("lastOperationTimeTo", "<=")):
            if request.query.get(key):
                where += f" AND updated {sign} ?"
                values.append(_time(request.query[key]))
        if name:
            prefix = entity_id(name, "")
            where += " AND substr(id, 1, ?) = ?"
            values += [len(prefix), prefix]
        top = int(_number(request, "top") or PAGE)
        rows = self._store.rows(
            f"SELECT id, updated, state FROM entities WHERE id > ? {where} ORDER BY id LIMIT ?",  # noqa: S608
            _after(request), *values, top + 1,
        )  # fmt: skip
        fetch = _flag(request, "fetchState")
        body = []
        for scheduler_id, updated, state in rows[:top]:
            _, entity, key = scheduler_id.split("@", 2)
            shown = status.parsed(state) if fetch else None
            body.append({"entityId": {"name": entity, "key": key}, "lastOperationTime": updated, "state": shown})
        return _json(200, body, _next_page(rows, top))

    def _entity(self, name: str, key: str) -> web.Response:
        state = self._entities.state(entity_id(name, "" if key == "$" else key))
        if state is None:
            return web.Response(status=404)
        return web.Response(text=state, content_type="application/json")

    async def _signal(self, request: web.BaseRequest, name: str, key: str) -> web.Response:
        self._hub.check(Kind.EVENT_SENT, name)
        operation = "delete" if request.method == "DELETE" else request.query.get("op", "")
        text = _json_text(await request.read())
        self._entities.signal(name, "" if key == "$" else key, operation, text)
        await self._store.committed()
        return web.Response(status=202)


def _conditions(request: web.BaseRequest, *, terminal_only: bool = False) -> tuple[str, list[Any]]:
    """SQL for the filters that listing and purging share."""
    where, values = "", []
    for key, sign in (("createdTimeFrom", ">="), ("createdTimeTo", "<=")):
        if request.query.get(key):
            where += f" AND created {sign} ?"
            values.append(_time(request.query[key]))
    given = ",".join(request.query.getall("runtimeStatus", []))
    wanted = [name.strip().lower() for name in given.split(",") if name.strip()]
    allowed = _TERMINAL if terminal_only else list(ep.STATUS_NUMBERS)
    names = [name for name in allowed if not wanted or name.lower() in wanted]
    if wanted or terminal_only:
        where += f" AND status IN ({','.join('?' * len(names))})"
        values += names
    return where, values


def _time(text: str) -> str:
    try:
        return wire_time(parse_time(text.replace(" ", "+")))
    except ValueError as problem:
        raise ArgumentError(f"{text!r} is not a time: {problem}") from problem


def _number(request: web.BaseRequest, name: str) -> float | None:
    text = request.query.get(name)
    if not text:
        return None
    try:
        return float(text)
    except ValueError as problem:
        raise ArgumentError(f"{name} must be a number, not {text!r}") from problem


def _flag(request: web.BaseRequest, name: str, *, default: bool = False) -> bool:
    text = request.query.get(name)
    return default if text is None else text.lower() == "true"


def _after(request: web.BaseRequest) -> str:
    token = request.headers.get(_TOKEN)
    if not token or token == "null":  # noqa: S105 (clients send the word)
        return ""
    try:
        return base64.urlsafe_b64decode(token).decode()
    except ValueError as problem:
        raise ArgumentError(f"The continuation token {token!r} is not one of this host.") from problem


def _next_page(rows: list[tuple[Any, ...]], top: int) -> dict[str, str]:
    return {_TOKEN: base64.urlsafe_b64encode(rows[top - 1][0].encode()).decode()} if len(rows) > top else {}


def _check_id(instance_id: str) -> None:
    if instance_id.startswith("@"):
        raise ArgumentError("Orchestration instance IDs must not start with @.")
    if any(c in "/\\#?" or ord(c) < 32 or 127 <= ord(c) < 160 for c in instance_id):
        raise ArgumentError("Orchestration instance IDs must not contain /, \\, #, ?, or control characters.")
    if len(instance_id) > _LONGEST_ID:
        raise ArgumentError(f"Instance ID lengths must not exceed {_LONGEST_ID} characters.")


def _json_text(body: bytes) -> str | None:
    """Compact JSON of a request body, None for an empty one."""
    if not body.strip():
        return None
    try:
        return compact(json.loads(body))
    except ValueError as problem:
        raise ArgumentError(f"The request body is not valid JSON: {problem}") from problem


def _json(code: int, body: Any, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=code, text=compact(body), content_type="application/json", headers=headers)


def _problem(code: int, message: str, problem: Exception, kind: str) -> web.Response:
    return _json(code, {"Message": message, "ExceptionMessage": str(problem), "ExceptionType": kind, "StackTrace": ""})
