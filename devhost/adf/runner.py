"""The public door: load a factory, run a pipeline on this machine, watch it, read its record."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from devhost.adf.blob_storage import Storage
from devhost.adf.callbacks import CallbackListener
from devhost.adf.calls import Invocation, Services
from devhost.adf.clock import Clock
from devhost.adf.errors import (
    ActivityFailure,
    AdfError,
    ExpressionEngineUnavailable,
    ExpressionError,
    FactoryError,
    NotModelled,
    ParameterError,
)
from devhost.adf.expressions import load_engine
from devhost.adf.factory import Factory
from devhost.adf.http import HttpCaller, host
from devhost.adf.modelled import HANDLERS, refuse_unmodelled
from devhost.adf.records import Event, PipelineRun, RunStore, Watcher
from devhost.adf.runs import execute

__all__ = [
    "ActivityFailure",
    "AdfError",
    "Event",
    "ExpressionEngineUnavailable",
    "ExpressionError",
    "Factory",
    "FactoryError",
    "Invocation",
    "NotModelled",
    "Options",
    "ParameterError",
    "PipelineRun",
    "Runner",
    "run_pipeline",
]


@dataclass(frozen=True)
class Options:
    """How a factory meets this machine.

    url: where the function apps of the factory answer here; every AzureFunction linked service leads there, and so does
        every other call to one of their hosts. addresses: further (from, to) prefixes of URLs.
    identity_headers: sent where the factory's managed identity (or a function key that is not given) would be.
    storage: a connection string for every storage linked service. answers: outputs for activities that must not run,
        by NAME or PIPELINE/NAME. secrets: Key Vault secrets by name.
    wait_scale, limit_scale: divide waits and timeouts (for tests). data: the folder whose adf/ keeps records and state.
    callback_host, callback_port: where WebHook callbacks are received (port 0: any free one).
    """

    url: str | None = None
    addresses: Sequence[tuple[str, str]] = ()
    identity_headers: Mapping[str, str] = field(default_factory=dict)
    storage: str | None = None
    answers: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    wait_scale: float = 1.0
    limit_scale: float = 1.0
    data: Path | None = None
    callback_host: str = "127.0.0.1"
    callback_port: int = 0


class Runner:
    """Runs pipelines of one factory while its `async with` lasts; concurrency limits hold across its runs."""

    def __init__(self, factory: Factory, options: Options | None = None, watcher: Watcher | None = None) -> None:
        self.factory = factory
        self.options = options or Options()
        clock = Clock(self.options.wait_scale, self.options.limit_scale)
        self._http = HttpCaller(
            clock, addresses=_addresses(factory, self.options), identity_headers=self.options.identity_headers
        )
        self._callbacks = CallbackListener(self.options.callback_host, self.options.callback_port)
        self._open = AsyncExitStack()
        self.services = Services(
            factory=factory,
            handlers=HANDLERS,
            clock=clock,
            store=RunStore(self.options.data),
            watcher=watcher or _unwatched,
            http=self._http,
            callbacks=self._callbacks,
            storage=Storage(self.options.storage),
            answers=self.options.answers,
            secrets=self.options.secrets,
        )

    async def __aenter__(self) -> Runner:
        load_engine()
        await self._open.enter_async_context(self._http)
        await self._open.enter_async_context(self._callbacks)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.services.background and kind is None:
            await asyncio.gather(*self.services.background, return_exceptions=True)
        for task in self.services.background:
            task.cancel()
        await self._open.aclose()

    async def run(
        self,
        pipeline: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        invocation: Invocation | None = None,
        run_id: str | None = None,
    ) -> PipelineRun:
        """Run a pipeline to its end. A failed run is a record; what cannot be started raises an AdfError."""
        refuse_unmodelled(self.factory, pipeline, self.options.answers)
        return await execute(
            self.services, pipeline, parameters or {}, invocation or Invocation(), strict=True, run_id=run_id
        )


def run_pipeline(
    factory: Factory | str | Path,
    pipeline: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    options: Options | None = None,
    watcher: Watcher | None = None,
) -> PipelineRun:
    """Run one pipeline and wait for its end; for callers without an event loop.

    Ctrl-C cancels the run, writes its record with status Cancelled and raises KeyboardInterrupt.
    """

    async def whole() -> PipelineRun:
        loaded = factory if isinstance(factory, Factory) else Factory.load(factory)
        task = asyncio.current_task()
        if task is not None and threading.current_thread() is threading.main_thread():
            with suppress(NotImplementedError):
                asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
        async with Runner(loaded, options, watcher) as runner:
            return await runner.run(pipeline, parameters)

    try:
        return asyncio.run(whole())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _addresses(factory: Factory, options: Options) -> list[tuple[str, str]]:
    addresses = list(options.addresses)
    if options.url is None:
        return addresses
    for service in factory.linked_services.values():
        if service.get("type") != "AzureFunction":
            continue
        app = (service.get("typeProperties") or {}).get("functionAppUrl")
        text = app.get("value") if isinstance(app, dict) else app
        if host(str(text)):
            addresses.append((host(str(text)), options.url))
    return addresses


def _unwatched(event: Event) -> None:
    """Nobody looks."""
