"""The local host of the demo: starts one on the data folder, or uses the one that already runs there."""

from __future__ import annotations

import json
import socket
from typing import Self

from scripts.host_process import HostProcess

READY_SECONDS = 120


class DemoError(Exception):
    """Something a person must know and can mend; the message says how."""


class DemoHost(HostProcess):
    """A host on the demo's data folder, ours or somebody's; somebody's is left running."""

    def __enter__(self) -> Self:
        if not self.answers():
            _refuse_busy_port(self._port)
            self.start(READY_SECONDS)
        return self

    @property
    def is_ours(self) -> bool:
        """Whether this demo started the host and ends it."""
        return self._process is not None

    @property
    def key(self) -> str:
        """A key of the host that opens every route."""
        return str(json.loads((self.data / "keys.json").read_text("utf-8"))["master"])

    @property
    def lake_connection(self) -> str:
        """Connection string of the storage emulator that the host uses."""
        azurite = self.state.azurite
        if azurite is None:
            raise DemoError(f"the host on {self.data} runs without a storage emulator; stop it and call again")
        return str(azurite["connection_string"])


def _refuse_busy_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            remedy = f"choose another one, for example: make run PORT={port + 1}"
            raise DemoError(f"port {port} is taken by another program; {remedy}") from error
