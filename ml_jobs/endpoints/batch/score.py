"""Scoring script of the batch deployment: each input file is a week's feature rows of one model, as CSV.

The file's name before the first dot is the model's name. One row comes back for every input row; an unusable file
raises, and with an error threshold of zero the job fails rather than losing it.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # the driver starts the script as a file

if TYPE_CHECKING:
    from ml_jobs.forecasting.serving import Scorer

_state: dict[str, Scorer] = {}


def init() -> None:
    """Load all models once."""
    from ml_jobs.forecasting.serving import Scorer

    _state["scorer"] = Scorer.open(Path(os.environ["AZUREML_MODEL_DIR"]))


def run(mini_batch: list[str]) -> list[str]:
    """Return one CSV line (model, store, product, units) for each row of the files."""
    lines: list[str] = []
    for name in mini_batch:
        path = Path(name)
        with path.open(encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle))
        columns = list(rows[0]) if rows else []
        answer = _state["scorer"].answer({
            "model": path.name.split(".")[0], "columns": columns, "data": [[row[c] for c in columns] for row in rows],
        })
        lines += [
            f"{answer['model']},{row.get('store', '')},{row.get('product', '')},{forecast['units']:.4f}"
            for row, forecast in zip(rows, answer["forecasts"], strict=True)
        ]
    return lines
