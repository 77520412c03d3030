"""Cost of training and scoring by size: `python -m benchmarks.forecasting_scale [--stores 500,1000,2000]`.

The local testing data set (32 weeks, 560 series), then seeded synthetic deliveries in 14 regions and two formats; every
segment is a process of its own, as in a weekly run. Printed: wall and CPU seconds and peak memory of each segment's
training; of each size pretrain, all segments, one scoring job; and how CPU grows with rows between the sizes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from domain.sales_weeks import SalesWeek
from samples.local_testing.demand import units_of
from samples.local_testing.world import products, stores

ROOT = Path(__file__).resolve().parent.parent
FIRST, WEEKS, PRODUCTS = SalesWeek(2017, 1), 60, 30
SEGMENTS = [f"r{region:02d}-{store_format}-{velocity}" for region in range(1, 15) for store_format in ("large", "small")
            for velocity in ("fast", "slow")]


@dataclass(frozen=True)
class Cost:
    """What one process took: seconds of the clock and of the processor, peak resident MB."""

    wall: float
    cpu: float
    megabytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", default="500,1000,2000", help="sizes of the synthetic sets")
    parser.add_argument("--effort", default="standard", choices=["standard", "quick"])
    parser.add_argument("--segments", type=int, default=len(SEGMENTS), help="how many of the 56 segments to train")
    options = parser.parse_args()
    keys = SEGMENTS[:options.segments]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        measure("local testing", folder, local_testing(folder / "data"), SalesWeek(2017, 44), keys, options.effort)
    points = []
    for count in (int(text) for text in options.stores.split(",")):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            rows = generate(folder / "data", count)
            cpu = measure(f"{count} stores", folder, rows, FIRST.plus(WEEKS - 1), keys, options.effort)
            points.append((rows, cpu))
    for (rows, cpu), (more_rows, more_cpu) in pairwise(points):
        print(f"{rows:,} -> {more_rows:,} rows: {more_rows / rows:.2f} times the rows, "
              f"{more_cpu / cpu:.2f} times the processor time")


def measure(name: str, folder: Path, rows: int, cutoff: SalesWeek, keys: list[str], effort: str) -> float:
    """Print the costs of one data set; return the CPU seconds of all training together."""
    common = ["--data", str(folder / "data")]
    fit = [*common, "--cutoff", str(cutoff), "--effort", effort]
    pooled = str(folder / "pooled")
    print(f"{name}: {rows:,} rows, {effort} effort")
    pretrain = run("pretrain", *fit, "--out", pooled)
    costs = {}
    for key in keys:
        costs[key] = run("train", *fit, "--out", str(folder / "models"), "--segments", key, "--pooled", pooled)
        print(f"  {key:<16} {costs[key].wall:7.2f} s wall {costs[key].cpu:7.2f} s processor "
              f"{costs[key].megabytes:6.0f} MB", flush=True)
    score = run("score", *common, "--models", str(folder / "models"), "--week", str(cutoff.plus(1)), "--out",
                str(folder / "forecasts.csv"))
    cpu = [cost.cpu for cost in costs.values()]
    print(f"{name}: pretrain {pretrain.cpu:.1f} s processor, {pretrain.megabytes:.0f} MB; {len(keys)} segments "
          f"{sum(cost.wall for cost in costs.values()):.0f} s wall one after the other, {sum(cpu):.1f} s processor "
          f"(median {statistics.median(cpu):.2f}, largest {max(cpu):.2f}), "
          f"{max(cost.megabytes for cost in costs.values()):.0f} MB; "
          f"score all {score.cpu:.1f} s processor, {score.megabytes:.0f} MB", flush=True)
    return pretrain.cpu + sum(cpu)


def run(module: str, *arguments: str) -> Cost:
    """Run one job and measure it."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", f"ml_jobs.{module}", *arguments], cwd=ROOT,
                               stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{module} failed")
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def local_testing(folder: Path) -> int:
    """Write the local testing data set as it is before its files are spoiled; return the number of delivery rows."""
    deliveries = [{"store_id": store, "product_id": product, "sales_week": str(week), "units": units}
                  for week in (SalesWeek(2017, 13).plus(index) for index in range(32))
                  for (store, product), units in units_of(week).items() if units]
    write(folder / "deliveries.csv", deliveries)
    write(folder / "stores.csv", ({"store_id": store.store_id, "region": store.region.name,
                                   "store_format": store.store_format} for store in stores()))
    write(folder / "products.csv", ({"product_id": product.product_id, "category": product.category}
                                    for product in products()))
    return len(deliveries)


def generate(folder: Path, count: int) -> int:
    """Write deliveries and stores of a synthetic business; return the number of delivery rows."""
    generator = np.random.default_rng(11)
    level = generator.lognormal(0.8, 0.9, (count, PRODUCTS, 1))
    season = 1 + 0.2 * np.sin(np.arange(WEEKS) / 52 * 2 * np.pi)
    units = generator.poisson(level * season)
    store, product, week = np.nonzero(units)
    weeks = np.array([str(FIRST.plus(index)) for index in range(WEEKS)])
    write(folder / "deliveries.csv", (
        {"store_id": f"s{s:05d}", "product_id": f"p{p:03d}", "sales_week": w, "units": u}
        for s, p, w, u in zip(store, product, weeks[week], units[store, product, week], strict=True)
    ))
    write(folder / "stores.csv", (
        {"store_id": f"s{s:05d}", "region": f"r{s % 14 + 1:02d}", "store_format": "large" if s // 14 % 2 else "small"}
        for s in range(count)
    ))
    return len(store)


def write(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write a CSV; no value here needs quoting."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        for number, row in enumerate(rows):
            if not number:
                handle.write(",".join(row) + "\n")
            handle.write(",".join(map(str, row.values())) + "\n")


if __name__ == "__main__":
    main()
