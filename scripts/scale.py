"""The whole chain at a size: synthetic deliveries landed, conditioned, trained, scored and published on this machine.

python -m scripts.scale [--stores 2000] [--products 50] [--weeks 104] [--effort quick]

Prints of each step the wall time, the processor time and the largest resident memory, of everything that ran (host,
storage emulator, job agent and jobs) and of the largest single process. docs/scaling.md says what changes at a hundred
times the size.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from adapters.lake import connect
from domain import lake_paths
from domain.sales_weeks import SalesWeek
from samples.demo_drop import wait_for_outcomes
from scripts.host_process import HostProcess

ROOT = Path(__file__).resolve().parent.parent
WEEK = SalesWeek.parse("2018-W52")
REGIONS = 14
SAMPLE_SECONDS = 0.5


@dataclass(frozen=True)
class Sample:
    """All processes at one moment: processor seconds since the start, resident bytes together and of the largest."""

    at: float
    cpu_seconds: float
    resident: int
    largest: int


class Meter:
    """Processor seconds and resident memory of a process, all its descendants and job agents, over time."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._roots = {pid}
        self._folder = str(folder)
        self._cpu: dict[tuple[int, float], float] = {}
        self._samples: list[Sample] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def line(self, name: str, began: float, ended: float) -> str:
        """Return what was used between two times, as text; a process that lived under half a second may be missing."""
        before = [one for one in self._samples if one.at < began]
        during = [one for one in self._samples if began <= one.at <= ended]
        during += [one for one in self._samples if one.at > ended][:1]  # a step may be shorter than a gap
        used = during[-1].cpu_seconds - (before[-1].cpu_seconds if before else 0.0) if during else 0.0
        together = max((one.resident for one in during), default=0)
        largest = max((one.largest for one in during), default=0)
        return (
            f"{name:<16} {ended - began:8.1f} s wall {used:8.1f} s processor "
            f"{together / 1e6:8,.0f} MB all {largest / 1e6:8,.0f} MB largest"
        )

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join(5)

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            resident = [0]
            for process in self._ours():
                try:
                    times, memory = process.cpu_times(), process.memory_info().rss
                    self._cpu[(process.pid, float(process.info["create_time"]))] = times.user + times.system
                    resident.append(memory)
                except psutil.Error:
                    continue
            self._samples.append(Sample(time.time(), sum(self._cpu.values()), sum(resident), max(resident)))

    def _ours(self) -> Iterator[Any]:
        """Processes of the tree, and detached ones that name the data folder on their command line."""
        listed = list(psutil.process_iter(["ppid", "cmdline", "create_time"]))
        ours = set(self._roots)
        for process in sorted(listed, key=lambda one: float(one.info["create_time"] or 0)):  # parents come first
            command = " ".join(process.info["cmdline"] or [])
            if process.pid in ours or process.info["ppid"] in ours or self._folder in command:
                ours.add(process.pid)
                yield process


