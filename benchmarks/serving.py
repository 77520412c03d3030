"""The online scorer with every model of Complete Journey: `python -m benchmarks.serving [--models DIR --data DIR]`.

Azure ML's inference server runs our scoring script with all models in memory. Each request names a store and gets
its whole assortment. Printed: percentiles of the answer as a client sees it and as the scorer states it, CPU and memory
of the server; and, for the largest segment, the ONNX graph against the native ensemble in the same process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np

from benchmarks.complete_journey_panels import write_panels
from domain.sales_weeks import SalesWeek
from ml_jobs.export_onnx import export_and_check
from ml_jobs.forecasting.panel import read_panel
from ml_jobs.forecasting.scoring import model_folders
from ml_jobs.forecasting.serving import FEATURE_FILE
from tests.ml_jobs.inference_server import inference_server

ROOT = Path(__file__).resolve().parent.parent
CUTOFF = SalesWeek(2017, 50)
TICK = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--data", type=Path, help="input folder; default: Complete Journey, store x category")
    parser.add_argument("--models", type=Path, help="models trained from it up to 2017-W50; default: train them now")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        data = options.data or write_panels(work / "panels")["store"]
        models = options.models or work / "models"
        if not options.models:
            _run("train", "--data", data, "--cutoff", CUTOFF, "--out", models)
        _run("score", "--data", data, "--models", models, "--week", CUTOFF.plus(1), "--out", work / "forecasts.csv",
             "--features", models / FEATURE_FILE)
        stores = read_panel(data, CUTOFF).stores
        with inference_server(models) as base:
            measure(base, models, [stores[i % len(stores)] for i in range(options.requests)])
        largest = max((folder for folder in model_folders(models).values() if (folder / "data/arrays.npz").is_file()),
                      key=lambda folder: json.loads((folder / "metrics.json").read_text())["series"])
        facts = export_and_check(largest)
        print(f"ONNX of {largest.name}: {facts['rows']} rows in {facts['onnx_ms']} ms, native {facts['native_ms']} ms, "
              f"ratio {facts['ratio']}, largest relative difference {facts['difference']:.1e}")


def _run(module: str, *arguments: object) -> None:
    subprocess.run([sys.executable, "-m", f"ml_jobs.{module}", *map(str, arguments)], check=True, cwd=ROOT,
                   stdout=subprocess.DEVNULL)


def measure(base: str, models: Path, stores: list[str]) -> None:
    ask(base, stores[0])
    before = _server_usage(models)
    answers = [ask(base, store) for store in stores]
    after = _server_usage(models)
    rows = [rows for _, _, rows in answers]
    print(f"{len(list(models.glob('*/MLmodel')))} models, {len(stores)} requests, "
          f"{statistics.median(rows):.0f} forecasts in the median answer, {max(rows)} in the largest")
    for name, times in (("client", [times[0] for times in answers]), ("scorer", [times[1] for times in answers])):
        p50, p95, p99 = np.percentile(times, [50, 95, 99])
        print(f"{name}: p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms")
    print(f"server: {1000 * (after[0] - before[0]) / len(stores):.1f} ms of CPU a request, {after[1]:.0f} MB of memory")


def ask(base: str, store: str) -> tuple[float, float, int]:
    """Return the client's milliseconds, the scorer's own, and how many forecasts came back."""
    request = urllib.request.Request(f"{base}/score", json.dumps({"store_id": store}).encode(),
                                     {"Content-Type": "application/json"})
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    return (time.perf_counter() - began) * 1000, sum(answer["timing_ms"].values()), len(answer["forecasts"])


def _server_usage(models: Path) -> tuple[float, float]:
    """Return CPU seconds and MB of resident memory of the server's processes, found by their model folder."""
    cpu = memory = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            mine = f"AZUREML_MODEL_DIR={models}\0".encode() in (folder / "environ").read_bytes() + b"\0"
            times = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            pages = int((folder / "statm").read_text().split()[1])
        except OSError:
            continue
        if mine:
            cpu += (int(times[11]) + int(times[12])) / TICK
            memory += pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return cpu, memory


if __name__ == "__main__":
    main()
