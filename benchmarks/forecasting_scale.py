"""Cost of training and scoring by size: `python -m benchmarks.forecasting_scale [--stores 500,1000,2000]`.

Seeded synthetic deliveries in 14 regions and two formats; every segment and baseline is a process of its own, as in a
weekly run. Printed for each size: CPU seconds and peak memory of pretrain, of the segment jobs, of one scoring job.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from domain.sales_weeks import SalesWeek

ROOT = Path(__file__).resolve().parent.parent
FIRST, WEEKS, PRODUCTS = SalesWeek(2017, 1), 60, 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", default="500,1000,2000")
    parser.add_argument("--segments", type=int, default=56, help="how many of the 56 segments to train")
    options = parser.parse_args()
    print(f"{'stores':>7} {'rows':>9} {'pretrain':>16} {'segment job (median, largest)':>36} {'score all':>16}")
    for stores in (int(text) for text in options.stores.split(",")):
        with tempfile.TemporaryDirectory() as temporary:
            measure(Path(temporary), stores, options.segments)


def measure(folder: Path, stores: int, limit: int) -> None:
    rows = generate(folder / "data", stores)
    cutoff = FIRST.plus(WEEKS - 1)
    common = ["--data", str(folder / "data")]
    began = time.perf_counter()
    pretrain = run("pretrain", *common, "--cutoff", str(cutoff), "--out", str(folder / "pooled"))
    keys = [f"r{region:02d}-{store_format}-{velocity}" for region in range(1, 15) for store_format in ("large", "small")
            for velocity in ("fast", "slow")][:limit]
    jobs = [run("train", *common, "--cutoff", str(cutoff), "--out", str(folder / "models"), "--segments", key,
                "--pooled", str(folder / "pooled")) for key in keys]
    wall = time.perf_counter() - began
    score = run("score", *common, "--models", str(folder / "models"), "--week", str(cutoff.plus(1)), "--out",
                str(folder / "forecasts.csv"))
    cpu = [job[0] for job in jobs]
    print(f"{stores:7d} {rows:9d} {pretrain[0]:7.1f} s {pretrain[1]:4.0f} MB "
          f"{statistics.median(cpu):9.2f} s {max(cpu):6.2f} s {max(job[1] for job in jobs):6.0f} MB      "
          f"{score[0]:7.1f} s {score[1]:4.0f} MB   ({len(keys)} segments one after the other: {wall:.0f} s wall)",
          flush=True)


def run(module: str, *arguments: str) -> tuple[float, float]:
    """Run one job; return its CPU seconds and its peak memory in MB."""
    process = subprocess.Popen([sys.executable, "-m", f"ml_jobs.{module}", *arguments], cwd=ROOT,
                               stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{module} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def generate(folder: Path, stores: int) -> int:
    """Write deliveries, stores and products; return the number of delivery rows."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(11)
    level = generator.lognormal(0.8, 0.9, (stores, PRODUCTS, 1))
    season = 1 + 0.2 * np.sin(np.arange(WEEKS) / 52 * 2 * np.pi)
    units = generator.poisson(level * season)
    store, product, week = np.nonzero(units)
    weeks = np.array([str(FIRST.plus(index)) for index in range(WEEKS)])
    with (folder / "deliveries.csv").open("w") as handle:
        handle.write("store_id,product_id,sales_week,units\n")
        handle.writelines(f"s{s:05d},p{p:03d},{w},{u}\n" for s, p, w, u in
                          zip(store, product, weeks[week], units[store, product, week], strict=True))
    with (folder / "stores.csv").open("w") as handle:
        handle.write("store_id,region,store_format\n")
        handle.writelines(f"s{s:05d},r{s % 14 + 1:02d},{'large' if s // 14 % 2 else 'small'}\n" for s in range(stores))
    return len(store)


if __name__ == "__main__":
    main()