class Scale:
    """One system of a given size."""

    def __init__(self, folder: Path, wish: argparse.Namespace) -> None:
        self.folder, self.wish = folder, wish
        self.rows = 0
        settings = {"DATA_DIR": str(folder / "local"), "TELEMETRY_BACKEND": "none", "TRAIN_EFFORT": wish.effort}
        scenario = json.loads((ROOT / "config" / "scenario.json").read_text("utf-8"))
        scenario["sources"] = {name: scenario["sources"][name] for name in ("deliveries", "stores", "products")}
        scenario["history_start"] = str(WEEK.plus(-wish.weeks))
        file = folder / "scenario.json"
        file.write_text(json.dumps(scenario))
        self.host = HostProcess(ROOT, folder / "host", env={**settings, "SCENARIO_FILE": str(file)})

    def run(self) -> int:
        """Do everything; return 0 if the week was published."""
        self.host.start()
        began = time.time()
        meter = Meter(self.host.pid, self.folder)
        try:
            return self._chain(meter)
        finally:
            meter.stop()
            self.host.stop()
            print(meter.line("whole", began, time.time()))

    def _chain(self, meter: Meter) -> int:
        lake = connect(str(self.host.state.azurite["connection_string"]) if self.host.state.azurite else "")
        lake.ensure_containers(lake_paths.CONTAINERS)
        raw = self.folder / "raw"
        with self._timed("generate", meter):
            paths = self._generate(raw)
        with self._timed("condition", meter):  # files are conditioned as they arrive
            for path in paths:
                lake.write(lake_paths.LANDING, path, (raw / path).read_bytes())
            wait_for_outcomes(lake, set(paths), lambda _: None, lambda: None)
        with self._timed("run", meter):
            _, started, _ = self.host.call(
                "POST", "/api/runs", {"kind": "weekly", "sales_week": str(WEEK), "reason": "scale"}
            )
            while self.host.call("GET", f"/api/runs/{started['run_id']}/wait")[0] == 202:
                time.sleep(2)
        status, run, _ = self.host.call("GET", f"/api/runs/{started['run_id']}")
        if status != 200:
            raise RuntimeError(f"the run cannot be read ({status}): {run}")
        for step in run["steps"]:
            if step["ended_at"]:
                began, ended = (datetime.fromisoformat(step[key]).timestamp() for key in ("started_at", "ended_at"))
                print(f"{meter.line('  ' + step['name'], began, ended)}  {step['status']}: {step['message'][:90]}")
        print(f"{run['status']}: {run['message']}; {self.rows:,} delivery rows")
        return 0 if run["status"] in ("succeeded", "degraded") else 1

    @contextmanager
    def _timed(self, name: str, meter: Meter) -> Iterator[None]:
        began = time.time()
        yield
        print(meter.line(name, began, time.time()), flush=True)

    def _generate(self, raw: Path) -> list[str]:
        """Write every file as a provider would send it; return their paths in the landing zone, oldest first."""
        random.seed(7)
        stores = [f"S{number:05d}" for number in range(self.wish.stores)]
        products = [f"{1000 + number}" for number in range(self.wish.products)]
        weeks = [WEEK.plus(back) for back in range(-self.wish.weeks, 0)]
        places = [(s, f"r{1 + i % REGIONS:02d}", ("large", "small")[i // REGIONS % 2]) for i, s in enumerate(stores)]
        tables: dict[str, tuple[str, Iterator[str]]] = {
            f"stores/{weeks[-1]}/stores.csv": (
                "STORE_NBR,REGION,FORMAT,ZIP,OPENED,CLOSED", (f"{s},{r},{f},,," for s, r, f in places),
            ),
            f"products/{weeks[-1]}/products.csv": (
                "ITEM_CD,ITEM_NAME,DEPARTMENT,CATEGORY,BRAND,PACK",
                (f"{p},item {p},GROCERY,all,own,1" for p in products),
            ),
        }
        header = "store,document,department,item,delivered_on,units,amount"
        for number, week in enumerate(weeks):
            rows = self._deliveries(week, number, stores, products)
            tables[f"deliveries/{week}/deliveries.csv"] = header, rows
        for path, (head, lines) in tables.items():
            file = raw / path
            file.parent.mkdir(parents=True)
            file.write_text("\n".join([head, *lines, ""]), "utf-8")
        return list(tables)

    def _deliveries(self, week: SalesWeek, number: int, stores: list[str], products: list[str]) -> Iterator[str]:
        day = (week.monday + timedelta(days=2)).isoformat()
        season = 1 + 0.3 * ((number % 52) / 26 - 1) ** 2
        for i, store in enumerate(stores):
            for j, product in enumerate(products):
                units = round((2 + i % 7) * (1 + j % 5) * season * random.uniform(0.7, 1.3))  # noqa: S311
                self.rows += 1
                yield f"{store},D{number}-{i},GROCERY,{product},{day},{units},{units}.00"


def main(arguments: list[str] | None = None) -> int:
    """Run the chain at the size asked for."""
    parser = argparse.ArgumentParser(description="Run the whole chain on synthetic data of a given size.")
    parser.add_argument("--stores", type=int, default=2000)
    parser.add_argument("--products", type=int, default=50)
    parser.add_argument("--weeks", type=int, default=104)
    parser.add_argument("--effort", choices=("quick", "standard"), default="quick")
    wish = parser.parse_args(arguments)
    size: dict[str, Any] = vars(wish)
    print("scale: " + ", ".join(f"{name} {value}" for name, value in size.items()), flush=True)
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        return Scale(Path(folder), wish).run()


if __name__ == "__main__":
    sys.exit(main())
