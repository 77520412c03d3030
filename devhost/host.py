"""Puts the parts of a host together, runs them, and ends them in order."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import random
import signal
import socket
import sys
import time
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from azure.functions.meta import Datum

from devhost import azurite as azurite_module
from devhost.app_settings import HostConfig, read_settings, storage_settings
from devhost.azurite import Azurite
from devhost.bindings import Bindings
from devhost.durable import sdk_speed
from devhost.durable.client_binding import ClientBinding
from devhost.durable.entities import EntityHub
from devhost.durable.history import now, wire_time
from devhost.durable.hub import TaskHub
from devhost.durable.routes import DurableRoutes
from devhost.durable.store import Store
from devhost.durable.work import Work
from devhost.errors import HostError
from devhost.function_index import SUPPORTED_TRIGGERS, Function, FunctionIndex, load_app
from devhost.invocation import Invoker
from devhost.logs import EventLog
from devhost.state import STATE_FILE, HostState, Keys, take
from devhost.storage_rest import Storage
from devhost.triggers.blobs import Blobs
from devhost.triggers.queues import Queues
from devhost.triggers.timers import Timers
from devhost.web import MAX_BODY, WebFront

log = EventLog("devhost")
_RPC_PORTS = (30000, 31000)  # where the real host's loopback listener is
_WATCH_SECONDS = 0.5
_AZURITE_LIVES = 5  # restarts in a row before the host gives up
_HEALTHY_SECONDS = 60.0
_GC_THRESHOLDS = (10_000, 20, 20)  # replay makes many short-lived objects and few cycles


@dataclass(frozen=True)
class HostOptions:
    """What the command line says."""

    app_dir: Path
    data_dir: Path
    port: int
    azurite: str | None = None
    azurite_ports: tuple[int, ...] | None = None
    use_azurite: bool = True
    enforce_keys: bool = False
    reload: bool = False
    started_in: Path = Path()  # working directory of the command


class Host:
    """One host: `run` ends when it is told to, or raises HostError."""

    def __init__(self, options: HostOptions) -> None:
        self._options = options
        self._azurite: Azurite | None = None
        self._stop = asyncio.Event()
        self._failure: HostError | None = None
        self._reloading = False
        self._port = options.port

    async def run(self) -> int | None:
        """Serve until SIGINT or SIGTERM; returns the port if the caller should start anew because code changed."""
        options = self._options
        lock = take(options.data_dir)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_loop_error)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        try:
            self._prepare_environment()
            await self._serve()
        finally:
            if self._azurite is not None and not self._reloading:
                self._azurite.stop()
            os.close(lock)
        if self._failure is not None:
            raise self._failure
        return self._port if self._reloading else None

    def fail(self, problem: HostError) -> None:
        """End the host with a reason."""
        self._failure = self._failure or problem
        self._stop.set()

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        problem = context.get("exception")
        if isinstance(problem, HostError):
            self.fail(problem)
        elif isinstance(problem, OSError) and problem.errno == errno.ENOSPC:
            self.fail(HostError(f"The disk is full ({problem}): free some space and start the host again."))
        else:
            loop.default_exception_handler(context)

    # -- start --------------------------------------------------------------------------------------
    def _prepare_environment(self) -> None:
        """Make the app's settings the environment; start Azurite if a setting means it."""
        options = self._options
        settings = read_settings(options.app_dir, os.environ)
        os.environ.update(settings)
        wanted = storage_settings(settings, os.environ)
        if not wanted or not options.use_azurite:
            return
        executable = azurite_module.find_executable(options.azurite, options.app_dir, options.started_in)
        if executable is None and options.azurite_ports is None:
            why = f"{options.azurite} was not found" if options.azurite else "node or azurite is not installed"
            remedy = "npm install azurite, or --azurite PATH"
            log.warning("no storage emulator", settings=",".join(wanted), why=why, remedy=remedy)
            return
        self._azurite = Azurite(options.data_dir / "azurite", executable, options.azurite_ports).start()
        log.info("azurite", pid=self._azurite.pid, **self._azurite.endpoints)
        for name in wanted:
            os.environ[name] = self._azurite.connection_string

    async def _serve(self) -> None:
        options = self._options
        index = load_app(options.app_dir, os.environ)
        config = HostConfig.read(options.app_dir, os.environ, os.cpu_count() or 1)
        _warn_unsupported(index)
        sdk_speed.apply()
        keys = Keys.of(options.data_dir)
        public, rpc = _listen(options.port), _listen_rpc()
        port = self._port = int(public.getsockname()[1])
        rpc_url = f"http://127.0.0.1:{rpc.getsockname()[1]}/durabletask/"
        client = ClientBinding(f"http://127.0.0.1:{port}", rpc_url, config.hub_name, keys.durable)
        store = Store(options.data_dir / "hub.sqlite", self.fail)
        storage = Storage(os.environ)
        invoker = Invoker(index, str(options.app_dir), config.max_orchestrators)
        hub = TaskHub(store, invoker, parallel=config.max_orchestrators, default_version=config.default_version)
        entities = EntityHub(store, invoker)
        work = Work(store, hub, entities, invoker, config.max_activities)
        hub.outbox, entities.answers = work, hub
        bindings = Bindings(invoker, client, storage, os.environ)
        blob_functions = index.with_trigger("blobTrigger")
        blobs = Blobs(store, bindings, storage, blob_functions, config.blob_max_failures, os.environ)
        queues = Queues(bindings, storage, index.with_trigger("queueTrigger"), config, os.environ)
        timers = Timers(store, bindings, index.with_trigger("timerTrigger"), os.environ)
        front = WebFront(index, config, bindings, DurableRoutes(store, hub, entities, client), keys,
                         enforce_keys=options.enforce_keys)  # fmt: skip
        front.blob_event = blobs.accept
        grid = _GridEvents(bindings)
        front.grid_event = grid.accept
        front.admin_run = _AdminRuns(bindings, invoker, timers, queues, blobs, grid).run
        runners = [await _site(front.public, public), await _site(front.rpc, rpc)]
        hub.recover()
        work.recover()
        entities.recover()
        timers.start()
        _start_listeners([queues, blobs])
        await store.committed()
        front.state = "Running"
        state = HostState(os.getpid(), port, client.origin, rpc_url, str(options.app_dir), wire_time(now()),
                          self._azurite_state())  # fmt: skip
        state.write(options.data_dir)
        log.info("ready", url=client.origin, functions=len(index.functions), app=options.app_dir, data=options.data_dir)
        gc.collect()
        gc.freeze()  # what is loaded now stays: collections need not look at it again and again
        gc.set_threshold(*_GC_THRESHOLDS)
        try:
            await self._until_stopped()
        finally:
            front.state = "Stopping"
            hub.closing = entities.closing = True
            for part in (timers, queues, blobs, work):
                await part.close()
            for runner in runners:
                await runner.cleanup()
            await storage.close()
            invoker.close()
            if self._failure is None:
                store.close()
            (options.data_dir / STATE_FILE).unlink(missing_ok=True)
            log.info("stopped", why="code changed" if self._reloading else "told to")

    def _azurite_state(self) -> dict[str, Any] | None:
        if self._azurite is None:
            return None
        return {"pid": self._azurite.pid, "ports": list(self._azurite.ports), **self._azurite.endpoints,
                "connection_string": self._azurite.connection_string}  # fmt: skip

    # -- while it runs ------------------------------------------------------------------------------
    async def _until_stopped(self) -> None:
        watched = _sources(self._options.app_dir) if self._options.reload else {}
        lives, healthy_since = _AZURITE_LIVES, time.monotonic()
        while not self._stop.is_set():
            try:
                await asyncio.wait_for(self._stop.wait(), _WATCH_SECONDS)
            except TimeoutError:
                if watched and _sources(self._options.app_dir) != watched:
                    self._reloading = True
                    return
                if self._azurite is not None and not self._azurite.alive:
                    lives = _AZURITE_LIVES if time.monotonic() - healthy_since > _HEALTHY_SECONDS else lives - 1
                    log.error("azurite died", remedy="started again on the same ports", left=lives)
                    if lives <= 0:
                        self.fail(HostError("Azurite dies again and again: see DATA/azurite/azurite.out."))
                        return
                    await asyncio.to_thread(self._restart_azurite)
                    healthy_since = time.monotonic()

    def _restart_azurite(self) -> None:
        assert self._azurite is not None
        try:
            self._azurite.restart()
            log.info("azurite", pid=self._azurite.pid, **self._azurite.endpoints)
        except HostError as problem:
            self._failure = problem


