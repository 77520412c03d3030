"""Gives functions their inputs and sends their outputs: durable client, blobs, queues."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from azure.functions.meta import Datum

from devhost.app_settings import resolve
from devhost.durable.client_binding import ClientBinding
from devhost.function_index import Binding, Function, converter_of
from devhost.invocation import Completed, Invoker, decode
from devhost.logs import EventLog
from devhost.storage_rest import Storage

log = EventLog("devhost.functions")
_EXPRESSION = re.compile(r"\{([^{}]+)\}")


class Bindings:
    """Runs a function with all its bindings."""

    def __init__(self, invoker: Invoker, client: ClientBinding, storage: Storage, environ: Mapping[str, str]) -> None:
        self._invoker = invoker
        self.client = client
        self._storage = storage
        self._environ = environ

    async def run(self, function: Function, trigger: Any, metadata: dict[str, Any],
                  values: Mapping[str, Any]) -> Completed:  # fmt: skip
        """Call a function: `trigger` is the trigger's Datum, `values` fill binding expressions like {name}.

        Raises what the function raises.
        """
        try:
            arguments = {function.trigger.name: decode(function, function.trigger, trigger, metadata)}
            for binding in function.inputs:
                arguments[binding.name] = await self._input(function, binding, values)
        except Exception as problem:
            log.error("input failed", function=function.name, error=_said(problem))
            raise
        done = await self._invoker.call(function, arguments)
        try:
            for binding in function.outputs:
                if binding.name in done.outputs:
                    await self._output(binding, done.outputs[binding.name], values)
            returned = function.return_binding
            if returned is not None and returned.type in ("queue", "blob") and done.value is not None:
                await self._output(returned, done.value, values)
        except Exception as problem:
            log.error("output failed", function=function.name, error=_said(problem))
            raise
        return done

    async def _input(self, function: Function, binding: Binding, values: Mapping[str, Any]) -> Any:
        if binding.type == "durableClient":
            return self.client.text()
        container, name = self._place(binding, values)
        account = self._storage.account(str(binding.settings.get("connection") or "AzureWebJobsStorage"))
        found = await account.read_blob(container, name)
        return None if found is None else decode(function, binding, Datum(found.content, "bytes"), {})

    async def _output(self, binding: Binding, value: Any, values: Mapping[str, Any]) -> None:
        converter = converter_of(binding.type)
        if binding.type == "http":
            return
        account = self._storage.account(str(binding.settings.get("connection") or "AzureWebJobsStorage"))
        datum = converter.encode(value, expected_type=None)
        if binding.type == "blob":
            container, name = self._place(binding, values)
            body = datum.value if isinstance(datum.value, bytes) else str(datum.value).encode()
            await account.write_blob(container, name, body)
            return
        queue = self._fill(str(binding.settings["queueName"]), values)
        for text in _messages(datum):
            await account.put_message(queue, text)

    def _place(self, binding: Binding, values: Mapping[str, Any]) -> tuple[str, str]:
        container, _, name = self._fill(str(binding.settings["path"]), values).partition("/")
        return container, name

    def _fill(self, text: str, values: Mapping[str, Any]) -> str:
        """Fill {name}, {rand-guid}, {datetime} and %SETTING% in a binding expression."""

        def value(match: re.Match[str]) -> str:
            key = match[1]
            if key.lower() == "rand-guid":
                return str(uuid.uuid4())
            if key.lower().startswith("datetime"):
                return datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
            found = next((v for k, v in values.items() if k.lower() == key.lower()), None)
            if found is None:
                raise ValueError(f"the binding expression {{{key}}} has no value; known: {sorted(values)}")
            return str(found)

        return _EXPRESSION.sub(value, resolve(text, self._environ, "a binding"))


def _messages(datum: Any) -> list[bytes]:
    """Bodies of the queue messages in a converted value."""
    if datum.type == "json":
        document = json.loads(datum.value)
        items = document if isinstance(document, list) else [document]
        return [str(item["body"] if isinstance(item, dict) else item).encode() for item in items]
    return [datum.value if isinstance(datum.value, bytes) else str(datum.value).encode()]


def _said(problem: Exception) -> str:
    return f"{type(problem).__name__}: {problem}"
