"""Forecast accuracy on Complete Journey, rolling origins one week ahead: `python -m benchmarks.forecasting`.

Ours runs the jobs (pretrain inside train, then score) once for every origin, with the files that they read and write.
Peers: history average, moving average of 8 weeks, statsforecast's AutoETS, and one global LightGBM over all series
(mlforecast; absolute error, also rounded to whole units as our forecasts nearly are, and squared error of logs), each
fitted anew at every origin. All are judged on the same series and weeks. CPU seconds are of all origins, each engine in
one process; ours contain reading the files, writing and reading back all model folders, and PyTorch's import.
Segments that own models scored, and that were not better than their history average, are listed one by one.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.complete_journey_panels import GRAINS, write_panels
from benchmarks.peers import python
from domain.metrics import metrics
from domain.sales_weeks import SalesWeek
from domain.segments import ENSEMBLE
from ml_jobs import score, train
from ml_jobs.forecasting.evaluation import tally_arrays
from ml_jobs.forecasting.history_average import history_means
from ml_jobs.forecasting.panel import Panel, read_panel
from ml_jobs.forecasting.scheme import Segments
from ml_jobs.forecasting.tables import FloatArray, IntArray

ROOT = Path(__file__).resolve().parent.parent
LAST = SalesWeek(2017, 52)
Found = dict[tuple[str, int], float]  # (store|product, week index) -> units


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--origins", type=int, default=8, help="last weeks of 2017 to forecast")
    parser.add_argument("--grain", choices=GRAINS, action="append")
    parser.add_argument("--effort", default="standard")
    parser.add_argument("--alone", action="store_true", help="without AutoETS and LightGBM")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        panels = write_panels(Path(temporary) / "panels")
        for grain in options.grain or GRAINS:
            run(grain, panels[grain], Path(temporary) / grain, options)


def run(grain: str, data: Path, work: Path, options: argparse.Namespace) -> None:
    work.mkdir()
    panel = read_panel(data, LAST)
    names = [f"{panel.stores[store]}|{panel.products[product]}"
             for store, product in zip(panel.store_of, panel.product_of, strict=True)]
    targets = [panel.weeks - back for back in range(options.origins, 0, -1)]
    found: dict[str, Found] = {"history average": {}, "moving average 8": {}}
    everything = np.arange(panel.series)
    for target in targets:
        for i, value in enumerate(history_means(panel, everything, target)):
            found["history average"][names[i], target] = float(value)
        recent = np.maximum(panel.start, target - 8)
        for i in everything:
            own = panel.units[i, recent[i] : target]
            found["moving average 8"][names[i], target] = float(own.mean()) if len(own) else 0.0
    seconds: dict[str, float] = {}
    members, own, seconds["ensemble"] = ours(panel, data, work, targets, options.effort)
    found |= members
    if not options.alone:
        peers, peer_seconds = peers_of(panel, names, work, targets)
        found |= peers
        found["lightgbm_l1 rounded"] = {
            key: float(np.floor(units + 0.5)) for key, units in peers["lightgbm_l1"].items()
        }
        seconds |= peer_seconds
    report(grain, panel, names, targets, found, seconds, own)


def ours(
    panel: Panel, data: Path, work: Path, targets: list[int], effort: str
) -> tuple[dict[str, Found], set[tuple[str, int]], float]:
    """Train and score every origin by the jobs' entry points.

    Return forecasts by member, which of them a segment's own model made and not its average, and CPU seconds.
    """
    found: dict[str, Found] = defaultdict(dict)
    own: set[tuple[str, int]] = set()
    seconds = 0.0
    for target in targets:
        models, out = work / f"models-{target}", work / f"forecasts-{target}.csv"
        seconds += _run(train.main, "--data", data, "--out", models, "--cutoff", panel.week_at(target - 1),
                        "--effort", effort)
        seconds += _run(score.main, "--data", data, "--models", models, "--week", panel.week_at(target), "--out", out)
        with out.open(encoding="utf-8") as handle:
            for row in csv.DictReader(handle):
                key = (f"{row['store_id']}|{row['product_id']}", target)
                for name, column in (("ensemble", "units"), ("  lasso", "lasso_units"),
                                     ("  embedding net", "embedding_net_units")):
                    found[name][key] = float(row[column] or row["units"])
                if row["kind"] == ENSEMBLE:
                    own.add(key)
    return dict(found), own, seconds


def _run(job: Callable[[list[str]], int], *arguments: object) -> float:
    """Run a job in this process and return its CPU seconds; what it prints matters only if it fails."""
    began = time.process_time()
    with redirect_stdout(io.StringIO()) as printed:
        failed = job([str(argument) for argument in arguments])
    if failed:
        raise SystemExit(f"{job.__module__} failed: {printed.getvalue()}")
    return time.process_time() - began


def peers_of(
    panel: Panel, names: list[str], work: Path, targets: list[int]
) -> tuple[dict[str, Found], dict[str, float]]:
    region, store_format = panel.label("region"), panel.label("store_format")
    with (work / "panel.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["unique_id", "ds", "y", "display", "mailer", "store", "product", "region", "store_format"])
        for i, name in enumerate(names):
            store, product = name.split("|")
            for week in range(panel.start[i], panel.weeks):
                display, mailer = panel.known.flags[i, week]
                writer.writerow([name, week, panel.units[i, week], display, mailer, store, product, region[i],
                                 store_format[i]])
    subprocess.run([str(python()), str(ROOT / "benchmarks/forecasting_peers.py"), str(work), "--origins",
                    ",".join(map(str, targets))], check=True, stdout=subprocess.DEVNULL,
                   env=os.environ | {"OMP_NUM_THREADS": "1", "NIXTLA_ID_AS_COL": "1"})
    found: dict[str, Found] = defaultdict(dict)
    with (work / "forecasts.csv").open(encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            found[row["engine"]][row["unique_id"], int(row["ds"])] = max(float(row["units"]), 0.0)
    return dict(found), json.loads((work / "seconds.json").read_text())


def report(
    grain: str, panel: Panel, names: list[str], targets: list[int], found: dict[str, Found],
    seconds: dict[str, float], own: set[tuple[str, int]],
) -> None:
    """Print every engine on the same series and weeks, then the segments that were not better than their average."""
    pairs = [(i, target) for target in targets for i in range(panel.series) if panel.start[i] < target]
    actual = np.array([panel.units[pair] for pair in pairs], dtype=np.float64)
    keys = Segments.of(panel).keys
    print(f"\n{grain} x category: {panel.series} series, {len(targets)} origins, {len(pairs)} forecasts")
    print(f"{'':18} {'MAPE':>6} {'RMSE 0':>7} {'RMSE':>6} {'WAPE':>6} {'bias':>6} {'CPU s':>7} {'missing':>8}")
    units_of: dict[str, FloatArray] = {}
    for name, forecasts in found.items():
        units = np.array([forecasts.get((names[i], target), 0.0) for i, target in pairs])
        missing = sum((names[i], target) not in forecasts for i, target in pairs)
        m = metrics(tally_arrays(actual, units))
        print(f"{name:18} {m.mape:6.3f} {m.rmse_zero:7.2f} {m.rmse_all:6.2f} {m.wape:6.4f} {m.bias:+6.2f} "
              f"{seconds.get(name, 0):7.0f} {missing:8d}", flush=True)
        units_of[name] = units
    compare_segments(
        keys[[i for i, _ in pairs]], np.array([i for i, _ in pairs]), actual, units_of["ensemble"],
        units_of["history average"], np.array([(names[i], target) in own for i, target in pairs]),
    )


def compare_segments(
    keys: np.ndarray[Any, Any], series: IntArray, actual: FloatArray, forecast: FloatArray, average: FloatArray,
    by_own_model: np.ndarray[Any, np.dtype[np.bool_]],
) -> None:
    """Print, in both measures, the segments that own models scored without being better than the history average.

    `z` is the lead over the average in standard errors, series taken as independent: beyond -2 it is more than chance.
    """
    costs = {"WAPE": np.ones(len(actual)), "MAPE": np.where(actual > 0, 1 / np.maximum(actual, 1e-9), 0)}
    modelled = sorted(set(keys[by_own_model].tolist()))
    averages = sorted(set(keys.tolist()) - set(modelled))
    print(f"{len(averages)} segments are their history average in every week: {' '.join(averages) or 'none'}")
    for measure, cost in costs.items():
        lead = cost * (np.abs(average - actual) - np.abs(forecast - actual))
        worse = [key for key in modelled if lead[keys == key].sum() <= 0]
        print(f"{len(worse)} of {len(modelled)} others are not better than that in {measure}")
        for key in worse:
            rows = keys == key
            by_series = np.bincount(np.unique(series[rows], return_inverse=True)[1], lead[rows])
            z = by_series.sum() / max(by_series.std() * len(by_series) ** 0.5, 1e-9)
            ratio = 1 - lead[rows].sum() / (cost * np.abs(average - actual))[rows].sum()
            print(f"  {key:18} {len(by_series):5d} series {actual[rows].sum():7.0f} units sold, own model for "
                  f"{by_own_model[rows].mean():4.0%} of rows, error {ratio:.3f} of the average's, z {z:+.1f}")


if __name__ == "__main__":
    main()