class _GridEvents:
    """Runs eventGridTrigger functions, before the answer: Event Grid repeats an event that is not answered."""

    def __init__(self, bindings: Bindings) -> None:
        self._bindings = bindings

    async def accept(self, function: Function, item: dict[str, Any]) -> None:
        """Run a function on an event; its failure is logged, as on the real host the event counts as delivered."""
        try:
            await self._bindings.run(function, Datum(json.dumps(item), "json"), {}, {"data": item})
        except Exception as problem:
            log.debug("event failed", function=function.name, error=problem)


@dataclass(frozen=True)
class _AdminRuns:
    """POST /admin/functions/{name}: runs a function in the background, on the input given."""

    bindings: Bindings
    invoker: Invoker
    timers: Timers
    queues: Queues
    blobs: Blobs
    grid: _GridEvents

    async def run(self, function: Function, given: Any) -> None:
        """Start; what comes of it is in the log."""
        text = given if isinstance(given, str) else json.dumps(given)
        runs: dict[str, Callable[[], Awaitable[Any]]] = {
            "timerTrigger": lambda: self.timers.run(function),
            "queueTrigger": lambda: self.queues.run_text(function, text),
            "blobTrigger": lambda: self.blobs.run_path(function, text),
            "eventGridTrigger": lambda: self.grid.accept(function, json.loads(text)),
            "activityTrigger": lambda: self._activity(function, text),
        }
        start = runs.get(function.trigger.type) or (lambda: self.bindings.run(function, Datum(text, "string"), {}, {}))
        task = asyncio.get_running_loop().create_task(_logged(function, start()))
        _background.add(task)
        task.add_done_callback(_background.discard)


    async def _activity(self, function: Function, text: str) -> None:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.invoker.start_activity(function.durable_name, "admin", text, lambda _outcome: ended.set_result(None))
        await ended


