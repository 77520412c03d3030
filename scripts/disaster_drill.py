"""Disaster recovery, practised: lose a store, rebuild it from what is left, compare byte by byte.

python -m scripts.disaster_drill [--data DIR]   of a finished `make run SAMPLE=local_testing ONCE=1`; else one is made

1. results    the result database is deleted and written again from the run ledger
2. task hub   the host is killed in the middle of a run and its hub deleted; the same start request goes on with the run
3. zones      the conditioned and curated containers are emptied and made again from the landing zone

Exit 1 if anything differs. Times and volatile columns (when a pointer was switched) are not compared.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adapters.lake import BlobLake, connect
from domain import lake_paths
from scripts.host_process import HostProcess

ROOT = Path(__file__).resolve().parent.parent
WEEK = "2017-W45"
SAMPLE = "local_testing"
VOLATILE = {"switched_at", "applied_at"}
Content = dict[str, str]  # name -> hash of what must come back


def digest(data: bytes) -> str:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def zone_content(lake: BlobLake, container: str, ending: str = ".csv") -> Content:
    """Return the hash of every data file of a container."""
    return {
        f"{container}/{blob.path}": digest(lake.read(container, blob.path).data)
        for blob in lake.list(container)
        if blob.path.endswith(ending)
    }


def table_content(database: Path) -> Content:
    """Return the hash of every row of every table, without the volatile columns."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {}
        for table in sorted(tables):
            cursor = connection.execute(f'SELECT * FROM "{table}"')  # noqa: S608 (names come from the database)
            names = [column[0] for column in cursor.description]
            keep = [index for index, name in enumerate(names) if name not in VOLATILE]
            rows = sorted(json.dumps([row[index] for index in keep], default=str) for row in cursor)
            found[f"{table} ({len(rows)} rows)"] = digest("\n".join(rows).encode())
        return found


class Drill:
    """One system on a data folder, its losses and its recoveries."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.settings = {
            "DATA_DIR": str(data / "local"),
            "SCENARIO_FILE": "config/scenario.json",
            "TELEMETRY_BACKEND": "none",
            "TRAIN_EFFORT": "quick",
            "CODE_VERSION": "drill",
        }
        self.host = HostProcess(ROOT, data, env=self.settings)
        self.report: list[tuple[str, float, int, int]] = []

    @property
    def lake_connection(self) -> str:
        """Connection string of the host's storage emulator."""
        azurite: Mapping[str, Any] = json.loads((self.data / "host.json").read_text("utf-8"))["azurite"]
        return str(azurite["connection_string"])

    def lake(self) -> BlobLake:
        """The lake of the running host."""
        return connect(self.lake_connection)

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Call a route of the app."""
        key = json.loads((self.data / "keys.json").read_text("utf-8"))["master"]
        status, document, _ = self.host.call(method, f"/api/{path}", body, {"x-functions-key": key}, timeout=600)
        return status, document

    def practise(self, name: str, before: Content, recover: Callable[[], Content]) -> None:
        """Time a recovery and count what differs afterwards."""
        began = time.monotonic()
        after = recover()
        seconds = time.monotonic() - began
        different = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        self.report.append((name, seconds, len(before), len(different)))
        print(f"{name}: recovered in {seconds:.1f} s, {len(before)} compared, {len(different)} different", flush=True)
        for key in different[:10]:
            print(f"  {key}")

    def run(self) -> int:
        """Practise the three losses; return the exit code."""
        self.host.start()
        try:
            self._lose_results()
            self._lose_task_hub()
            self._lose_zones()
        finally:
            self.host.stop()
        return 1 if any(different for *_, different in self.report) else 0

    def _lose_results(self) -> None:
        database = self.data / "local" / "results.sqlite"
        before = table_content(database)
        self.host.stop()
        for file in database.parent.glob("results.sqlite*"):
            file.unlink()
        self.host.start()

        def recover() -> Content:
            environment = {**os.environ, **self.settings, "LAKE": self.lake_connection}
            subprocess.run([sys.executable, "-m", "scripts.rebuild_results"], cwd=ROOT, env=environment, check=True)
            return table_content(database)

        self.practise("results database", before, recover)

    def _lose_task_hub(self) -> None:
        """Kill the host while a run scores, delete the hub, send the same request again."""
        before = zone_content(self.lake(), lake_paths.PUBLISHED)
        wish = {"kind": "score", "sales_week": WEEK, "reason": "drill"}
        status, started = self.call("POST", "runs", wish)
        if status != 202:
            raise RuntimeError(f"the run did not start: {status} {started}")
        run_id = started["run_id"]
        self._until(lambda: self.call("GET", f"runs/{run_id}")[1]["steps"][1]["status"] == "succeeded", 120)
        self.host.kill()
        for file in self.data.glob("hub.sqlite*"):
            file.unlink()

        def recover() -> Content:
            self.host.start()
            again = self.call("POST", "runs", wish)[1]
            if again["run_id"] != run_id or again["is_new"]:
                raise RuntimeError(f"another run was started: {again}")
            self._until(lambda: self.call("GET", f"runs/{run_id}/wait")[0] == 200, 300)
            outcome = self.call("GET", f"runs/{run_id}/wait")[1]
            if outcome["status"] not in ("succeeded", "degraded"):
                raise RuntimeError(f"the run ended {outcome}")
            return zone_content(self.lake(), lake_paths.PUBLISHED)

        self.practise("task hub, killed in a run", before, recover)

    def _lose_zones(self) -> None:
        lake = self.lake()
        zones = (lake_paths.CONDITIONED, lake_paths.CURATED)
        before = {key: value for zone in zones for key, value in zone_content(lake, zone).items()}
        for zone in zones:
            for blob in lake.list(zone):
                lake.delete(zone, blob.path)

        def recover() -> Content:
            for source in self.call("GET", "sources")[1]["sources"]:
                status, outcome = self.call(
                    "POST", f"condition/{source['name']}", {"sales_week": WEEK, "reason": "drill: zones lost"}
                )
                if status != 200:
                    raise RuntimeError(f"conditioning {source['name']} answered {status}: {outcome}")
            code = (
                "from bootstrap import services; from conditioning.curate import curate_week; "
                f"print(curate_week(services(), {{'sales_week': '{WEEK}'}})['folder'])"
            )
            environment = {**os.environ, **self.settings, "LAKE": self.lake_connection}
            subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
            return {key: value for zone in zones for key, value in zone_content(lake, zone).items()}

        self.practise("conditioned and curated zones", before, recover)

    @staticmethod
    def _until(is_done: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not is_done():
            if time.monotonic() > deadline:
                raise TimeoutError(f"did not happen within {seconds} s")
            time.sleep(0.1)


def main(arguments: list[str] | None = None) -> int:
    """Make a system unless one is given, practise on a copy, report."""
    parser = argparse.ArgumentParser(description="Lose the results, the task hub and two zones; rebuild; compare.")
    parser.add_argument("--data", type=Path, help="data folder of a finished run, left as it is")
    wish = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="drill-") as folder:
        if wish.data:
            left_out = shutil.ignore_patterns("host.json", "doorbell", "*.lock")
            shutil.copytree(wish.data, Path(folder) / SAMPLE, ignore=left_out)
        else:
            print("making a system: a week of the local testing data set", flush=True)
            command = [sys.executable, "-m", "samples.demo", "--sample", SAMPLE, "--once", "--port", "0"]
            command += ["--data", folder]
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        code = Drill(Path(folder) / SAMPLE).run()
    print("disaster drill: " + ("everything came back" if code == 0 else "NOT everything came back"))
    return code


if __name__ == "__main__":
    sys.exit(main())
