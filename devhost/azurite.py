"""Runs Azurite, the storage emulator: starts it, takes over one that a killed host left, ends what it started.

    with Azurite(folder) as storage:
        BlobServiceClient.from_connection_string(storage.connection_string)
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from devhost.errors import HostError
from devhost.storage_rest import DEVELOPMENT_ACCOUNT, DEVELOPMENT_KEY

DEFAULT_PORTS = (10000, 10001, 10002)  # blob, queue, table
_SERVICES = ("blob", "queue", "table")
_START_SECONDS = 60.0  # node is slow to start on a busy machine
_STOP_SECONDS = 10.0
_GUARD = Path(__file__).with_name("azurite_guard.cjs")


def find_executable(given: str | None = None, *folders: Path) -> str | None:
    """Find azurite, or return None if it or node is not installed.

    Looked at in order: `given`, $AZURITE, .tools/node_modules/.bin and node_modules/.bin below `folders`, the working
    directory and the folder of this package, PATH.
    """
    if shutil.which("node") is None:
        return None
    named = given or os.environ.get("AZURITE")
    if named:
        return shutil.which(named)
    for folder in (*folders, Path.cwd(), Path(__file__).resolve().parent.parent):
        for place in (folder / ".tools", folder):
            found = place / "node_modules" / ".bin" / "azurite"
            if found.exists():
                return str(found)
    return shutil.which("azurite")


class Azurite:
    """One emulator on a folder. Raises HostError if it cannot start.

    `ports` (blob, queue, table) are used as given; if an Azurite answers there already it is used and never ended.
    Without `ports`: those of the last run on this folder, else the well-known ones, else free ones.
    """

    def __init__(self, location: Path | str, executable: str | None = None, ports: Sequence[int] | None = None) -> None:
        self._location = Path(location).resolve()
        self._state = self._location / "azurite-process.json"
        self._executable = executable
        self._given = tuple(ports) if ports else None
        self.ports: tuple[int, ...] = self._given or DEFAULT_PORTS
        self.pid: int | None = None  # None: not ours
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def connection_string(self) -> str:
        """Connection string with all three endpoints."""
        ends = "".join(f"{n.title()}Endpoint={url};" for n, url in self.endpoints.items())
        return f"DefaultEndpointsProtocol=http;AccountName={DEVELOPMENT_ACCOUNT};AccountKey={DEVELOPMENT_KEY};{ends}"

    @property
    def endpoints(self) -> dict[str, str]:
        """Service -> URL with the account's name."""
        return {n: f"http://127.0.0.1:{p}/{DEVELOPMENT_ACCOUNT}" for n, p in zip(_SERVICES, self.ports, strict=True)}

    @property
    def alive(self) -> bool:
        """False once the process has ended."""
        if self._process is not None:
            return self._process.poll() is None
        return self.pid is None or _runs(self.pid, self._location)

    def start(self) -> Azurite:
        """Start or take over; returns when all three services answer."""
        if self._given and all(_answers(port) for port in self._given):
            return self
        self._location.mkdir(parents=True, exist_ok=True)
        last = self._read_state()
        if last and _runs(last["pid"], self._location) and all(_answers(port) for port in last["ports"]):
            self.pid, self.ports = last["pid"], tuple(last["ports"])
            self._write_state()
            return self
        executable = self._executable or find_executable()
        if executable is None:
            raise HostError("Azurite is not installed: run `npm install azurite`, or name it by --azurite or $AZURITE.")
        first: tuple[int, ...] = self._given or (tuple(last["ports"]) if last else DEFAULT_PORTS)
        for ports in [first] if self._given else [first, _free_ports(), _free_ports()]:
            if not any(_taken(port) for port in ports) and self._launch(executable, ports):
                return self
        raise HostError(f"Azurite does not start on {self.ports}; its log is {self._location / 'azurite.out'}.")

    def restart(self) -> None:
        """Start again on the same ports, after it died."""
        executable = self._executable or find_executable()
        if executable is None or not self._launch(executable, self.ports):
            raise HostError(f"Azurite died and does not start again; its log is {self._location / 'azurite.out'}.")

    def stop(self) -> None:
        """End it, if it is ours."""
        if self.pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.05)
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        self.pid, self._process = None, None

    def __enter__(self) -> Azurite:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _launch(self, executable: str, ports: tuple[int, ...]) -> bool:
        self.ports = ports
        options = [f"--{n}{what}" for n in _SERVICES for what in ("Host", "Port")]
        values = [value for port in ports for value in ("127.0.0.1", str(port))]
        pairs = [item for pair in zip(options, values, strict=True) for item in pair]
        fixed = ["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--location", str(self._location)]
        node_options = f"{os.environ.get('NODE_OPTIONS', '')} --require {json.dumps(str(_GUARD))}"
        environment = {**os.environ, "DEVHOST_AZURITE_STATE": str(self._state), "NODE_OPTIONS": node_options}
        said = self._location / "azurite.out"
        before = said.stat().st_size if said.exists() else 0
        with said.open("ab") as output:
            # A session of its own: Ctrl-C is for the host, which ends Azurite last.
            self._process = subprocess.Popen([executable, *fixed, *pairs], stdin=subprocess.DEVNULL, stdout=output,
                                             stderr=output, env=environment, start_new_session=True)  # fmt: skip
        self.pid = self._process.pid
        self._write_state()
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            # Its own word: a port that answers may be that of another Azurite, which took it a moment ago.
            if said.read_bytes()[before:].count(b"successfully listening") == len(_SERVICES):
                return True
            time.sleep(0.05)
        self.stop()
        return False

    def _write_state(self) -> None:
        document = {"pid": self.pid, "ports": list(self.ports), "owner": os.getpid()}
        temporary = self._state.with_suffix(".tmp")
        temporary.write_text(json.dumps(document), encoding="utf-8")
        temporary.replace(self._state)

    def _read_state(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self._state.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return found


def _runs(pid: int, location: Path) -> bool:
    """True if the process is the Azurite of that folder (pids are used again)."""
    if Path("/proc/self").exists():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return False
    else:
        command = subprocess.run(["ps", "-ww", "-p", str(pid), "-o", "command="], capture_output=True, text=True,
                                 check=False).stdout.split()  # fmt: skip
    return str(location) in command


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _free_ports() -> tuple[int, ...]:
    probes = [socket.socket() for _ in _SERVICES]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return tuple(int(probe.getsockname()[1]) for probe in probes)
    finally:
        for probe in probes:
            probe.close()
