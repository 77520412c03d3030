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
from devhost.invocation import Completed, Invoker
from devhost.logs import EventLog
from devhost.storage import Storage

log = EventLog("devhost.functions")
_EXPRESSION = re.compile(r"\{([^{}]+)\}")


class Bindings:
    """Runs a function with all its bindings."""

    def __init__(self, invoker: Invoker, client: ClientBinding, storage: Storage, environ: Mapping[str, str]) -> None:
        self._invoker = invoker
        self.client = client
        self._storage = storage
        self._environ = environ

    async def run(self, function: Function, trigger: Datum, metadata: dict[str, Any],
                  values: Mapping[str, Any]) -> Completed:  # fmt: skip
        """Call a function: `trigger` is the trigger's value, `values` fill binding expressions like {name}.

        Raises what the function raises.
        """
        step = "input failed"
        try:
            arguments = {function.trigger.name: _decode(function, function.trigger, trigger, metadata)}
            for binding in function.inputs:
                arguments[binding.name] = await self._input(function, binding, values)
            step = ""
            done = await self._invoker.call(function, arguments)
            step = "output failed"
            for binding in function.outputs:
                if binding.name in done.outputs:
                    await self._output(binding, done.outputs[binding.name], values)
            returned = function.return_binding
            if returned is not None and returned.type != "http" and done.value is not None:
                await self._output(returned, done.value, values)
            return done
        except Exception as problem:
            if step:  # what the function itself raised is in the log
                log.error(step, function=function.name, error=f"{type(problem).__name__}: {problem}")
            raise

    async def _input(self, function: Function, binding: Binding, values: Mapping[str, Any]) -> Any:
        if binding.type == "durableClient":
            return self.client.text()
        container, _, name = self._fill(str(binding.settings["path"]), values).partition("/")
        found = await self._storage.account(binding).read_blob(container, name)
        return None if found is None else _decode(function, binding, Datum(found[0], "bytes"), {})

    async def _output(self, binding: Binding, value: Any, values: Mapping[str, Any]) -> None:
        account = self._storage.account(binding)
        datum = converter_of(binding.type).encode(value, expected_type=None)
        if binding.type == "blob":
            container, _, name = self._fill(str(binding.settings["path"]), values).partition("/")
            await account.write_blob(container, name, _bytes(datum.value))
            return
        queue = self._fill(str(binding.settings["queueName"]), values)
        found = json.loads(datum.value) if datum.type == "json" else datum.value
        for item in found if isinstance(found, list) else [found]:
            body = item["body"] if isinstance(item, dict) else item
            await account.put_message(queue, account.encoded(_bytes(body)))

    def _fill(self, text: str, values: Mapping[str, Any]) -> str:
        """Fill {name}, {rand-guid}, {datetime} and %SETTING% in a binding expression."""
        known = {
            "rand-guid": str(uuid.uuid4()), "datetime": datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ"),
            **{name.lower(): value for name, value in values.items()},
        }  # fmt: skip

        def value(match: re.Match[str]) -> str:
            found = known.get(match[1].lower().partition(":")[0])
            if found is None:
                raise ValueError(f"the binding expression {match[0]} has no value; known: {sorted(values)}")
            return str(found)

        return _EXPRESSION.sub(value, resolve(text, self._environ, "a binding"))


def _bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _decode(function: Function, binding: Binding, datum: Datum, metadata: dict[str, Any]) -> Any:
    """Turn a host's value into what the function's parameter is annotated as."""
    wanted = function.annotations.get(binding.name)
    converter = converter_of(binding.type)
    implicit = converter is not None and getattr(converter, "has_implicit_output", lambda: False)()
    if converter is not None and (implicit or wanted not in (str, bytes)):
        return converter.decode(datum, trigger_metadata=metadata)
    value = datum.value
    if wanted is str and isinstance(value, bytes):
        return value.decode("utf-8")
    return value.encode("utf-8") if wanted is bytes and isinstance(value, str) else value