_background: set[asyncio.Task[None]] = set()


async def _logged(function: Function, work: Awaitable[Any]) -> None:
    try:
        await work
    except Exception as problem:
        log.warning("admin run failed", function=function.name, error=problem)


def _start_listeners(parts: list[Queues | Blobs]) -> None:
    """Start what needs storage; a missing connection is one clear line, the rest of the app runs."""
    for part in parts:
        try:
            part.start()
        except HostError as problem:
            log.error("not listening", triggers=type(part).__name__.lower(), why=problem)


def _warn_unsupported(index: FunctionIndex) -> None:
    for function in index.functions:
        if function.trigger.type not in SUPPORTED_TRIGGERS:
            remedy = f"run it by POST /admin/functions/{function.name}"
            log.warning("trigger not supported", function=function.name, trigger=function.trigger.type, remedy=remedy)


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as problem:
        listener.close()
        reason = f"Port {port} cannot be used ({problem.strerror}): choose another by --port (0: a free one)."
        raise HostError(reason) from None
    return listener


def _listen_rpc() -> socket.socket:
    for port in [*random.sample(range(*_RPC_PORTS), 20), 0]:
        listener = socket.socket()
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            listener.close()
            continue
        return listener
    raise HostError("No free port on 127.0.0.1.")


_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


async def _site(handler: _Handler, listener: socket.socket) -> web.ServerRunner:
    def request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY)

    server = web.Server(handler, request_factory=request, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=2.0)
    await runner.setup()
    await web.SockSite(runner, listener, backlog=1024).start()
    return runner


def _sources(app_dir: Path) -> dict[str, float]:
    """Python and settings files of the app with their times of change."""
    found: dict[str, float] = {}
    for folder, names, files in os.walk(app_dir):
        names[:] = [n for n in names if not n.startswith(".") and n not in ("node_modules", "__pycache__")]
        for name in files:
            if name.endswith(".py") or name in ("host.json", "local.settings.json"):
                path = Path(folder, name)
                try:
                    found[str(path)] = path.stat().st_mtime
                except FileNotFoundError:
                    continue
    return found


def run(options: HostOptions) -> None:
    """Run a host in this process; with --reload the process starts anew when code changes."""
    warnings.filterwarnings("ignore", "Potential duplicate Task completion")
    sys.dont_write_bytecode = options.reload  # a change within the same second must not meet stale bytecode
    port = asyncio.run(_run(options))
    if port is not None:
        os.chdir(options.started_in)
        again = [sys.executable, "-m", "devhost", *sys.argv[1:], "--port", str(port)]
        os.execv(sys.executable, again)  # noqa: S606 (the same program again)


async def _run(options: HostOptions) -> int | None:
    return await Host(options).run()
