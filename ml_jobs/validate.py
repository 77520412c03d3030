"""`python -m ml_jobs.validate`: basic model validation on a small folder of CSVs; no network, no credentials, minutes.

Finds broken code and broken data, not poor accuracy: no threshold on any metric stands here (R78). The stages are the
three validations of the release process:

1. data: training can read the folder, and what it will add up, level out or fill in is counted;
2. training: the net and every member train, losses are finite, forecasts are not constant, the stored model loads;
3. scoring: the stored models score the week after the cutoff, every active series once, finite and not negative.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from domain.errors import BadRequest, IntegrityError, ShelfcastError
from domain.sales_weeks import SalesWeek
from ml_jobs.failure import explained

Facts = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Run all stages; print a line for each; return 1 at the first that fails."""
    parser = argparse.ArgumentParser(prog="ml_jobs.validate", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of CSVs; deliveries.csv is required")
    parser.add_argument("--cutoff", default="", help="last week of history; default: the last week of deliveries")
    parser.add_argument("--effort", choices=("standard", "quick"), default="quick",
                        help="standard trains for more epochs: the check after a merge")
    parser.add_argument("--segments", default="", help="comma-separated keys; default: every one")
    parser.add_argument("--models", type=Path, help="keep the trained models here; default: a temporary folder")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        models = options.models or Path(temporary) / "models"
        try:
            cutoff = SalesWeek.parse(options.cutoff) if options.cutoff else last_week(options.data)
            stages: list[tuple[str, Callable[[], Facts]]] = [
                ("data", lambda: validate_data(options.data, cutoff)),
                ("training", lambda: validate_training(options.data, models, cutoff, options.effort, options.segments)),
                ("scoring", lambda: validate_scoring(options.data, models, cutoff, options.segments)),
            ]
            for name, stage in stages:
                began = time.perf_counter()
                facts = stage()
                print(json.dumps({"stage": name, "passed": True, **facts,
                                  "seconds": round(time.perf_counter() - began, 1)}))
        except ShelfcastError as error:
            print(json.dumps({"passed": False, "error": error.message, "fields": error.fields}, default=str))
            print(explained("validation", error), file=sys.stderr)
            return 1
    return 0


def last_week(data: Path) -> SalesWeek:
    """Return the last week that has deliveries."""
    from ml_jobs.forecasting.tables import read_optional, week_of_number

    table = read_optional(data, "deliveries.csv")
    if table is None or not table.rows:
        raise BadRequest(f"{data} has no deliveries.csv with rows", file="deliveries.csv", remedy="name the folder")
    return week_of_number(int(table.weeks().max()))


def validate_data(data: Path, cutoff: SalesWeek) -> Facts:
    """Return counts of the input; raise BadRequest naming file and remedy where training could not use it.

    Training reads by the same rules: `repeated` rows of a store, product and week are added up, a week that is
    negative after that (`negative`) sold nothing, weeks whose file is missing (`lost`) are filled and not learned from.
    """
    import numpy as np

    from ml_jobs.forecasting.panel import read_panel
    from ml_jobs.forecasting.tables import read_optional, week_number

    panel = read_panel(data, cutoff)
    active = int(panel.active().sum())
    if not active:
        raise BadRequest(f"no series is active at {cutoff}", field="cutoff", remedy="check the weeks of deliveries.csv")
    table = read_optional(data, "deliveries.csv")
    assert table is not None  # read_panel refuses a folder without it
    weeks = table.weeks()
    stores = table.text(table.need("store_id", "store"))
    products = table.text(table.need("product_id", "product"))
    keys = (weeks * len(stores.values) + stores.codes) * len(products.values) + products.codes
    seen = weeks <= week_number(cutoff)
    cells, row = np.unique(keys[seen], return_inverse=True)
    units = table.numbers(table.need("units", "quantity"), needed=seen)[seen]
    sums = np.bincount(row, weights=units, minlength=len(cells))
    return {
        "rows": table.rows, "series": panel.series, "active": active, "weeks": panel.weeks,
        "repeated": int(seen.sum()) - len(cells), "negative": int((sums < 0).sum()), "lost": int(panel.lost.sum()),
    }


def validate_training(data: Path, models: Path, cutoff: SalesWeek, effort: str, segments: str) -> Facts:
    """Train; return counts by status. Raise IntegrityError if a segment failed or nothing could be trained."""
    from ml_jobs import train
    from ml_jobs.forecasting.training import FAILED, TRAINED, Recipe, Workbench, train_key

    bench = Workbench.open(data, cutoff)
    keys = [key for key in segments.split(",") if key] or bench.segments.all_keys()
    pooled, bench = train.pooled_net(bench, Recipe(7, effort))
    outcomes = [train_key(bench, pooled, key, Recipe(7, effort), models / key) for key in keys]
    train.write_results(outcomes, models / "results.csv")
    failed = [f"{outcome.segment}: {outcome.error}" for outcome in outcomes if outcome.status == FAILED]
    if failed:
        raise IntegrityError("; ".join(failed), field="segments")
    counts = {status: sum(outcome.status == status for outcome in outcomes) for status in (TRAINED, "thin")}
    if not counts[TRAINED]:
        raise IntegrityError("nothing could be trained", field="segments")
    return {"keys": len(outcomes), **counts}


def validate_scoring(data: Path, models: Path, cutoff: SalesWeek, segments: str) -> Facts:
    """Score the week after the cutoff; raise IntegrityError if a series is missing or a forecast is unusable."""
    from ml_jobs.forecasting import scoring
    from ml_jobs.forecasting.panel import read_panel
    from ml_jobs.forecasting.scheme import Segments
    from ml_jobs.forecasting.scoring_checks import check_forecasts

    panel = read_panel(data, cutoff)
    own = Segments.of(panel)
    wanted = [key for key in segments.split(",") if key] or None
    rows, report = scoring.score(panel, own, models, wanted)
    facts = check_forecasts(rows)
    covered = panel.active() if wanted is None else panel.active() & sum(
        ((own.keys == key) | (own.baselines == key) for key in wanted), start=own.keys == ""
    )
    missing = int(covered.sum()) - len({(row.store_id, row.product_id) for row in rows})
    if missing:
        raise IntegrityError(f"{missing} active series have no forecast", field="forecasts", value=missing)
    return {**facts, "by_own_model": sum(entry.scored_by == scoring.OWN_MODEL for entry in report)}


if __name__ == "__main__":
    sys.exit(main())
