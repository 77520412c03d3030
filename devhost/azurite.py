"""Runs Azurite, the storage emulator: starts it, takes over one that a killed host left, ends what it started.

    with Azurite(folder) as storage:
        BlobServiceClient.from_connection_string(storage.connection_string)
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil

from devhost.errors import HostError
from devhost.state import replace_json

DEFAULT_PORTS = (10000, 10001, 10002)  # blob, queue, table
_ANY_PORTS = (0, 0, 0)
_SERVICES = ("blob", "queue", "table")
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
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
    if named := given or os.environ.get("AZURITE"):
        return shutil.which(named)
    for folder in (*folders, Path.cwd(), Path(__file__).resolve().parent.parent):
        for place in (folder / ".tools", folder):
            if (found := place / "node_modules" / ".bin" / "azurite").exists():
                return str(found)
    return shutil.which("azurite")


class Azurite:
    """One emulator on a folder, on the ports of the last run there, else the well-known ones, else free ones.

    Raises HostError if it cannot start.
    """

    def __init__(self, location: Path | str, executable: str | None = None) -> None:
        self._location = Path(location).resolve()
        self._state_file = self._location / "azurite-process.json"
        self._executable = executable
        self.ports: tuple[int, ...] = DEFAULT_PORTS
        self._process: psutil.Process | None = None

    @property
    def endpoints(self) -> dict[str, str]:
        """Service -> URL with the account's name."""
        return {n: f"http://127.0.0.1:{p}/{_ACCOUNT}" for n, p in zip(_SERVICES, self.ports, strict=True)}

    @property
    def connection_string(self) -> str:
        """Connection string with all three endpoints."""
        ends = "".join(f"{n.title()}Endpoint={url};" for n, url in self.endpoints.items())
        return f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY};{ends}"

    @property
    def state(self) -> dict[str, Any]:
        """What other processes need to know: pid, ports, endpoints, connection_string."""
        return {"pid": self._process.pid if self._process else None, "ports": list(self.ports), **self.endpoints,
                "connection_string": self.connection_string}  # fmt: skip

    @property
    def alive(self) -> bool:
        """False once the process has ended."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return self._process is None or self._process.status() != psutil.STATUS_ZOMBIE
        return False

    def start(self) -> Azurite:
        """Start or take over; returns when all three services answer."""
        self._location.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError, ValueError, psutil.Error):
            last = json.loads(self._state_file.read_text(encoding="utf-8"))
            self.ports = tuple(last["ports"])
            process = psutil.Process(last["pid"])
            if str(self._location) in process.cmdline() and all(_answers(port) for port in self.ports):
                self._process = process
                self._write_state()
                return self
        for ports in (self.ports, _ANY_PORTS):
            if not any(_answers(port) for port in ports) and self._launch(ports):
                return self
        raise HostError(f"Azurite does not start on {self.ports}; its log is {self._location / 'azurite.out'}.")

    def restart(self) -> None:
        """Start again on the same ports, after it died."""
        if not self._launch(self.ports):
            raise HostError(f"Azurite died and does not start again; its log is {self._location / 'azurite.out'}.")

    def stop(self) -> None:
        """End it, if it is ours."""
        if self._process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._process.terminate()
            for process in psutil.wait_procs([self._process], _STOP_SECONDS)[1]:
                process.kill()
            self._process = None

    def __enter__(self) -> Azurite:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _launch(self, ports: tuple[int, ...]) -> bool:
        executable = self._executable or find_executable()
        if executable is None:
            raise HostError("Azurite is not installed: run `npm install azurite`, or name it by --azurite or $AZURITE.")
        command = [executable, "--silent", "--skipApiVersionCheck", "--disableTelemetry", "--location",
                   str(self._location)]  # fmt: skip
        for service, port in zip(_SERVICES, ports, strict=True):
            command += [f"--{service}Host", "127.0.0.1", f"--{service}Port", str(port)]
        node_options = f"{os.environ.get('NODE_OPTIONS', '')} --require {json.dumps(str(_GUARD))}"
        environment = {**os.environ, "DEVHOST_AZURITE_STATE": str(self._state_file), "NODE_OPTIONS": node_options}
        said = self._location / "azurite.out"
        before = said.stat().st_size if said.exists() else 0
        with said.open("ab") as output:
            # A session of its own: Ctrl-C is for the host, which ends Azurite last.
            self._process = psutil.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                         env=environment, start_new_session=True)  # fmt: skip
        self._write_state()  # it ends by itself unless it finds its owner there
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.alive:
            # Its own word: a port that answers may be that of another Azurite, which took it a moment ago.
            found = re.findall(rb"successfully listening \D*127.0.0.1:(\d+)", said.read_bytes()[before:])
            if len(found) == len(_SERVICES):
                self.ports = tuple(map(int, found))
                self._write_state()
                return True
            time.sleep(0.05)
        self.stop()
        return False

    def _write_state(self) -> None:
        assert self._process is not None
        replace_json(self._state_file, {"pid": self._process.pid, "ports": self.ports, "owner": os.getpid()})


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False

