"""Starts real hosts on the sample apps; every host is ended by its own process id."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.host_process import HostProcess

APPS = Path(__file__).parent / "apps"
INSTANCES = "/runtime/webhooks/durabletask/instances"
ORCHESTRATORS = "/runtime/webhooks/durabletask/orchestrators"


class SampleHost(HostProcess):
    """A host on a sample app, with the file in which its activities record what they did."""

    def __init__(self, app: Path, folder: Path, env: dict[str, str], options: tuple[str, ...]) -> None:
        self.effects_file = folder / "effects.txt"
        super().__init__(app, folder / "data", env={"EFFECTS": str(self.effects_file), **env}, options=options)

    @property
    def effects(self) -> list[str]:
        """Lines that activities have written."""
        return self.effects_file.read_text().splitlines() if self.effects_file.exists() else []

    def begin(self, name: str, given: Any = None, instance_id: str = "") -> str:
        """Start an orchestration by the management route."""
        status, body, _ = self.call(
            "POST", f"{ORCHESTRATORS}/{name}" + (f"/{instance_id}" if instance_id else ""), given
        )
        assert status == 202, body
        return str(body["id"])

    def status(self, instance_id: str, query: str = "") -> dict[str, Any]:
        """Read an instance's status payload."""
        return dict(self.call("GET", f"{INSTANCES}/{instance_id}?{query}")[1])

    def finish(self, instance_id: str, timeout: float = 30.0) -> Any:
        """Wait for the end and return the output of a completed instance."""
        ended = self.wait_for(instance_id, timeout)
        assert ended["runtimeStatus"] == "Completed", ended
        return ended["output"]

    def crash(self) -> None:
        """kill -9, then start again on the same data."""
        self.kill()
        self.start()


HostFactory = Callable[..., SampleHost]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HostFactory]:
    """Factory: host("chaining", STEP_SECONDS="1") starts the sample app and returns when it is ready."""
    started: list[SampleHost] = []

    def start(app: str | Path, *options: str, **env: str) -> SampleHost:
        folder = tmp_path / f"host{len(started)}"
        process = SampleHost(APPS / app, folder, env, options)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.stop()


def eventually(check: Callable[[], Any], timeout: float = 20.0) -> Any:
    """Wait until `check` gives something true and return that."""
    deadline = time.monotonic() + timeout
    while not (found := check()):
        assert time.monotonic() < deadline, f"still {found!r} after {timeout} s"
        time.sleep(0.05)
    return found
