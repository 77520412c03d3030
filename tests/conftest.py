"""Fixtures that every test folder shares: a real Azurite and a lake on it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from adapters.lake import BlobLake, connect
from devhost.azurite import DEFAULT_PORTS
from domain import lake_paths

ROOT = Path(__file__).resolve().parent.parent
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests first: a worker that begins one last leaves the other core idle."""
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)


def pytest_runtest_teardown() -> None:
    """The Azure ML SDK leaves its cloud's name in the environment; hosts of later tests would not know that cloud."""
    os.environ.pop("AZUREML_CURRENT_CLOUD", None)


@pytest.fixture(scope="session", autouse=True)
def _well_known_ports_taken() -> Iterator[None]:
    """Hosts of tests take free ports, for two that share the well-known ones take them from each other at a restart."""
    held = []
    for port in DEFAULT_PORTS:
        with contextlib.suppress(OSError):  # another worker holds it, or a developer's own Azurite
            held.append(socket.create_server(("127.0.0.1", port)))
    ended = threading.Event()

    def accept() -> None:
        while not ended.is_set():
            for server in select.select(held, [], [], 0.2)[0]:
                server.accept()[0].close()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield
    ended.set()
    thread.join()
    for server in held:
        server.close()


@pytest.fixture(scope="session", autouse=True)
def _no_job_agent_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A local platform's agent and its jobs outlive their host, as they should; they end here, with the tests."""
    yield
    ours = str(tmp_path_factory.getbasetemp())
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "adapters.jobs_local_agent" in command and any(part.startswith(ours) for part in command):
            with contextlib.suppress(psutil.NoSuchProcess):
                for one in [process, *process.children(recursive=True)]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        one.kill()


@pytest.fixture(scope="session")
def azurite() -> Iterator[str]:
    """Start the blob service of Azurite on a free port; yield its connection string."""
    program = ROOT / ".tools" / "node_modules" / ".bin" / "azurite-blob"
    if not program.exists():
        raise RuntimeError(f"{program} is missing: run `make setup`")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="azurite-") as folder:
        process = subprocess.Popen(
            [str(program), "--blobPort", str(port), "--location", folder, "--silent", "--skipApiVersionCheck",
             "--disableTelemetry"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        try:
            _wait_until_open(port, process)
            yield (
                f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={_KEY};"
                f"BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
            )
        finally:
            process.terminate()
            process.wait(20)


def _wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"Azurite ended with {process.returncode}")
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("Azurite did not answer within 60 s")


@pytest.fixture(scope="session")
def _session_lake(azurite: str) -> BlobLake:
    lake = connect(azurite)
    lake.ensure_containers(lake_paths.CONTAINERS)
    return lake


@pytest.fixture
def lake(_session_lake: BlobLake) -> BlobLake:
    """An empty lake with all its zones."""
    for container in lake_paths.CONTAINERS:
        for blob in _session_lake.list(container):
            _session_lake.delete(container, blob.path)
    return _session_lake
