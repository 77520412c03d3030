"""`python -m ml_jobs.pretrain`: train the pooled embedding net over all segments of an input folder."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from domain.errors import ShelfcastError
from domain.sales_weeks import SalesWeek
from ml_jobs.failure import explained


def main(arguments: list[str] | None = None) -> int:
    """Run the job; print one JSON line; return 1 with the reason on stderr if it cannot be done."""
    parser = argparse.ArgumentParser(prog="ml_jobs.pretrain", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of CSVs; deliveries.csv is required")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pooled net")
    parser.add_argument("--cutoff", required=True, help="last week of history, for example 2017-W44")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--effort", choices=("standard", "quick"), default="standard")
    parser.add_argument("--horizon", type=int, default=1, help="weeks ahead that models must forecast")
    parser.add_argument("--init-from", type=Path, help="pooled net or model folder to continue from")
    options = parser.parse_args(arguments)
    from ml_jobs.forecasting import features, net_training, transfer
    from ml_jobs.forecasting.panel import read_panel
    from ml_jobs.forecasting.windows import Origins

    began, cpu = time.perf_counter(), time.process_time()
    try:
        panel = read_panel(options.data, SalesWeek.parse(options.cutoff), options.horizon)
        parent = transfer.parent_net(options.init_from) if options.init_from else None
        chosen = net_training.training_rows(panel, features.Groups(panel), options.effort, options.seed)
        pooled = net_training.pretrain(
            panel, chosen, Origins.of(panel.weeks), effort=options.effort, seed=options.seed, parent=parent
        )
        pooled.save(options.out)
    except ShelfcastError as error:
        print(explained("pretrain", error), file=sys.stderr)
        return 1
    print(json.dumps({
        "event": "pretrained", **pooled.facts, "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
    }))
    return 0


if __name__ == "__main__":
    sys.exit(main())
