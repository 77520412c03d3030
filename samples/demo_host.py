"""The local host of the demo: start one on the data folder, or use the one that already runs there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

READY_SECONDS = 120
STOP_SECONDS = 30
_TAIL_LINES = 15


class DemoError(Exception):
    """Something a person must know and can mend; the message says how."""


class DemoHost:
    """A running devhost on `data`, ours or somebody's."""

    def __init__(self, app: Path, data: Path, port: int, settings: Mapping[str, str]) -> None:
        self._app = app
        self._data = data
        self._port = port
        self._settings = dict(settings)
        self._process: subprocess.Popen[bytes] | None = None
        self.state: dict[str, Any] = {}

    def __enter__(self) -> DemoHost:
        running = self._running()
        if running:
            self.state = running
            return self
        _refuse_busy_port(self._port)
        self._data.mkdir(parents=True, exist_ok=True)
        with (self._data / "host.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "devhost", "--app", str(self._app), "--data", str(self._data),
                 "--port", str(self._port)],
                cwd=self._app, env={**os.environ, **self._settings}, stdout=log, stderr=log, start_new_session=True,
            )
        self._wait_until_ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()

    @property
    def is_ours(self) -> bool:
        """Whether this demo started the host and ends it."""
        return self._process is not None

    @property
    def url(self) -> str:
        """Base address of the app."""
        return str(self.state["url"]).rstrip("/")

    @property
    def key(self) -> str:
        """A function key of the host."""
        keys = json.loads((self._data / "keys.json").read_text("utf-8"))
        return str(keys["master"])

    @property
    def lake_connection(self) -> str:
        """Connection string of the storage emulator that the host uses."""
        azurite = self.state.get("azurite") or {}
        connection = azurite.get("connection_string")
        if not connection:
            raise DemoError(f"the host on {self._data} runs without a storage emulator; stop it and call again")
        return str(connection)

    def check(self) -> None:
        """Raise DemoError with the host's last words if it has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise DemoError(f"the local host ended with {self._process.returncode}. Its last words:\n{self._tail()}")

    def _running(self) -> dict[str, Any] | None:
        try:
            state = json.loads((self._data / "host.json").read_text("utf-8"))
            os.kill(int(state["pid"]), 0)
            answer = requests.get(f"{str(state['url']).rstrip('/')}/api/health", timeout=30)
        except (OSError, ValueError, KeyError, requests.RequestException):
            return None
        return dict(state) if answer.ok else None

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        problem = "it did not answer"
        while time.monotonic() < deadline:
            self.check()
            try:
                state = json.loads((self._data / "host.json").read_text("utf-8"))
                if self._process is not None and int(state["pid"]) == self._process.pid:
                    answer = requests.get(f"{str(state['url']).rstrip('/')}/api/health", timeout=30)
                    if answer.ok:
                        self.state = dict(state)
                        return
                    problem = answer.text[:500]
            except (OSError, ValueError, KeyError, requests.RequestException):
                pass
            time.sleep(0.2)
        raise DemoError(f"the local host was not ready after {READY_SECONDS} s: {problem}\n{self._tail()}")

    def _tail(self) -> str:
        try:
            lines = (self._data / "host.log").read_text("utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-_TAIL_LINES:])


def _refuse_busy_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise DemoError(
                f"port {port} is taken by another program; choose another one, for example: make run PORT={port + 1}"
            ) from error
