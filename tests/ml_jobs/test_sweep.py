"""A sweep within its budget, and a training that uses and names its result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ml_jobs import sweep, train
from ml_jobs.forecasting.tuning import DEFAULT
from tests.ml_jobs.conftest import TrainedFolder
from tests.ml_jobs.small_folder import CUTOFF


def test_each_class_gets_its_best_trial_and_the_card_names_it(trained: TrainedFolder, tmp_path: Path) -> None:
    arguments = ["--data", str(trained.data), "--out", str(tmp_path), "--cutoff", str(CUTOFF), "--trials", "3"]
    assert sweep.main(arguments) == 0
    document = json.loads((tmp_path / "sweep.json").read_text())
    assert document["cutoff"] == str(CUTOFF.plus(-4))
    assert set(document["classes"]) == {"fast", "slow"}
    for found in document["classes"].values():
        objectives = [trial["objective"] for trial in found["trials"]]
        assert len(objectives) == 3
        assert found["trials"][0]["tuning"] == DEFAULT.to_dict()
        won = min(found["trials"], key=lambda trial: trial["objective"])
        assert found["best"] in (won["tuning"], DEFAULT.to_dict())
    document["classes"]["fast"]["best"] = {"prior_net_weight": 0.0, "prior_strength": 10.0, "small_residual": 0.25}
    (tmp_path / "sweep.json").write_text(json.dumps(document))
    assert train.main(["--data", str(trained.data), "--out", str(tmp_path / "m"), "--cutoff", str(CUTOFF), "--pooled",
                       str(trained.models / "pooled"), "--segments", "r01-large-fast,r01-large-slow", "--tuning",
                       str(tmp_path / "sweep.json")]) == 0
    cards = {key: json.loads((tmp_path / f"m/{key}/model_card.json").read_text())["choices"]
             for key in ("r01-large-fast", "r01-large-slow")}
    assert cards["r01-large-fast"]["tuning"]["prior_strength"] == 10.0
    assert cards["r01-large-fast"]["net_weight"] == 0.0
    assert cards["r01-large-slow"]["tuning"] == document["classes"]["slow"]["best"]


def test_time_that_is_up_leaves_the_default(trained: TrainedFolder, tmp_path: Path) -> None:
    arguments = ["--data", str(trained.data), "--out", str(tmp_path), "--cutoff", str(CUTOFF)]
    assert sweep.main([*arguments, "--minutes", "0"]) == 0
    classes = json.loads((tmp_path / "sweep.json").read_text())["classes"]
    assert [(len(found["trials"]), found["best"]) for found in classes.values()] == [(1, DEFAULT.to_dict())] * 2


@pytest.mark.parametrize("text", ["[]", "{}", '{"classes": {"fast": {"best": {"speed": 1}}}}',
                                  '{"classes": {"fast": {"best": {"prior_strength": -1}}}}'])
def test_a_tuning_that_is_none_is_refused(
    trained: TrainedFolder, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sweep.json").write_text(text)
    assert train.main(["--data", str(trained.data), "--out", str(tmp_path), "--cutoff", str(CUTOFF), "--tuning",
                       str(tmp_path / "sweep.json")]) == 1
    assert "training failed" in capsys.readouterr().err
