"""Gives functions their inputs and sends their outputs: durable client, blobs, queues."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from azure.functions.http import HttpRequest
from azure.functions.meta import Datum

from devhost.app_settings import HostConfig
from devhost.durable.client_binding import ClientBinding
from devhost.function_index import Binding, Function, converter_of
from devhost.invocation import Invoker
from devhost.logs import EventLog
from devhost.storage import Storage

log = EventLog("devhost.functions")
_EXPRESSION = re.compile(r"\{([^{}]+)\}")


class Bindings:
    """Runs functions of an app with all their bindings; knows what their triggers need to listen."""

    def __init__(self, invoker: Invoker, client: ClientBinding, storage: Storage, config: HostConfig) -> None:
        self.index = invoker.index
        self.invoker = invoker
        self.client = client
        self.storage = storage
        self.config = config

    async def run(self, function: Function, trigger: Datum | HttpRequest, metadata: dict[str, Any],
                  values: Mapping[str, Any], instance: str | None = None) -> dict[str, Any]:  # fmt: skip
        """Call a function: `trigger` is the trigger's value, `values` fill binding expressions like {name}.

        `instance` is the orchestration that asks for an activity. Gives and raises what Invoker.call does.
        """

        def given() -> Any:
            return _decode(function, function.trigger, trigger, metadata) if isinstance(trigger, Datum) else trigger

        step = "input failed"
        try:
            others = {b.name: await self._input(function, b, values) for b in function.inputs}
            step = ""
            done = await self.invoker.call(function, given, others, instance)
            step = "output failed"
            for binding in function.bindings:
                if binding.name in done and binding.type != "http":
                    await self._output(binding, done[binding.name], values)
            return done
        except Exception as problem:
            if step:  # what the function itself raised is in the log
                log.error(step, function=function.name, error=f"{type(problem).__name__}: {problem}")
            raise

    async def _input(self, function: Function, binding: Binding, values: Mapping[str, Any]) -> Any:
        if binding.type == "durableClient":
            return self.client.text()
        container, _, name = _fill(binding.text("path"), values).partition("/")
        found = await self.storage.account(binding).read_blob(container, name)
        return None if found is None else _decode(function, binding, Datum(found[0], "bytes"), {})

    async def _output(self, binding: Binding, value: Any, values: Mapping[str, Any]) -> None:
        account = self.storage.account(binding)
        datum = converter_of(binding.type).encode(value, expected_type=None)
        if binding.type == "blob":
            container, _, name = _fill(binding.text("path"), values).partition("/")
            await account.write_blob(container, name, _bytes(datum.value))
            return
        queue = _fill(binding.text("queueName"), values)
        found = json.loads(datum.value) if datum.type == "json" else datum.value
        for item in found if isinstance(found, list) else [found]:
            body = item["body"] if isinstance(item, dict) else item
            await account.put_message(queue, account.encoded(_bytes(body)))


def _fill(text: str, values: Mapping[str, Any]) -> str:
    """Fill {name}, {rand-guid} and {datetime} in a binding expression."""
    known = {
        "rand-guid": str(uuid.uuid4()), "datetime": datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ"),
        **{name.lower(): value for name, value in values.items()},
    }  # fmt: skip

    def value(match: re.Match[str]) -> str:
        found = known.get(match[1].lower().partition(":")[0])
        if found is None:
            raise ValueError(f"the binding expression {match[0]} has no value; known: {sorted(values)}")
        return str(found)

    return _EXPRESSION.sub(value, text)


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
