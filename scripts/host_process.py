"""Runs the local host as a process of its own: for tests, benchmarks, scripts and the demo.

    with HostProcess(app_dir, data_dir) as host:
        requests.get(f"{host.url}/api/hello")
        host.kill()      # kill -9
        host.start()     # takes up where the other stopped
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from devhost.errors import HostError
from devhost.state import HostState

_ROOT = Path(__file__).resolve().parent.parent
_POLL_SECONDS = 0.05
_TAIL_LINES = 15


class HostProcess:
    """One host on an app and a data directory; `port` 0 takes a free one and keeps it over restarts."""

    def __init__(self, app: Path | str, data: Path | str, port: int = 0, env: Mapping[str, str] | None = None,
                 options: Sequence[str] = ()) -> None:  # fmt: skip
        self.app, self.data = Path(app).resolve(), Path(data).resolve()
        self._port = port
        self._env = dict(env or {})
        self._options = list(options)
        self._process: subprocess.Popen[bytes] | None = None
        self.log_file = self.data / "host.log"

    @property
    def url(self) -> str:
        """Address of the running host, without a slash at the end."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """Process id of the running host."""
        assert self._process is not None
        return self._process.pid

    @property
    def state(self) -> HostState:
        """What the host published, with Azurite's endpoints."""
        found = HostState.read(self.data)
        assert found is not None
        return found

    @property
    def log(self) -> str:
        """Everything the host has logged so far, over restarts."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def answers(self) -> bool:
        """Whether the host that published itself in the data directory answers; if so, `url` is its address."""
        found = HostState.read(self.data)
        with contextlib.suppress(OSError):
            if found is not None:
                os.kill(found.pid, 0)  # another host may have got the port of one that was killed
                if self.call("GET", f"{found.url}/admin/host/status")[0] == 200:
                    self._port = found.port
                    return True
        return False

    def start(self, timeout: float = 90.0) -> str:
        """Start and wait until it is ready; returns the address. HostError with the host's last lines if it ends."""
        self.data.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **self._env}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), environment.get("PYTHONPATH")]))
        places = ["--app", str(self.app), "--data", str(self.data), "--port", str(self._port)]
        with self.log_file.open("ab") as output:
            command = [sys.executable, "-m", "devhost", *places, *self._options]
            # A session of its own: Ctrl-C is for the caller, who ends the host in order.
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                             env=environment, cwd=_ROOT, start_new_session=True)  # fmt: skip
        try:
            self._wait_until_ready(timeout)
        except BaseException:  # a caller who is told to end, too, leaves no host behind
            self.stop()
            raise
        return self.url

    def _wait_until_ready(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not (self.answers() and self.state.pid == self.pid):
            self.check()
            if time.monotonic() > deadline:
                raise HostError(f"The host is not ready after {timeout} s; its log is {self.log_file}.")
            time.sleep(_POLL_SECONDS)

    def check(self) -> None:
        """Raise HostError with the host's last lines if it was started here and has ended."""
        if self._process is not None and self._process.poll() is not None:
            last = "\n".join(self.log.splitlines()[-_TAIL_LINES:])
            raise HostError(f"The host ended with {self._process.returncode}. Its last lines:\n{last}")

    def kill(self) -> None:
        """End the host as a power cut would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self, timeout: float = 20.0) -> int:
        """End it in order; returns its exit code."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._process.returncode

    def call(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None,
             timeout: float = 60.0) -> tuple[int, Any, dict[str, str]]:  # fmt: skip
        """Send a request (`body` as JSON); returns status, body (parsed if JSON) and headers in lower case."""
        data = None if body is None else json.dumps(body).encode()
        url = path if path.startswith("http") else self.url + path
        request = urllib.request.Request(url, data, dict(headers or {}), method=method)  # noqa: S310 (loopback)
        if data is not None and not request.has_header("Content-type"):
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310 (loopback)
                status, raw, found = answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as problem:
            status, raw, found = problem.code, problem.read(), problem.headers
        try:
            parsed = json.loads(raw) if raw else None
        except ValueError:
            parsed = raw.decode(errors="replace")
        return status, parsed, {k.lower(): v for k, v in found.items()}

    def wait_for(self, instance_id: str, timeout: float = 60.0, *, show: str = "") -> dict[str, Any]:
        """Wait until an orchestration has ended; returns its status payload. TimeoutError otherwise."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            path = f"/runtime/webhooks/durabletask/instances/{instance_id}?{show}"
            status, body, _ = self.call("GET", path)
            if status == 200:
                return dict(body)
            time.sleep(_POLL_SECONDS)
        raise TimeoutError(f"{instance_id} has not ended after {timeout} s: {body}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
