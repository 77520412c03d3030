"""The batch deployment's script: one line for every input row, in the file's order; an unusable file raises."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from domain.errors import BadRequest, NotFound
from ml_jobs.endpoints.batch import score as batch_score
from ml_jobs.forecasting import features, model_files, scoring
from ml_jobs.forecasting.panel import read_panel
from ml_jobs.forecasting.scheme import Segments
from tests.ml_jobs.conftest import TrainedFolder
from tests.ml_jobs.small_folder import CUTOFF


def test_each_row_of_each_file_comes_back(
    trained: TrainedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "r02-small-fast"
    model = model_files.load(trained.models / key)
    panel = read_panel(trained.data, CUTOFF)
    series = Segments.of(panel).series_of(key)
    values, _ = scoring.feature_rows(panel, features.Groups(panel), series, model.feature_names)
    texts = features.category_texts(panel)
    path = tmp_path / f"{key}.2017-W41.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow([*features.CATEGORIES, *model.feature_names])
        for own, row in zip(series, values, strict=True):
            writer.writerow([*(texts[name][own] for name in features.CATEGORIES), *(repr(float(x)) for x in row)])
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(trained.models))
    batch_score.init()
    lines = batch_score.run([str(path)])
    with trained.forecasts.open(encoding="utf-8") as handle:
        expected = [f"{key},{row['store_id']},{row['product_id']},{row['units']}" for row in csv.DictReader(handle)
                    if row["segment"] == key]
    assert sorted(lines) == sorted(expected)

    wrong = tmp_path / "r99-small-fast.csv"
    wrong.write_bytes(path.read_bytes())
    with pytest.raises(NotFound):
        batch_score.run([str(wrong)])
    empty = tmp_path / f"{key}.empty.csv"
    empty.write_text("level\n")
    with pytest.raises(BadRequest):
        batch_score.run([str(empty)])
