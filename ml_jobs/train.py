"""`python -m ml_jobs.train`: train segments and baselines of an input folder into model folders.

One entry point for every segment: only the `--segments` filter differs. Without it everything is trained in this
process: the pooled net, all segments, all baselines.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from domain.errors import BadRequest, ShelfcastError
from domain.sales_weeks import SalesWeek
from domain.segments import BASELINE
from ml_jobs.failure import explained

if TYPE_CHECKING:
    from ml_jobs.forecasting.embedding_net import PooledNet
    from ml_jobs.forecasting.training import Outcome, Recipe, Workbench

POOLED_FOLDER = "pooled"
RESULT_COLUMNS = (
    "segment", "kind", "status", "series", "rows", "mape", "wape", "rmse_zero", "rmse_all", "bias", "baseline_mape",
    "baseline_wape", "net_weight", "seconds", "error",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the job; return 1 if the input is unusable or too large a share of the keys failed."""
    options = _parser().parse_args(arguments)
    from ml_jobs.forecasting.scheme import DEFAULT_SCHEME
    from ml_jobs.forecasting.training import FAILED, Recipe, Workbench, train_key
    from ml_jobs.forecasting.tuning import read_tunings

    began, cpu = time.perf_counter(), time.process_time()
    parent = str(options.init_from) if options.init_from else None
    try:
        tunings = read_tunings(options.tuning) if options.tuning else {}
        recipe = Recipe(options.seed, options.effort, parent, tunings)
        bench = Workbench.open(
            options.data, SalesWeek.parse(options.cutoff), horizon=options.horizon,
            scheme=options.scheme or DEFAULT_SCHEME,
        )
        keys = _keys(options.segments) or bench.segments.all_keys()
        pooled = None
        if any(not key.endswith(f"-{BASELINE}") for key in keys):
            pooled, bench = _pooled(options, bench, recipe)
    except ShelfcastError as error:
        print(explained("training", error), file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    for key in keys:
        outcome = train_key(bench, pooled, key, recipe, options.out / key)
        outcomes.append(outcome)
        print(json.dumps({"event": "segment", "segment": key, "status": outcome.status,
                          "seconds": outcome.metrics["seconds"], "error": outcome.error}))
    write_results(outcomes, options.out / "results.csv")
    failed = [outcome for outcome in outcomes if outcome.status == FAILED]
    print(json.dumps({
        "event": "trained", "keys": len(outcomes), "failed": len(failed),
        "seconds": round(time.perf_counter() - began, 2), "cpu_seconds": round(time.process_time() - cpu, 2),
    }))
    for outcome in failed:
        print(f"{outcome.segment}: {outcome.error}", file=sys.stderr)
    return 1 if failed and len(failed) > options.max_failed_share * len(outcomes) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ml_jobs.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of CSVs; deliveries.csv is required")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model folders and results.csv")
    parser.add_argument("--cutoff", required=True, help="last week of history, for example 2017-W44")
    parser.add_argument("--segments", default="", help="comma-separated segment and baseline keys; default: all")
    parser.add_argument("--pooled", type=Path, help="output of ml_jobs.pretrain; without it the net is trained here")
    parser.add_argument("--init-from", type=Path, help="pooled net or model folder to continue from (transfer)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--effort", choices=("standard", "quick"), default="standard")
    parser.add_argument("--horizon", type=int, default=1, help="weeks ahead to forecast")
    parser.add_argument("--scheme", default="", help="columns that make a segment, for example cluster-velocity")
    parser.add_argument("--tuning", type=Path, help="sweep.json of ml_jobs.sweep: hyper-parameters by segment class")
    parser.add_argument("--max-failed-share", type=float, default=0.0, help="share of keys that may fail")
    return parser


def _keys(text: str) -> list[str]:
    """Return the distinct keys of a comma-separated list, in order."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _pooled(options: argparse.Namespace, bench: Workbench, recipe: Recipe) -> tuple[PooledNet, Workbench]:
    """Return the pooled net, the given one or one trained now, and the workbench to go on with."""
    from ml_jobs.forecasting.embedding_net import PooledNet

    if options.pooled:
        pooled = PooledNet.load(options.pooled)
        if pooled.facts.get("cutoff") != str(bench.panel.cutoff):
            raise BadRequest(
                f"the pooled net was trained up to {pooled.facts.get('cutoff')}, this training ends at "
                f"{bench.panel.cutoff}", field="pooled", remedy="run pretrain with the same cutoff",
            )
        return pooled, bench
    pooled, bench = pooled_net(bench, recipe)
    pooled.save(options.out / POOLED_FOLDER)
    return pooled, bench


def pooled_net(bench: Workbench, recipe: Recipe) -> tuple[PooledNet, Workbench]:
    """Train the pooled net; return it and the workbench, which keeps the net's rows for the segments if it can."""
    from ml_jobs.forecasting import net_training, transfer

    parent = transfer.parent_net(Path(recipe.init_from)) if recipe.init_from else None
    chosen = net_training.training_rows(bench.panel, bench.groups, recipe.effort, recipe.seed)
    pooled = net_training.pretrain(
        bench.panel, chosen, bench.origins, effort=recipe.effort, seed=recipe.seed, parent=parent
    )
    return pooled, replace(bench, kept=chosen if chosen.complete else None)


def write_results(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write one row for every requested key, the failed ones included."""
    from ml_jobs.forecasting.evaluation import readable

    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, RESULT_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for outcome in outcomes:
            document = outcome.metrics
            members = readable(document["evaluation"])
            own, baseline = members.get(document["kind"], {}), members.get(BASELINE, {})
            writer.writerow({
                "segment": outcome.segment, "kind": document["kind"], "status": outcome.status,
                "series": document["series"], "rows": document["rows"],
                **{name: _number(own.get(name)) for name in ("mape", "wape", "rmse_zero", "rmse_all", "bias")},
                "baseline_mape": _number(baseline.get("mape")), "baseline_wape": _number(baseline.get("wape")),
                "net_weight": _number(document["weights"].get("embedding_net")),
                "seconds": document["seconds"], "error": outcome.error,
            })


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


if __name__ == "__main__":
    sys.exit(main())
