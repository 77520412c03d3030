"""`python -m ml_jobs.sweep`: choose an ensemble's hyper-parameters for each class of segments, within a budget.

Trials are judged on the four weeks before those that a training up to the same cutoff judges itself on, so the chosen
figures do not flatter the model that is then trained with them. The first trial is the default; the best one wins only
by a margin. `ml_jobs.train --tuning OUT/sweep.json` uses the result, and the model card names it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domain.errors import ShelfcastError
from domain.sales_weeks import SalesWeek
from ml_jobs.failure import explained

if TYPE_CHECKING:
    from ml_jobs.forecasting.embedding_net import PooledNet
    from ml_jobs.forecasting.training import Workbench
    from ml_jobs.forecasting.tuning import Tuning

MARGIN = 0.001  # of the objective; less is chance
SEGMENTS = 4  # of each class; the largest ones, they have the most evidence
GRID = {"prior_net_weight": (0.4, 0.6, 0.8), "prior_strength": (0.01, 0.03, 0.1), "small_residual": (0.1, 0.25, 0.6)}


def main(arguments: list[str] | None = None) -> int:
    """Run the sweep; write sweep.json; return 1 with the reason on stderr if it cannot be done."""
    parser = argparse.ArgumentParser(prog="ml_jobs.sweep", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of CSVs; deliveries.csv is required")
    parser.add_argument("--out", type=Path, required=True, help="folder for sweep.json")
    parser.add_argument("--cutoff", required=True, help="last week of history of the training that will use the result")
    parser.add_argument("--trials", type=int, default=8, help="at most this many for each class")
    parser.add_argument("--minutes", type=float, default=30.0, help="no new trial begins after this")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--effort", choices=("standard", "quick"), default="quick", help="of the pooled net")
    options = parser.parse_args(arguments)
    from ml_jobs.forecasting.training import Recipe, Workbench
    from ml_jobs.forecasting.tuning import class_of
    from ml_jobs.forecasting.windows import WINDOW_WEEKS
    from ml_jobs.train import pooled_net

    until = time.monotonic() + 60 * options.minutes
    try:
        bench = Workbench.open(options.data, SalesWeek.parse(options.cutoff).plus(-WINDOW_WEEKS))
        pooled, bench = pooled_net(bench, Recipe(options.seed, options.effort))
    except ShelfcastError as error:
        print(explained("sweep", error), file=sys.stderr)
        return 1
    classes: dict[str, Any] = {}
    for name in sorted({class_of(key) for key in bench.segments.keys.tolist()}):
        trials: list[dict[str, Any]] = []
        for tuning in _candidates(options.seed, options.trials):
            if trials and time.monotonic() > until:
                break
            trials.append({"tuning": tuning.to_dict(), **_judge(bench, pooled, name, tuning)})
        best = min(trials, key=lambda trial: float(trial["objective"]))
        chosen = best if best["objective"] < trials[0]["objective"] - MARGIN else trials[0]
        classes[name] = {"best": chosen["tuning"], "trials": trials}
        print(json.dumps({"event": "swept", "class": name, "trials": len(trials), **chosen}))
    options.out.mkdir(parents=True, exist_ok=True)
    document = {"schema": "shelfcast.sweep/1", "cutoff": str(bench.panel.cutoff), "seed": options.seed,
                "classes": classes}
    (options.out / "sweep.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    return 0


def _candidates(seed: int, trials: int) -> list[Tuning]:
    """Return the default and then tunings of the grid in a random but fixed order."""
    import itertools

    import numpy as np

    from ml_jobs.forecasting.tuning import DEFAULT, Tuning

    grid = [Tuning(*values) for values in itertools.product(*GRID.values())]
    order = np.random.default_rng(seed).permutation(len(grid))
    return [DEFAULT, *(grid[i] for i in order if grid[i] != DEFAULT)][: max(trials, 1)]


def _judge(bench: Workbench, pooled: PooledNet, name: str, tuning: Tuning) -> dict[str, float]:
    """Return what a tuning reaches on the judging weeks of the class's largest segments together."""
    import numpy as np

    from ml_jobs.forecasting import ensemble
    from ml_jobs.forecasting.objective import objective, row_costs
    from ml_jobs.forecasting.scheme import MIN_ROWS
    from ml_jobs.forecasting.training import segment_rows
    from ml_jobs.forecasting.tuning import class_of

    keys = [key for key in sorted(set(bench.segments.keys.tolist())) if class_of(key) == name]
    keys = sorted(keys, key=lambda key: (-len(bench.segments.series_of(key)), key))[:SEGMENTS]
    actual, units = [np.zeros(0)], [np.zeros(0)]
    for key in keys:
        segment, _ = segment_rows(bench, pooled, bench.segments.series_of(key))
        if int((segment.week < bench.origins.choose).sum()) < MIN_ROWS:
            continue  # a training would not give it a model either
        _, judged, _ = ensemble.train(segment, pooled, bench.origins, tuning)
        actual.append(segment.units[judged.rows].astype(np.float64))
        units.append(judged.units["ensemble"])
    sold, forecast = np.concatenate(actual), np.concatenate(units)
    costs = row_costs(sold, pooled.facts["typical_sale"], pooled.facts["percentage_rate"])
    return {"objective": round(objective(sold, forecast, costs), 6), "rows": len(sold)}


if __name__ == "__main__":
    sys.exit(main())
