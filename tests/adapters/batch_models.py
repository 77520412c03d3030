"""Models and deployments that need no training."""

from __future__ import annotations

import csv
import os
import tempfile
from pathlib import Path

import numpy as np

from adapters.lake import BlobLake
from domain import lake_paths
from domain.batch_rollout import SCORES
from domain.sales_weeks import SalesWeek
from domain.segments import BASELINE, ENSEMBLE
from ml_jobs import pack
from ml_jobs.endpoints.batch import driver
from ml_jobs.forecasting import model_files
from ml_jobs.forecasting.embedding_net import Vocabulary, Weights
from ml_jobs.forecasting.ensemble import Ensemble, Members
from ml_jobs.forecasting.features import CATEGORIES
from ml_jobs.forecasting.history_average import HistoryAverage
from ml_jobs.forecasting.lasso import Lasso, Scaling

SEGMENT = "r01-large-baseline"
SAMPLE = "azureml://datastores/models/paths/sample/"


def level_model(segment: str, shift: float = 0.0) -> model_files.TrainedModel:
    """Make an ensemble that forecasts the recent level, `shift` higher in logs."""
    one = Scaling(np.zeros(1), np.ones(1))
    empty = np.zeros((1, 1), dtype=np.float32)
    layer = (np.zeros((1 + len(CATEGORIES), 1), dtype=np.float32), np.zeros(1, dtype=np.float32))
    net = Weights(tuple(empty for _ in CATEGORIES), (layer,), np.zeros(1, dtype=np.float32), 0.0)
    members = Members(Lasso(np.zeros(1), shift, 0.0), net)
    return model_files.TrainedModel(
        segment, ENSEMBLE, 1, HistoryAverage({}, 1.0), ("level",), one,
        Vocabulary({name: () for name in CATEGORIES}), Ensemble(members, 0.0, whole_units=False),
    )


def save_set(folder: Path, segments: list[str], shift: float = 0.0) -> Path:
    """Write a folder of such models."""
    for segment in segments:
        model_files.save(level_model(segment, shift), folder / segment)
    return folder


def upload(lake: BlobLake, folder: Path, container: str, prefix: str) -> str:
    """Put a folder into the lake and return its URI."""
    for path in folder.rglob("*"):
        if path.is_file():
            lake.write(container, prefix + path.relative_to(folder).as_posix(), path.read_bytes())
    return lake_paths.datastore_uri(container, prefix)


def upload_models(lake: BlobLake, name: str, segment: str = SEGMENT) -> str:
    """Put a folder with one model into the lake and return its URI."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / segment
        model_files.save(model_files.TrainedModel(segment, BASELINE, 1, HistoryAverage({}, 1.0)), folder)
        return upload(lake, Path(temporary), "models", f"deployments/{name}/")


def upload_sample(lake: BlobLake, means: dict[str, float], segment: str = SEGMENT) -> None:
    """Put a file of rows into the sample; the average forecasts a row's own mean."""
    rows = "".join(f"{store},p1,{mean}\n" for store, mean in means.items())
    lake.write("models", f"sample/{segment}.2017-W45.csv", f"store,product,history_mean\n{rows}".encode())


def run_as_service(lake: BlobLake, models: str, data: str, out: str) -> str:
    """Do what the service's batch job does, with the product's script; return the job's last status."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        inputs = ["--models", str(_download(lake, models, folder / "models")),
                  "--data", str(_download(lake, data, folder / "data"))]
        try:
            done = driver.main([*inputs, "--out", str(folder / "out")])
        finally:
            os.environ.pop("AZUREML_MODEL_DIR", None)
        if done:
            return "Failed"
        upload(lake, folder / "out", *lake_paths.parse_datastore_uri(_short(out.removesuffix(SCORES))))
    return "Completed"


def pack_as_service(lake: BlobLake, models: str, data: str, week: str, out: str) -> None:
    """Do what the job of the component `pack` does."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        found = pack.pack(_download(lake, models, folder / "models"), _download(lake, data, folder / "data"),
                          SalesWeek.parse(week), folder / "out")
        assert found["sample_rows"]
        upload(lake, folder / "out", *lake_paths.parse_datastore_uri(_short(out)))


def _download(lake: BlobLake, uri: str, to: Path) -> Path:
    container, prefix = lake_paths.parse_datastore_uri(_short(uri))
    for blob in lake.list(container, prefix):
        path = to / blob.path.removeprefix(prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lake.read(container, blob.path).data)
    return to


def rows_of(lake: BlobLake, out: str) -> list[list[str]]:
    container, prefix = lake_paths.parse_datastore_uri(out)
    return list(csv.reader(lake.read(container, prefix + SCORES).data.decode().splitlines()))


def _short(uri: str) -> str:
    return "azureml://datastores/" + uri.split("/datastores/", 1)[1]
