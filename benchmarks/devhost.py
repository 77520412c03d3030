"""devhost against Microsoft's durabletask SDK: `python -m benchmarks.devhost [--quick]`.

Both do the same work in one run, one after the other: a chain of two activities, a fan-out of 1,000, 200 instances at
once, 200 activities in sequence. durabletask (PyPI) runs on its own in-memory test backend, in one process; devhost is
a real host process whose task hub is on disk. CPU seconds are those of all processes of an engine, client and host
together, the least of three rounds; memory is the peak of the engine's process.

The last part compares the host with the Functions SDK's own replay: the SDK alone, without any host, is given the
history of the sequence as it grew, episode by episode.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

APP = Path(__file__).resolve().parent / "devhost_app"
CHAINS, FAN_OUT, CONCURRENT, SEQUENCE = 200, 1000, 200, 200
START = "/runtime/webhooks/durabletask/orchestrators"


@dataclass(frozen=True)
class Result:
    """What an engine needed for one piece of work."""

    work: str
    cpu_seconds: float
    wall_seconds: float
    peak_mib: float


class Meter:
    """Takes the time of pieces of work; `cpu` reads all CPU seconds so far."""

    def __init__(self, cpu: Callable[[], float], peak_mib: Callable[[], float]) -> None:
        self._cpu, self._peak = cpu, peak_mib
        self.results: list[Result] = []

    def run(self, work: str, act: Callable[[], None], rounds: int = 3) -> None:
        """Do a piece of work some times and keep the round that took the least CPU time."""
        found = []
        for _ in range(rounds):
            cpu, wall = self._cpu(), time.perf_counter()
            act()
            found.append((self._cpu() - cpu, time.perf_counter() - wall))
        self.results.append(Result(work, *min(found), self._peak()))


class Client:
    """HTTP over one connection, as lean as can be: it is the host that is measured."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._answers = self._socket.makefile("rb")

    def send(self, method: str, path: str, body: str = "") -> Any:
        """Send JSON, return what comes back."""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self._socket.sendall(f"{head}\r\n\r\n{body}".encode())
        length = 0
        while (line := self._answers.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        return json.loads(self._answers.read(length))


def measure_devhost(quick: bool) -> tuple[list[Result], tuple[float, float]]:
    from scripts.host_process import HostProcess

    def status(field: str) -> int:
        return int(Path(f"/proc/{host.pid}/status").read_text().partition(f"{field}:")[2].split()[0])

    def cpu() -> float:
        user, system = Path(f"/proc/{host.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(system)) / 100 + time.process_time()

    def begin(name: str, count: int = 0, *, wait: bool = True) -> Any:
        query = "?timeout=600&pollingInterval=1" if wait else ""
        return client.send("POST", f"{START}/{name}{query}", json.dumps({"count": count}))

    def many() -> None:
        for _ in range(CONCURRENT):
            begin("chain", wait=False)
        while True:
            if client.send("GET", "/runtime/webhooks/durabletask/instances?runtimeStatus=Pending,Running&top=1") == []:
                return
            time.sleep(0.05)

    with tempfile.TemporaryDirectory() as folder, HostProcess(APP, folder) as host:
        client = Client(int(host.url.rpartition(":")[2]))
        begin("chain")
        meter = Meter(cpu, lambda: status("VmHWM") / 1024)
        meter.run(f"{CHAINS} chains of 2", lambda: [begin("chain") for _ in range(CHAINS)] and None)
        meter.run(f"fan-out of {FAN_OUT}", lambda: _expect(begin("fan_out", FAN_OUT), sum(range(1, FAN_OUT + 1))))
        meter.run(f"{CONCURRENT} instances at once", many)
        if quick:
            return meter.results, (0.0, 0.0)
        meter.run(f"sequence of {SEQUENCE}", lambda: _expect(begin("sequence", SEQUENCE), SEQUENCE), 1)
        host.stop()
        return meter.results, (meter.results[-1].cpu_seconds, sdk_alone(Path(folder)))


def sdk_alone(data: Path) -> float:
    """CPU seconds of the Functions SDK for the recorded sequence, episode by episode, without any host."""
    sys.path.insert(0, str(APP))
    import function_app  # type: ignore[import-not-found]

    (orchestrator,) = (f for f in function_app.app.get_functions() if f.get_function_name() == "sequence")
    with sqlite3.connect(data / "hub.sqlite") as hub:
        (instance,) = hub.execute("SELECT id FROM instances WHERE name='sequence'").fetchone()
        rows = hub.execute("SELECT event FROM history WHERE instance=? ORDER BY seq", (instance,))
        texts = [text for (text,) in rows]
    kinds = [json.loads(text)["EventType"] for text in texts]
    handle = orchestrator.get_user_function()
    count = json.dumps({"count": SEQUENCE})
    began = time.process_time()
    for at, kind in enumerate(kinds):
        if at + 1 == len(kinds) or kind == 12:  # an episode is sent up to its new messages
            end = next((i for i in range(at + 1, len(kinds)) if kinds[i] in (4, 1, 13)), len(kinds))
            if kind == 12:
                handle(
                    f'{{"history":[{",".join(texts[:end])}],"input":{count},"instanceId":"x","isReplaying":true,'
                    '"parentInstanceId":null,"upperSchemaVersion":1,"upperSchemaVersionNew":2}'
                )
    return time.process_time() - began


def measure_durabletask(quick: bool) -> list[Result]:
    """Run in a process of its own, see `main`."""
    from durabletask.client import TaskHubGrpcClient
    from durabletask.testing import create_test_backend
    from durabletask.worker import TaskHubGrpcWorker

    logging.disable(logging.WARNING)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    backend = create_test_backend(port=port)
    address = f"localhost:{port}"
    client, worker = TaskHubGrpcClient(host_address=address), TaskHubGrpcWorker(host_address=address)

    def step(_context: Any, n: int) -> int:
        return n + 1

    def chain(context: Any, _given: Any) -> Any:
        first = yield context.call_activity(step, input=1)
        return (yield context.call_activity(step, input=first))

    def fan_out(context: Any, count: int) -> Any:
        from durabletask.task import when_all

        return sum((yield when_all([context.call_activity(step, input=n) for n in range(count)])))

    def sequence(context: Any, count: int) -> Any:
        value = 0
        for _ in range(count):
            value = yield context.call_activity(step, input=value)
        return value

    for function in (chain, fan_out, sequence):
        worker.add_orchestrator(function)
    worker.add_activity(step)
    worker.start()

    def finish(instance: str) -> Any:
        state = client.wait_for_orchestration_completion(instance, timeout=600)
        assert state is not None and state.serialized_output is not None, state
        return json.loads(state.serialized_output)

    def many() -> None:
        for instance in [client.schedule_new_orchestration(chain, input=0) for _ in range(CONCURRENT)]:
            finish(instance)

    finish(client.schedule_new_orchestration(chain, input=0))
    meter = Meter(time.process_time, lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    meter.run(f"{CHAINS} chains of 2", lambda: [finish(client.schedule_new_orchestration(chain, input=0))
                                               for _ in range(CHAINS)] and None)  # fmt: skip
    meter.run(
        f"fan-out of {FAN_OUT}",
        lambda: _expect(finish(client.schedule_new_orchestration(fan_out, input=FAN_OUT)), sum(range(1, FAN_OUT + 1))),
    )
    meter.run(f"{CONCURRENT} instances at once", many)
    if not quick:
        meter.run(
            f"sequence of {SEQUENCE}",
            lambda: _expect(finish(client.schedule_new_orchestration(sequence, input=SEQUENCE)), SEQUENCE),
            1,
        )
    worker.stop()
    backend.stop()
    return meter.results


def _expect(found: Any, wanted: Any) -> None:
    assert found == wanted, f"{found!r} instead of {wanted!r}"


def compare(quick: bool = False) -> dict[str, Any]:
    """Run both engines; returns their results, the CPU ratios and the host's share of the sequence."""
    other = subprocess.run([sys.executable, "-m", "benchmarks.devhost", "--only-durabletask", *(["--quick"] * quick)],
                           capture_output=True, text=True, check=True, cwd=APP.parent.parent)  # fmt: skip
    theirs = [Result(**item) for item in json.loads(other.stdout.splitlines()[-1])]
    ours, (whole, sdk) = measure_devhost(quick)
    return {
        "devhost": [asdict(r) for r in ours],
        "durabletask": [asdict(r) for r in theirs],
        "cpu_ratio": {a.work: a.cpu_seconds / b.cpu_seconds for a, b in zip(ours, theirs, strict=True)},
        "host_share_of_sequence": whole / sdk - 1 if sdk else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without the sequence")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only-durabletask", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only_durabletask:
        print(json.dumps([asdict(r) for r in measure_durabletask(given.quick)]))
        return
    found = compare(given.quick)
    if given.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{'':<24}{'devhost':>26}{'durabletask (memory)':>26}")
    print(f"{'':<24}{'CPU s':>10}{'wall s':>8}{'MiB':>8}{'CPU s':>10}{'wall s':>8}{'MiB':>8}{'CPU ratio':>12}")
    for a, b in zip(found["devhost"], found["durabletask"], strict=True):
        cells = [f"{r['cpu_seconds']:>10.2f}{r['wall_seconds']:>8.2f}{r['peak_mib']:>8.0f}" for r in (a, b)]
        print(f"{a['work']:<24}{''.join(cells)}{found['cpu_ratio'][a['work']]:>12.2f}")
    share = found["host_share_of_sequence"]
    if share is not None:
        print(f"The whole sequence takes {1 + share:.2f} x the CPU of the Functions SDK's own replay of it.")


if __name__ == "__main__":
    main()
