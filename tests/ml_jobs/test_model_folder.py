"""Model folders in MLflow format, their ONNX twins, and the scorer that holds many of them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from domain.errors import BadRequest, IntegrityError, NotFound
from ml_jobs import pack
from ml_jobs.export_onnx import export_and_check
from ml_jobs.forecasting import features, model_files, scoring
from ml_jobs.forecasting.ensemble import SegmentRows
from ml_jobs.forecasting.panel import Panel, read_panel
from ml_jobs.forecasting.scheme import Segments
from ml_jobs.forecasting.serving import Scorer, respond
from tests.ml_jobs.conftest import TrainedFolder
from tests.ml_jobs.inference_server import inference_server
from tests.ml_jobs.small_folder import CUTOFF, PRODUCTS

ROOT = Path(__file__).resolve().parents[2]


def _rows(panel: Panel, model: model_files.TrainedModel) -> tuple[list[str], list[list[object]]]:
    """Feature rows of a model's series as a payload's columns and data."""
    series = Segments.of(panel).series_of(model.segment)
    values, _ = scoring.feature_rows(panel, features.Groups(panel), series, model.feature_names)
    texts = features.category_texts(panel)
    columns = [*features.CATEGORIES, *model.feature_names]
    data = [[*(texts[name][own] for name in features.CATEGORIES), *map(float, row)]
            for own, row in zip(series, values, strict=True)]
    return columns, data


def _published(trained: TrainedFolder) -> dict[tuple[str, str], str]:
    with trained.forecasts.open(encoding="utf-8") as handle:
        return {(row["store_id"], row["product_id"]): row["units"] for row in csv.DictReader(handle)}


@pytest.fixture(scope="module")
def panel(trained: TrainedFolder) -> Panel:
    return read_panel(trained.data, CUTOFF)


@pytest.fixture(scope="module")
def deployment(trained: TrainedFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deployment") / "models"
    assert pack.main(["--models", str(trained.models), "--data", str(trained.data), "--week", str(CUTOFF.plus(1)),
                      "--out", str(folder)]) == 0
    return folder


def test_mlflow_loads_a_model_and_gives_the_published_units(trained: TrainedFolder, panel: Panel) -> None:
    import mlflow
    import pandas as pd

    folder = trained.models / "r01-large-fast"
    columns, data = _rows(panel, model_files.load(folder))
    loaded = mlflow.pyfunc.load_model(str(folder))
    frame = pd.DataFrame(data, columns=columns)
    predicted = loaded.predict(frame)
    published = _published(trained)
    for (store, product), units in zip(frame[["store", "product"]].itertuples(index=False), predicted["units"],
                                       strict=True):
        assert f"{units:.4f}" == published[(store, product)]


def test_a_model_folder_imports_its_own_code_without_the_repository(trained: TrainedFolder, tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1] + '/code.zip')\n"
        "from ml_jobs.forecasting.pyfunc_model import _load_pyfunc\n"
        "model = _load_pyfunc(sys.argv[1] + '/data')\n"
        "import ml_jobs; print(ml_jobs.__file__)"
    )
    done = subprocess.run(
        [str(ROOT / ".venv/bin/python"), "-c", script, str(trained.models / "r01-large-fast")], cwd=tmp_path,
        check=True, capture_output=True, text=True, env={"PATH": os.environ["PATH"]},
    )
    assert "code.zip" in done.stdout


def test_equal_models_have_equal_hashes(trained: TrainedFolder, tmp_path: Path) -> None:
    model = model_files.load(trained.models / "r01-large-fast")
    digest = model_files.save(model, tmp_path / "again")
    assert digest == model_files.content_hash(trained.models / "r01-large-fast")
    other = model_files.load(trained.models / "r01-large-slow")
    assert model_files.save(other, tmp_path / "other") != digest


def test_a_damaged_folder_is_refused(trained: TrainedFolder, tmp_path: Path) -> None:
    shutil.copytree(trained.models / "r01-large-fast", tmp_path / "m")
    (tmp_path / "m/data/arrays.npz").write_bytes(b"half a file")
    with pytest.raises(IntegrityError, match="not a model folder"):
        model_files.load(tmp_path / "m")


def test_onnx_equals_the_native_ensemble(trained: TrainedFolder, panel: Panel, tmp_path: Path) -> None:
    import onnxruntime

    shutil.copytree(trained.models / "r01-large-fast", tmp_path / "m")
    facts = export_and_check(tmp_path / "m")
    assert isinstance(facts["difference"], float)
    assert facts["difference"] <= 1e-4
    model = model_files.load(tmp_path / "m")
    assert model.vocabulary is not None
    columns, data = _rows(panel, model)
    count = len(features.CATEGORIES)
    texts = {name: [str(row[i]) for row in data] for i, name in enumerate(columns[:count])}
    session = onnxruntime.InferenceSession(str(tmp_path / "m/model.onnx"), providers=["CPUExecutionProvider"])
    (units,) = session.run(["units"], {
        "features": np.array([row[count:] for row in data], dtype=np.float32),
        "categories": model.vocabulary.codes(texts),
    })
    published = _published(trained)
    expected = [float(published[(str(row[0]), str(row[1]))]) for row in data]
    assert units[:, 0] == pytest.approx(expected, abs=2e-4)


def test_goods_sold_by_weight_are_forecast_in_fractions(trained: TrainedFolder, panel: Panel, tmp_path: Path) -> None:
    pieces = np.array([2.0, 0.0, 7.0], dtype=np.float32)
    none = np.zeros((3, 0), dtype=np.float32)
    rows = SegmentRows(none, np.zeros((3, 0), dtype=np.int64), pieces, pieces, np.arange(3))
    assert rows.whole
    assert not replace(rows, units=pieces + np.float32(0.25)).whole
    model = model_files.load(trained.models / "r01-large-fast")
    assert model.ensemble is not None
    assert model.ensemble.whole_units
    model_files.save(replace(model, ensemble=replace(model.ensemble, whole_units=False)), tmp_path / "m")
    by_weight = export_and_check(tmp_path / "m")["difference"]
    assert isinstance(by_weight, float)
    assert by_weight <= 1e-4
    columns, data = _rows(panel, model)
    payload = {"model": model.segment, "columns": columns, "data": data}
    published = [row["units"] for row in Scorer({model.segment: model}, {}).answer(payload)["forecasts"]]
    fractions = [row["units"] for row in Scorer.open(tmp_path).answer(payload)["forecasts"]]
    assert published != fractions
    assert np.floor(np.array(published) + 0.5).tolist() == np.floor(np.array(fractions) + 0.5).tolist()
    assert sum(units == round(units) for units in published) > len(published) / 2


def test_a_baseline_has_nothing_to_export(trained: TrainedFolder) -> None:
    assert export_and_check(trained.models / "r01-large-baseline") == {"exported": False, "reason": "no ensemble"}


def test_the_scorer_answers_for_a_store_what_the_batch_published(trained: TrainedFolder, deployment: Path) -> None:
    answer = Scorer.open(deployment).answer({"store_id": "001"})
    published = _published(trained)
    assert {row["product_id"]: f"{row['units']:.4f}" for row in answer["forecasts"]} == {
        product: units for (store, product), units in published.items() if store == "001"
    }
    assert len(answer["forecasts"]) == len(PRODUCTS)
    assert set(answer["timing_ms"]) == {"features", "inference"}


def test_the_payload_names_the_model(trained: TrainedFolder, panel: Panel, deployment: Path) -> None:
    columns, data = _rows(panel, model_files.load(trained.models / "r02-small-fast"))
    status, answer = respond(
        Scorer.open(deployment), json.dumps({"model": "r02-small-fast", "columns": columns, "data": data})
    )
    assert status == 200
    published = _published(trained)
    assert [f"{row['units']:.4f}" for row in answer["forecasts"]] == [
        published[(str(row[0]), str(row[1]))] for row in data
    ]


@pytest.mark.parametrize(("body", "status", "named"), [
    (b"not json", 400, "not JSON"),
    (b"[]", 400, "JSON object"),
    (b'{"model": "r99-large-fast", "columns": [], "data": []}', 404, "r99-large-fast"),
    (b'{"store_id": "nowhere"}', 404, "nowhere"),
    (b'{"model": "r01-large-fast", "columns": ["level"], "data": [[1, 2]]}', 400, "1 values"),
    (b'{"model": "r01-large-fast", "columns": ["level"], "data": [[1]]}', 400, "do not fit"),
    (b'{"model": "r01-large-fast", "columns": ["level"], "data": []}', 400, "not empty"),
])
def test_a_callers_mistake_is_a_problem_document(deployment: Path, body: bytes, status: int, named: str) -> None:
    got, problem = respond(Scorer.open(deployment), body)
    assert got == status
    assert named in problem["detail"]
    if b"r99" in body:
        assert "r01-large-fast" in problem["known"]


def test_a_scorer_without_models_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError):
        Scorer.open(tmp_path)
    with pytest.raises((NotFound, BadRequest)):
        Scorer({}, {}).answer({"model": "x", "columns": ["a"], "data": [[1]]})


@pytest.fixture(scope="module")
def server(deployment: Path) -> Iterator[str]:
    with inference_server(deployment) as base:
        yield base


@pytest.mark.long
def test_the_online_script_runs_under_the_inference_server(trained: TrainedFolder, server: str) -> None:
    def post(body: bytes) -> tuple[int, dict[str, object]]:
        request = urllib.request.Request(f"{server}/score", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    status, answer = post(b'{"store_id": "001"}')
    assert status == 200
    assert isinstance(answer["forecasts"], list)
    published = _published(trained)
    assert {row["product_id"]: f"{row['units']:.4f}" for row in answer["forecasts"]} == {
        product: units for (store, product), units in published.items() if store == "001"
    }
    status, problem = post(b'{"model": "r99-large-fast"}')
    assert status == 404
    assert "r01-large-fast" in str(problem["known"])
