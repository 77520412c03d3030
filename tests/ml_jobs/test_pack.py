"""One folder of many models: built by one command, refused by name where the models do not go together."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from ml_jobs import pack
from ml_jobs.endpoints.batch import driver
from ml_jobs.forecasting.serving import Scorer
from tests.adapters.batch_models import save_set
from tests.ml_jobs.small_folder import CUTOFF, PRODUCTS, small_folder

KEYS = [f"{place}-{speed}" for place in ("r01-large", "r01-small", "r02-large", "r02-small")
        for speed in ("fast", "slow")]
WEEK = str(CUTOFF.plus(1))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder().write(tmp_path_factory.mktemp("inputs"))


def packed(models: Path, data: Path, out: Path) -> int:
    return pack.main(["--models", str(models), "--data", str(data), "--week", WEEK, "--out", str(out)])


def test_one_command_makes_a_folder_that_both_endpoints_serve(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert packed(save_set(tmp_path / "models", KEYS), inputs, out) == 0
    document = json.loads((out / "deployment.json").read_text())
    assert document["names"] == sorted(document["models"]) == sorted(KEYS)
    assert len(Scorer.open(out).answer({"store_id": "001"})["forecasts"]) == len(PRODUCTS)

    monkeypatch.setenv("AZUREML_MODEL_DIR", "restored after the test")
    assert driver.main(["--models", str(out), "--data", str(out / "sample"), "--out", str(tmp_path / "scores")]) == 0
    with (tmp_path / "scores/forecasts.csv").open(encoding="utf-8") as handle:
        rows = list(csv.reader(handle))
    assert len(rows) == document["sample_rows"] == 6 * len(PRODUCTS)
    assert packed(tmp_path / "models", inputs, out) == 0  # a job that was taken away in the middle begins again


@pytest.mark.parametrize(("file", "text", "named"), [
    ("python_env.yaml", "python: 3.9.1\n", "different Pythons: 3.11 (r01-large-slow, r01-small-fast"),
    ("requirements.txt", "numpy==1.26.4\n", "; ==1.26.4 (r01-large-fast)"),
    ("requirements.txt", "numpy>=2\npandas<1.5\n", "different pandas: <1.5 (r01-large-fast)"),
    ("requirements.txt", "???\n", "r01-large-fast: its requirements cannot be read"),
    ("data/arrays.npz", "half a file", "r01-large-fast is not a model folder"),
])
def test_a_model_that_does_not_fit_is_named(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, text: str, named: str
) -> None:
    models = save_set(tmp_path / "models", KEYS)
    (models / KEYS[0] / file).write_text(text)
    assert packed(models, inputs, tmp_path / "out") == 1
    told = capsys.readouterr().err
    assert "the models cannot share a deployment" in told and named in told
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_packed_is_said(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = save_set(tmp_path / "models", KEYS[:1])
    shutil.copytree(models / KEYS[0], models / "again")
    assert packed(models, inputs, tmp_path / "out") == 1
    assert f"again and {KEYS[0]} are both models of {KEYS[0]}" in capsys.readouterr().err
    assert packed(tmp_path / "nowhere", inputs, tmp_path / "out") == 1
    assert "holds no model" in capsys.readouterr().err
    assert packed(save_set(tmp_path / "strange", ["r99-large-fast"]), inputs, tmp_path / "out") == 1
    assert "no series of" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full/r05-large-fast").mkdir()
    assert packed(save_set(tmp_path / "good", KEYS[:1]), inputs, tmp_path / "full") == 1
    assert "holds r05-large-fast, which is not of these models" in capsys.readouterr().err
