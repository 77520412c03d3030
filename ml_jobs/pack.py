"""`python -m ml_jobs.pack`: one deployment folder of many models, for the online and the batch endpoint alike.

    OUT/NAME/             a model folder each, all fit for one process
    OUT/features.npz      the week's features by store, for requests that name a store only
    OUT/sample/NAME.WEEK.csv   feature rows of some series of each model: what two deployments are compared on
    OUT/deployment.json   the models with their hashes, and how many rows the sample has
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from domain.errors import BadRequest, IntegrityError, ShelfcastError
from domain.sales_weeks import SalesWeek
from ml_jobs.failure import explained


def main(arguments: list[str] | None = None) -> int:
    """Build the folder; return 1 with the reason on stderr if the models do not go together."""
    parser = argparse.ArgumentParser(prog="ml_jobs.pack", description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder of model folders")
    parser.add_argument("--data", type=Path, required=True, help="folder of CSVs; deliveries.csv is required")
    parser.add_argument("--week", required=True, help="week that the features are for, for example 2017-W45")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    options = parser.parse_args(arguments)
    try:
        document = pack(options.models, options.data, SalesWeek.parse(options.week), options.out)
    except ShelfcastError as error:
        print(explained("packing", error), file=sys.stderr)
        return 1
    print(json.dumps({"event": "packed", "models": len(document["models"]), "sample_rows": document["sample_rows"]}))
    return 0


def pack(models: Path, data: Path, week: SalesWeek, out: Path) -> dict[str, Any]:
    """Build the folder and return its document; raise IntegrityError naming every conflict between the models."""
    from ml_jobs.forecasting import model_files, serving
    from ml_jobs.forecasting.panel import read_panel
    from ml_jobs.forecasting.scheme import Segments
    from ml_jobs.forecasting.together import conflicts

    folders = sorted(path.parent for path in models.glob("*/MLmodel"))
    if not folders:
        raise IntegrityError(f"{models} holds no model", field="models", remedy="name a folder of model folders")
    own = {folder.name for folder in folders} | {serving.FEATURE_FILE, serving.SAMPLE_FOLDER, serving.DEPLOYMENT_FILE}
    others = sorted({entry.name for entry in out.iterdir()} - own) if out.is_dir() else []
    if others:  # what a job left that was taken away in the middle is ours; anything else would be served as well
        raise BadRequest(f"{out} holds {others[0]}, which is not of these models", field="out", value=str(out),
                         remedy="name a new folder")
    faults = conflicts(folders)
    if faults:
        raise IntegrityError(f"the models cannot share a deployment: {'; '.join(faults)}", field="models",
                             remedy="train them with one environment, or deploy them apart")
    panel = read_panel(data, week.plus(-1))
    segments = Segments.of(panel)
    for folder in folders:
        shutil.copytree(folder, out / folder.name, dirs_exist_ok=True)
    serving.write_features(panel, segments, out, out / serving.FEATURE_FILE)
    rows = serving.write_sample(panel, segments, out, out / serving.SAMPLE_FOLDER, week)
    if not rows:
        raise IntegrityError(f"no series of {data} belongs to these models", field="data",
                             remedy="name the data that they were trained on")
    scorer = serving.Scorer.open(out)  # proves that all of them load side by side
    document = {
        "schema": "shelfcast.deployment/1", "sales_week": str(week), "sample_rows": rows,
        "models": {name: model_files.content_hash(out / name) for name in sorted(folder.name for folder in folders)},
        "names": scorer.names,
    }
    (out / serving.DEPLOYMENT_FILE).write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", "utf-8")
    return document


if __name__ == "__main__":
    sys.exit(main())
