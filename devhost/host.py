"""Puts the parts of a host together, runs them, and ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from devhost.app_settings import HostConfig, means_emulator, read_settings
from devhost.azurite import Azurite, find_executable
from devhost.background import Background
from devhost.bindings import Bindings
from devhost.durable import sdk_speed
from devhost.durable.client_binding import ClientBinding
from devhost.durable.history import now, wire_time
from devhost.durable.hub import TaskHub
from devhost.durable.routes import DurableRoutes
from devhost.durable.store import Store
from devhost.errors import HostError
from devhost.function_index import load_app
from devhost.invocation import Invoker
from devhost.logs import EventLog
from devhost.state import STATE_FILE, HostState, Keys, take
from devhost.storage import Storage
from devhost.triggers.listeners import Listeners
from devhost.web import MAX_BODY, WebFront

log = EventLog("devhost")
_WATCH_SECONDS = 0.5


@dataclass(frozen=True)
class HostOptions:
    """What the command line says."""

    app_dir: Path
    data_dir: Path
    port: int
    azurite: str | None
    enforce_keys: bool
    reload: bool
    started_in: Path  # working directory of the command


class Host:
    """One host: `run` ends when it is told to, or raises HostError."""

    def __init__(self, options: HostOptions) -> None:
        self._options = options
        self._azurite: Azurite | None = None
        self._background = Background()
        self._stop = asyncio.Event()
        self._failure: HostError | None = None
        self._new_code = False
        self._port = options.port

    async def run(self) -> int | None:
        """Serve until SIGINT or SIGTERM; returns the port if the caller should start anew because code changed."""
        lock = take(self._options.data_dir)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_loop_error)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        try:
            self._prepare_environment()
            await self._serve()
        finally:
            if self._azurite is not None and not self._new_code:
                self._azurite.stop()
            os.close(lock)
        if self._failure is not None:
            raise self._failure
        return self._port if self._new_code else None

    def fail(self, problem: HostError) -> None:
        """End the host with a reason."""
        self._failure = self._failure or problem
        self._stop.set()

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        problem = context.get("exception")
        if isinstance(problem, HostError):
            self.fail(problem)
        else:
            loop.default_exception_handler(context)

    def _prepare_environment(self) -> None:
        """Make the app's settings the environment; start Azurite if a setting means it."""
        options = self._options
        os.environ.update(read_settings(options.app_dir, os.environ))
        wanted = sorted(name for name, value in os.environ.items() if means_emulator(value))
        if not wanted:
            return
        executable = find_executable(options.azurite, options.app_dir, options.started_in)
        if executable is None:
            why = f"{options.azurite} was not found" if options.azurite else "node or azurite is not installed"
            remedy = "npm install azurite, or --azurite PATH"
            log.warning("no storage emulator", settings=",".join(wanted), why=why, remedy=remedy)
            return
        self._azurite = Azurite(options.data_dir / "azurite", executable).start()
        log.info("azurite", **self._azurite.state)
        os.environ.update(dict.fromkeys(wanted, self._azurite.connection_string))

    async def _serve(self) -> None:
        options = self._options
        index = load_app(options.app_dir, os.environ)
        config = HostConfig.read(options.app_dir, os.environ, os.cpu_count() or 1)
        if not_modelled := [*config.not_modelled, *index.not_modelled]:
            log.warning("not modelled by this host", what=", ".join(not_modelled))
        sdk_speed.apply()
        keys = Keys.of(options.data_dir)
        public, rpc = _listen(options.port), _listen(0)
        self._port = int(public.getsockname()[1])
        url = f"http://127.0.0.1:{self._port}"
        rpc_url = f"http://127.0.0.1:{rpc.getsockname()[1]}/durabletask/"
        client = ClientBinding(url, rpc_url, config.hub_name, keys.durable)
        store = Store(options.data_dir / "hub.sqlite", self.fail)
        storage = Storage(base64_messages=config.queue_base64)
        invoker = Invoker(index, str(options.app_dir), config.max_orchestrators)
        bindings = Bindings(invoker, client, storage, config)
        hub = TaskHub(store, bindings, self._background)
        listeners = Listeners(bindings, store, self._background)
        routes = DurableRoutes(store, hub, client)
        front = WebFront(bindings, routes, listeners, keys, enforce_keys=options.enforce_keys)
        runners = [await _site(front.public, public), await _site(front.rpc, rpc)]
        hub.recover()
        listeners.start()
        await store.committed()
        front.state = "Running"
        HostState(os.getpid(), self._port, url, rpc_url, str(options.app_dir), wire_time(now()),
                  self._azurite.state if self._azurite else None).write(options.data_dir)  # fmt: skip
        log.info("ready", url=url, functions=len(index.functions), app=options.app_dir, data=options.data_dir)
        if self._azurite is not None:
            self._background.start(self._keep_azurite(self._azurite))
        if options.reload:
            self._background.start(self._watch_code())
        try:
            await self._stop.wait()
        finally:
            front.state, invoker.closing = "Stopping", True
            await self._background.close()
            for runner in runners:
                await runner.cleanup()
            await storage.close()
            invoker.close()
            store.close()
            (options.data_dir / STATE_FILE).unlink(missing_ok=True)
            log.info("stopped", why="code changed" if self._new_code else "told to")

    async def _keep_azurite(self, azurite: Azurite) -> None:
        """Start Azurite again whenever it dies. HostError if it cannot be started."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if not azurite.alive:
                log.error("azurite died", remedy="started again on the same ports; it says why in azurite.out")
                await asyncio.to_thread(azurite.restart)
                log.info("azurite", **azurite.state)

    async def _watch_code(self) -> None:
        before = _sources(self._options.app_dir)
        while _sources(self._options.app_dir) == before:
            await asyncio.sleep(_WATCH_SECONDS)
        self._new_code = True
        self._stop.set()


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port), backlog=1024)
    except OSError as problem:
        reason = f"Port {port} cannot be used ({problem.strerror}): choose another by --port (0: a free one)."
        raise HostError(reason) from None


async def _site(handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
                listener: socket.socket) -> web.ServerRunner:  # fmt: skip
    request = partial(web.BaseRequest, loop=asyncio.get_running_loop(), client_max_size=MAX_BODY)
    runner = web.ServerRunner(web.Server(handler, request_factory=request, access_log=None), shutdown_timeout=2.0)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return runner


def _sources(app_dir: Path) -> dict[str, float]:
    """Python and settings files of the app with their times of change."""
    found: dict[str, float] = {}
    for folder, names, files in os.walk(app_dir):
        names[:] = [n for n in names if not n.startswith(".") and n not in ("node_modules", "__pycache__")]
        for path in (Path(folder, name) for name in files):
            if path.suffix == ".py" or path.name in ("host.json", "local.settings.json"):
                with contextlib.suppress(FileNotFoundError):
                    found[str(path)] = path.stat().st_mtime
    return found


def run(options: HostOptions) -> None:
    """Run a host in this process; with --reload the process starts anew when code changes."""
    warnings.filterwarnings("ignore", "Potential duplicate Task completion")
    sys.dont_write_bytecode = options.reload  # a change within the same second must not meet stale bytecode
    port = asyncio.run(Host(options).run())
    if port is not None:
        os.chdir(options.started_in)
        again = [sys.executable, "-m", "devhost", *sys.argv[1:], "--port", str(port)]
        os.execv(sys.executable, again)  # noqa: S606 (the same program again)

