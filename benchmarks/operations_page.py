"""The operators' page and its API with a full store: `python -m benchmarks.operations_page [--quick]`.

A real local host (Azurite, SQLite) is filled with 1,000 runs, 200,000 published forecasts, a year of deliveries of as
many pairs, 84 models of twelve versions each, and then asked: each route in CPU seconds of the host's process, the page
in headless Chromium by wall time and bytes on the wire. The peer of each route is `GET /api/health`: the same host,
the same storage, one small read.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from adapters.lake import BlobLake, connect
from adapters.registry_mlflow import MlflowRegistry
from adapters.results import open_results
from conditioning.raw_row_index import RawRows
from dashboard.screenshots import chromium_path
from domain import lake_paths
from domain.sales_weeks import SalesWeek
from orchestrators.registry_names import model_name
from scripts.host_process import HostProcess

ROOT = Path(__file__).resolve().parent.parent
LAST = SalesWeek.parse("2017-W45")
NOW = datetime(2017, 11, 6, 9, tzinfo=UTC)
REGIONS, FORMATS = [f"r{number:02d}" for number in range(1, 15)], ("large", "small")
ROUNDS, WRITERS = 5, 8
CPU_SECONDS = 0.5  # a route is called until it has taken that much: the clock of a process's CPU ticks every 10 ms
# Runs before the page's own scripts: when the figures stand, and when nothing is waited for any more, both since the
# address was entered. The driver's own look at the page would cost more than what is measured.
WATCH = """new MutationObserver(() => {
  const main = document.querySelector("main");
  if (!main?.matches("[aria-busy=false]") || !main.querySelector(".figures")) return;
  window.usable ??= performance.now();
  if (!main.querySelector(".skeleton, .grid .muted")) window.complete ??= performance.now();
}).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["aria-busy"] });"""
BEFORE_USABLE = """1 + performance.getEntriesByType("resource")
  .filter((one) => one.responseEnd <= window.usable).length"""


class Store:
    """The sizes of one filled store, and how it is filled."""

    def __init__(self, runs: int, stores: int, products: int, weeks: int, versions: int) -> None:
        self.runs, self.stores, self.products, self.weeks, self.versions = runs, stores, products, weeks, versions
        self.pairs = [(f"{store:05d}", f"{product:07d}") for store in range(stores) for product in range(products)]
        self.folder = f"{LAST}/{'a' * 16}/"

    def segment(self, store: int, product: int) -> str:
        """Return the segment of a pair: stores in turn over regions and formats, products over velocities."""
        return f"{REGIONS[store % 14]}-{FORMATS[store // 14 % 2]}-{('fast', 'slow')[product % 2]}"

    def fill(self, lake: BlobLake, data: Path) -> None:
        """Write everything; takes a minute or two at full size."""
        self._curated(lake)
        forecasts = self._published(lake)
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(lambda back: self._run(lake, back), range(self.runs)))
        results = open_results(f"sqlite:///{data / 'results.sqlite'}")
        results.write_forecasts(f"weekly-{LAST}-a1", str(LAST), iter(forecasts))
        results.set_current(str(LAST), f"weekly-{LAST}-a1")
        results.close()
        self._models(data)

    def _curated(self, lake: BlobLake) -> None:
        """A year of deliveries as the run pinned them, and their index."""
        index, pins = RawRows(), {}
        stores, products = ([pair[place] for pair in self.pairs] for place in (0, 1))
        rows = [str(number) for number in range(1, len(self.pairs) + 1)]
        for back in range(self.weeks, 0, -1):
            week = LAST.plus(-back)
            pins[str(week)] = sha256(str(week).encode()).hexdigest()[:16]
            day, file = [week.monday.isoformat()] * len(rows), [f"dsd_{week}.csv"] * len(rows)
            index.add(str(week), pa.table({
                "store_id": stores, "product_id": products, "delivery_date": day, "units": rows, "source_file": file,
                "source_row": rows,
            }))
            lake.write_json(lake_paths.CONDITIONED, f"deliveries/{week}/current.json", {"data_version": "v"})
        index.write(lake, lake_paths.CURATED, lake_paths.raw_row_index(self.folder))
        lake.write_json(lake_paths.CURATED, f"{self.folder}manifest.json", {
            "pins": {"deliveries": pins}, "raw_files": index.files, "as_of_version": "a" * 16,
        })

    def _published(self, lake: BlobLake) -> list[dict[str, Any]]:
        rows = []
        for number, (store_id, product_id) in enumerate(self.pairs):
            segment = self.segment(number // self.products, number % self.products)
            rows.append({
                "store_id": store_id, "product_id": product_id, "sales_week": str(LAST), "segment": segment,
                "model": segment, "model_version": "v11", "units": 4.5, "order_units": 6, "failover": "",
            })
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        data = text.getvalue().encode()
        digest = sha256(data).hexdigest()
        folder = lake_paths.published_folder(LAST, digest[:16])
        run_id = f"weekly-{LAST}-a1"
        lake.write(lake_paths.PUBLISHED, f"{folder}forecasts.csv", data)
        lake.write_json(lake_paths.PUBLISHED, f"{folder}manifest.json", {
            "sha256": digest, "run_id": run_id, "publish_version": digest[:16], "rows": len(rows),
        })
        lake.write_json(lake_paths.PUBLISHED, lake_paths.published_current(LAST), {
            "publish_version": digest[:16], "run_id": run_id, "switched_at": "", "history": [],
        })
        return rows

    def _verdicts(self) -> list[dict[str, Any]]:
        return [
            {"segment": f"{region}-{form}-{speed}", "kind": "baseline" if speed == "baseline" else "ensemble",
             "accepted": True, "reasons": [f"MAPE 0.400 <= 0.45, the history average has 0.600 ({region})"],
             "mape": 0.4, "baseline_mape": 0.6, "rmse_0": 0.7, "rmse_all": 2.1, "wape": 0.35, "bias": -0.02,
             "mape_excluded": 31, "mape_reduction": 0.33, "model_version": "v11"}
            for region in REGIONS for form in FORMATS for speed in ("fast", "slow", "baseline")
        ]

    def _run(self, lake: BlobLake, back: int) -> None:
        week, verdicts = LAST.plus(-back), self._verdicts()
        run_id, started = f"weekly-{week}-a1", NOW - timedelta(weeks=back)
        steps = [
            {"name": name, "status": "succeeded", "started_at": (started + timedelta(minutes=n)).isoformat(),
             "ended_at": (started + timedelta(minutes=n + 1)).isoformat(), "message": "done", "counts": {}}
            for n, name in enumerate(("data_gate", "curate", "decide", "pretrain", "train", "accept", "score",
                                      "scoring_gate", "publish", "results"))
        ]
        quality = {"mape": 0.4, "baseline_mape": 0.6, "rmse_0": 0.7, "rmse_all": 2.1, "mape_reduction": 0.33}
        pairs = len(self.pairs)
        jobs = {
            verdict["segment"]: {
                "unit": verdict["segment"], "name": f"{run_id}-{verdict['segment']}", "phase": "succeeded",
                "status": "Completed", "submitted_at": started.isoformat(), "started_at": started.isoformat(),
                "ended_at": started.isoformat(), "error": "", "adopted_from": "", "preempted": 0,
            } for verdict in verdicts
        }
        lineup = {one["segment"]: {"failover": False, "source": "own model", "reason": "", "model": one["segment"]}
                  for one in verdicts if one["kind"] == "ensemble"}
        notes = {
            "run": {
                "schema": "shelfcast.run/1", "run_id": run_id, "kind": "weekly", "sales_week": str(week), "attempt": 1,
                "status": "succeeded", "request": {"reason": "", "requested_by": "adf", "segments": []},
                "correlation_id": f"adf-{back}", "started_at": started.isoformat(), "message": "done", "steps": steps,
                "ended_at": (started + timedelta(minutes=9)).isoformat(), "replay_of": "", "failovers": 0,
                "code_version": "c1", "as_of_version": "a" * 16, "model_quality": quality,
                "folder": lake_paths.datastore_uri(lake_paths.CURATED, self.folder),
                "completeness": {"expected": pairs, "scored": pairs, "explained": {}, "gap": 0},
                "publish": {"version": "p", "rows": pairs, "published_at": started.isoformat(), "path": "p"},
                "cost": {"cost": 1.0, "node_minutes": 200.0, "phases": {}},
            },
            "verdicts": verdicts, "lineup": {"lineup": lineup}, "jobs-train": {"items": jobs},
            "model_quality": {"overall": quality, "groups": []}, "decisions": [], "completeness": {}, "realised": [],
        }
        for name, document in notes.items():
            lake.write_json(lake_paths.RUNS, f"{run_id}/{name}.json", document)

    def _models(self, data: Path) -> None:
        registry = MlflowRegistry(f"sqlite:///{data / 'registry.sqlite'}")
        for verdict in self._verdicts():
            name = model_name(verdict["segment"])
            for version in range(self.versions):
                tags = {"trained_on": "2017-11-05", "verdict": json.dumps(verdict), "run_id": f"weekly-{LAST}-a1"}
                registry.register(name, f"v{version}", "azureml://datastores/models/paths/x/", tags)
            registry.set_stage(name, f"v{self.versions - 1}", "production")


def measure_routes(host: HostProcess, key: str, store: Store) -> dict[str, dict[str, float]]:
    """Return CPU (mean) and wall seconds (median) of calls after a first one, and the kilobytes of each route."""
    store_id, product_id = store.pairs[len(store.pairs) // 3]
    routes = {
        "health": "health", "runs": "runs?limit=50", "runs, all": "runs?limit=1000",
        "one run": f"runs/weekly-{LAST}-a1",
        "models": "models", "one model": f"models/{store.segment(0, 0)}", "sources": "sources",
        "audit": "audit?limit=500", "forecasts": f"forecasts/{LAST}?limit=200",
        "explain": f"explain?sales_week={LAST}&store_id={store_id}&product_id={product_id}",
    }
    process, found = psutil.Process(host.pid), {}
    for name, path in routes.items():
        def call(path: str = path) -> bytes:
            request = urllib.request.Request(f"{host.url}/api/{path}", headers={"x-functions-key": key})
            with urllib.request.urlopen(request, timeout=300) as answer:
                return bytes(answer.read())

        started = time.perf_counter()
        size = len(call())
        first = time.perf_counter() - started
        found[name] = {"first": first, "kilobytes": size / 1000, **_repeated(process, call)}
    return found


def _repeated(process: psutil.Process, call: Callable[[], object]) -> dict[str, float]:
    walls: list[float] = []
    before = used = sum(process.cpu_times()[:2])
    while len(walls) < ROUNDS or used - before < CPU_SECONDS:
        started = time.perf_counter()
        call()
        walls.append(time.perf_counter() - started)
        used = sum(process.cpu_times()[:2])
    return {"wall": statistics.median(walls), "cpu": (used - before) / len(walls)}


def measure_page(host: HostProcess, key: str) -> dict[str, float]:
    """Return when the overview can be used (heading and figures stand), when it is complete, and what all that took.

    Beside the wall time, which other work on the machine stretches: requests, bytes on the wire, CPU of the host, all
    until the page is at rest, so that no page is opened while the one before it still keeps the host busy.
    """
    from playwright.sync_api import sync_playwright

    process, found = psutil.Process(host.pid), []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        for _ in range(ROUNDS + 1):  # the first finds nothing ready, neither in Chromium nor in the host
            context = browser.new_context()
            context.add_init_script(WATCH)
            page = context.new_page()
            wire = context.new_cdp_session(page)
            wire.send("Network.enable")
            received: list[float] = []
            wire.on("Network.loadingFinished", lambda event, to=received: to.append(float(event["encodedDataLength"])))
            cpu = sum(process.cpu_times()[:2])
            page.goto(f"{host.url}/api/ops/?code={key}")
            page.wait_for_load_state("networkidle")
            page.wait_for_function("window.complete")
            found.append({
                "usable": page.evaluate("window.usable") / 1000, "complete": page.evaluate("window.complete") / 1000,
                "first_requests": page.evaluate(BEFORE_USABLE), "requests": len(received),
                "kilobytes": sum(received) / 1000, "cpu": sum(process.cpu_times()[:2]) - cpu,
            })
            context.close()
        browser.close()
    return {name: statistics.median(one[name] for one in found[1:]) for name in found[0]}


def main() -> int:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the store: does it run")
    wanted = parser.parse_args()
    store = Store(20, 20, 100, 6, 2) if wanted.quick else Store(1000, 400, 500, 52, 12)
    with tempfile.TemporaryDirectory(prefix="operations-page-") as place:
        folder = Path(place)
        env = {"DATA_DIR": str(folder / "local"), "CODE_VERSION": "c1", "TELEMETRY_BACKEND": "none"}
        with HostProcess(ROOT, folder / "host", env=env) as host:
            lake = connect(str(host.state.azurite["connection_string"]))  # type: ignore[index]
            lake.ensure_containers(lake_paths.CONTAINERS)
            started = time.perf_counter()
            store.fill(lake, folder / "local")
            sys.stdout.write(f"filled in {time.perf_counter() - started:.0f} s: {store.runs} runs, "
                             f"{len(store.pairs)} forecasts, {store.weeks} weeks of history\n")
            key = json.loads((folder / "host" / "keys.json").read_text("utf-8"))["master"]
            routes = measure_routes(host, key, store)
            peer = routes["health"]["cpu"]
            for name, one in routes.items():
                sys.stdout.write(
                    f"{name:10} {one['cpu']:7.4f} s CPU ({one['cpu'] / peer:5.1f} x health), {one['wall']:6.3f} s, "
                    f"first {one['first']:6.3f} s, {one['kilobytes']:8.1f} kB\n"
                )
            page = measure_page(host, key)
            sys.stdout.write(
                f"page       usable after {page['usable']:.3f} s and {page['first_requests']:.0f} requests, complete "
                f"after {page['complete']:.3f} s; in all {page['requests']:.0f} requests, {page['kilobytes']:.1f} kB "
                f"transferred, {page['cpu']:.3f} s CPU of the host\n"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
