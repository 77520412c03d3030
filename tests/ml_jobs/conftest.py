"""One small input folder, trained once by the command line, for all tests that only read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from ml_jobs import score, train
from tests.ml_jobs.small_folder import CUTOFF, small_folder


@dataclass(frozen=True)
class TrainedFolder:
    data: Path
    models: Path
    forecasts: Path


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder().write(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedFolder:
    out = tmp_path_factory.mktemp("out")
    models, forecasts = out / "models", out / "forecasts.csv"
    assert train.main(["--data", str(data), "--out", str(models), "--cutoff", str(CUTOFF), "--effort", "quick"]) == 0
    assert score.main(["--data", str(data), "--models", str(models), "--week", str(CUTOFF.plus(1)),
                       "--out", str(forecasts)]) == 0
    return TrainedFolder(data, models, forecasts)
