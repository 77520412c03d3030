"""`python -m ml_jobs.score`: forecast one week with stored models; needs NumPy and Arrow, no training library."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

from domain.errors import ShelfcastError
from domain.sales_weeks import SalesWeek
from ml_jobs.failure import explained


def main(arguments: list[str] | None = None) -> int:
    """Run the job; write FILE and FILE's `.summary.json`; return 1 with the reason on stderr if it cannot be done."""
    parser = argparse.ArgumentParser(prog="ml_jobs.score", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of CSVs; deliveries.csv is required")
    parser.add_argument("--models", type=Path, required=True, help="folder of model folders, or one model folder")
    parser.add_argument("--week", required=True, help="week to forecast, for example 2017-W45")
    parser.add_argument("--out", type=Path, required=True, help="CSV file, or a folder that gets forecasts.csv")
    parser.add_argument("--segments", default="", help="comma-separated segment and baseline keys; default: all series")
    parser.add_argument("--horizon", type=int, default=1, help="weeks to forecast, as far as the models can")
    parser.add_argument("--scheme", default="", help="columns that make a segment, as in training")
    parser.add_argument("--features", type=Path, help="also write the week's feature rows for the online scorer here")
    options = parser.parse_args(arguments)
    from ml_jobs.forecasting import scoring, serving
    from ml_jobs.forecasting.drift import ACT
    from ml_jobs.forecasting.panel import read_panel
    from ml_jobs.forecasting.scheme import DEFAULT_SCHEME, Segments
    from ml_jobs.forecasting.scoring_checks import check_forecasts

    began, cpu = time.perf_counter(), time.process_time()
    wanted = [part.strip() for part in options.segments.split(",") if part.strip()]
    out: Path = options.out if options.out.suffix == ".csv" else options.out / "forecasts.csv"
    try:
        panel = read_panel(options.data, SalesWeek.parse(options.week).plus(-1), options.horizon)
        segments = Segments.of(panel, options.scheme or DEFAULT_SCHEME)
        rows, report = scoring.score(panel, segments, options.models, wanted or None)
        checks = check_forecasts(rows)
        scoring.write(rows, out)
        if options.features:
            serving.write_features(panel, segments, options.models, options.features)
    except ShelfcastError as error:
        print(explained("scoring", error), file=sys.stderr)
        return 1
    scored = {(row.store_id, row.product_id) for row in rows}
    unscored = Counter(
        panel.inactive_reason(series) for series in range(panel.series)
        if (panel.stores[panel.store_of[series]], panel.products[panel.product_of[series]]) not in scored
        and (not wanted or segments.keys[series] in wanted or segments.baselines[series] in wanted)
    )
    summary = {
        "schema": "shelfcast.scoring/1", "sales_week": options.week, "rows": len(rows), "unscored": dict(unscored),
        "checks": checks,
        "segments": {
            entry.segment: {
                "scored_by": entry.scored_by, "rows": entry.rows, "error": entry.error,
                "drift": [
                    {"feature": moved.feature, "psi": round(moved.psi, 4), "ks": round(moved.ks, 4),
                     "threshold": ACT, "verdict": moved.verdict} for moved in entry.drift
                ],
            }
            for entry in report
        },
    }
    out.with_suffix(".summary.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
    print(json.dumps({
        "event": "scored", "rows": len(rows), "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
    }))
    return 0


if __name__ == "__main__":
    sys.exit(main())
