"""All triggers but HTTP and Durable: started with the host, or run by hand by POST /admin/functions/{name}."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from azure.functions.meta import Datum

from devhost.background import Background
from devhost.bindings import Bindings
from devhost.durable.store import Store
from devhost.errors import HostError
from devhost.function_index import Function
from devhost.logs import EventLog
from devhost.triggers.blobs import Blobs
from devhost.triggers.queues import Queues
from devhost.triggers.timers import Timers

log = EventLog("devhost.triggers")


class Listeners:
    """Construct, then `start`."""

    def __init__(self, bindings: Bindings, store: Store, background: Background) -> None:
        self._bindings, self._background = bindings, background
        self.blobs = Blobs(bindings, store, background)
        self._queues = Queues(bindings, background)
        self._timers = Timers(bindings, store, background)

    def start(self) -> None:
        """Start all; a connection that is missing is one clear line, the rest of the app runs."""
        for part in (self._timers, self._queues, self.blobs):
            try:
                part.start()
            except HostError as problem:
                log.error("not listening", triggers=type(part).__name__.lower(), why=problem)

    async def grid_event(self, function: Function, item: dict[str, Any]) -> None:
        """Run a function on an Event Grid event; as on the real host, it counts as delivered even if that fails."""
        with contextlib.suppress(Exception):  # it is in the log
            await self._bindings.run(function, Datum(json.dumps(item), "json"), {}, {"data": item})

    def run_by_hand(self, function: Function, given: Any) -> None:
        """Run a function in the background on an input; what comes of it is in the log."""
        self._background.start(self._run(function, given if isinstance(given, str) else json.dumps(given)))

    async def _run(self, function: Function, text: str) -> None:
        try:
            match function.trigger.type:
                case "timerTrigger":
                    await self._timers.run(function)
                case "queueTrigger":
                    await self._queues.run_text(function, text)
                case "blobTrigger":
                    await self.blobs.run_blob(function, text)
                case "eventGridTrigger":
                    await self.grid_event(function, json.loads(text))
                case _:
                    await self._bindings.run(function, Datum(text, "string"), {}, {})
        except Exception as problem:
            log.warning("run by hand failed", function=function.name, error=problem)
