"""The command lines: what they write, what they refuse, that they are exact and blind to the future."""

from __future__ import annotations

import csv
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from domain.metrics import Tally, mape
from ml_jobs import pretrain, score, train, validate
from ml_jobs.forecasting.evaluation import lead_in_errors
from tests.ml_jobs.conftest import TrainedFolder
from tests.ml_jobs.small_folder import CUTOFF, PRODUCTS, STORES, small_folder

NEXT = str(CUTOFF.plus(1))


def _score(data: Path, models: Path, out: Path, *more: str) -> list[dict[str, str]]:
    assert score.main(["--data", str(data), "--models", str(models), "--week", NEXT, "--out", str(out), *more]) == 0
    with out.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_every_key_ends_in_the_results(trained: TrainedFolder) -> None:
    with (trained.models / "results.csv").open(encoding="utf-8") as handle:
        rows = {row["segment"]: row for row in csv.DictReader(handle)}
    formats = sorted(set(STORES.values()))
    assert sorted(rows) == sorted(f"{region}-{store_format}-{kind}" for region, store_format in formats
                                  for kind in ("fast", "slow", "baseline"))
    assert {row["status"] for row in rows.values()} == {"trained"}


def test_metrics_are_tallies_of_an_unseen_window(trained: TrainedFolder) -> None:
    document = json.loads((trained.models / "r01-large-fast/metrics.json").read_text())
    assert document["evaluation"]["weeks"] == [str(CUTOFF.plus(back)) for back in (-3, -2, -1, 0)]
    assert set(document["evaluation"]["members"]) == {"ensemble", "lasso", "embedding_net", "baseline"}
    assert sum(document["weights"].values()) == pytest.approx(1.0)
    total = Tally.from_dict(document["evaluation"]["members"]["ensemble"])
    by_week = [Tally.from_dict(week["ensemble"]) for week in document["evaluation"]["by_week"].values()]
    assert sum(week.n for week in by_week) == total.n
    assert (mape(total) or 9) < 1.5


def test_the_card_names_data_code_and_verdicts(trained: TrainedFolder) -> None:
    card = json.loads((trained.models / "r01-large-fast/model_card.json").read_text())
    assert card["data"]["files"].keys() >= {"deliveries.csv", "promotions.csv"}
    assert len(card["code"]["hash"]) == 64
    assert card["checks"] == {"finite": True, "loads": True, "not_constant": True}
    assert card["verdicts"]["mape_better_than_baseline"] in (True, False)
    assert card["trained_on"] == str(CUTOFF)


def test_every_active_pair_is_scored_once_and_each_member_can_be_read(trained: TrainedFolder) -> None:
    with trained.forecasts.open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == len(STORES) * len(PRODUCTS)
    assert [(row["store_id"], row["product_id"]) for row in rows] == sorted(
        (row["store_id"], row["product_id"]) for row in rows
    )
    assert {row["sales_week"] for row in rows} == {NEXT}
    segments = json.loads(trained.forecasts.with_suffix(".summary.json").read_text())["segments"]
    own = {key for key, segment in segments.items() if segment["scored_by"] == "own_model"}
    assert own >= {"r01-large-fast", "r01-large-slow", "r02-small-fast", "r02-small-slow"}
    assert {row["segment"] for row in rows if row["kind"] == "ensemble"} == own
    for row in (row for row in rows if row["segment"] in own):
        parts = sorted(float(row[name]) for name in ("lasso_units", "embedding_net_units"))
        assert parts[0] - 1e-4 <= float(row["units"]) <= parts[1] + 1e-4


def test_a_second_training_gives_the_same_bytes(trained: TrainedFolder, tmp_path: Path) -> None:
    models = tmp_path / "models"
    assert train.main(["--data", str(trained.data), "--out", str(models), "--cutoff", str(CUTOFF),
                       "--effort", "quick"]) == 0
    _score(trained.data, models, tmp_path / "forecasts.csv")
    assert (tmp_path / "forecasts.csv").read_bytes() == trained.forecasts.read_bytes()


def test_one_segment_in_its_own_process_gives_the_same_rows(trained: TrainedFolder, tmp_path: Path) -> None:
    key = "r02-small-slow"
    command = [sys.executable, "-m", "ml_jobs.train", "--data", str(trained.data), "--out", str(tmp_path), "--cutoff",
               str(CUTOFF), "--effort", "quick", "--segments", key, "--pooled", str(trained.models / "pooled")]
    subprocess.run(command, check=True, capture_output=True)
    rows = _score(trained.data, tmp_path, tmp_path / "part.csv", "--segments", key)
    with trained.forecasts.open(encoding="utf-8") as handle:
        assert rows == [row for row in csv.DictReader(handle) if row["segment"] == key]


def test_what_happens_after_the_cutoff_changes_no_forecast(trained: TrainedFolder, tmp_path: Path) -> None:
    """Shuffle and blow up everything that becomes known later: units, returns, measured weather, far promotions."""
    folder = small_folder(weeks=46, ahead=1)
    same = small_folder()
    shuffler = random.Random(1)
    for name in ("deliveries", "returns"):
        later = [dict(row, units=1000) for row in folder.tables[name] if row["sales_week"] > str(CUTOFF)]
        shuffler.shuffle(later)
        same.tables[name] += later
    same.tables["weather"] += [
        dict(row, origin="history", tmax_c=99) for row in same.tables["weather"] if row["sales_week"] == NEXT
    ]
    same.tables["promotions"] += [
        dict(row, display_share=7.0) for row in folder.tables["promotions"] if row["sales_week"] > NEXT
    ]
    data, models = same.write(tmp_path / "data"), tmp_path / "models"
    assert train.main(["--data", str(data), "--out", str(models), "--cutoff", str(CUTOFF), "--effort", "quick"]) == 0
    _score(data, models, tmp_path / "forecasts.csv")
    assert (tmp_path / "forecasts.csv").read_bytes() == trained.forecasts.read_bytes()


def test_what_is_known_ahead_does_change_the_forecast(trained: TrainedFolder, tmp_path: Path) -> None:
    folder = small_folder()
    folder.tables["promotions"] = [row for row in folder.tables["promotions"] if row["sales_week"] != NEXT] + [
        {"store_id": "001", "product_id": "p00", "sales_week": NEXT, "display_share": 1.0, "mailer_share": 0.5}
    ]
    rows = _score(folder.write(tmp_path / "data"), trained.models, tmp_path / "forecasts.csv")
    with trained.forecasts.open(encoding="utf-8") as handle:
        before = {(row["store_id"], row["product_id"]): row["units"] for row in csv.DictReader(handle)}
    changed = {key for key, units in before.items()
               for row in rows if (row["store_id"], row["product_id"]) == key and row["units"] != units}
    promoted = {(row["store_id"], row["product_id"]) for row in small_folder().tables["promotions"]
                if row["sales_week"] == NEXT} ^ {("001", "p00")}
    assert changed
    assert changed <= promoted


def test_a_broken_segment_ends_in_the_report_and_loses_no_other(trained: TrainedFolder, tmp_path: Path,
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", str(trained.data), "--out", str(tmp_path), "--cutoff", str(CUTOFF), "--effort", "quick",
                 "--pooled", str(trained.models / "pooled"), "--segments", "r01-large-fast,r09-large-fast"]
    assert train.main(arguments) == 1
    assert "r09-large-fast" in capsys.readouterr().err
    with (tmp_path / "results.csv").open(encoding="utf-8") as handle:
        rows = {row["segment"]: row for row in csv.DictReader(handle)}
    assert rows["r01-large-fast"]["status"] == "trained"
    assert rows["r09-large-fast"]["status"] == "failed"
    assert "no series" in rows["r09-large-fast"]["error"]
    assert json.loads((tmp_path / "r09-large-fast/metrics.json").read_text())["status"] == "failed"
    assert train.main([*arguments, "--max-failed-share", "0.5"]) == 0


def test_a_thin_segment_falls_back_to_its_history_average(tmp_path: Path) -> None:
    folder = small_folder()
    kept = {("006", "p00"), ("006", "p01")}
    folder.tables["deliveries"] = [
        row for row in folder.tables["deliveries"] if row["store_id"] not in ("005", "006")
        or (row["store_id"], row["product_id"]) in kept
    ]
    data, models = folder.write(tmp_path / "data"), tmp_path / "models"
    assert train.main(["--data", str(data), "--out", str(models), "--cutoff", str(CUTOFF), "--effort", "quick"]) == 0
    document = json.loads((models / "r02-small-fast/metrics.json").read_text())
    assert document["status"] == "thin"
    assert document["kind"] == "ensemble"
    rows = [row for row in _score(data, models, tmp_path / "f.csv") if row["segment"] == "r02-small-fast"]
    assert {row["kind"] for row in rows} == {"baseline"}
    assert {(row["store_id"], row["product_id"]) for row in rows} == kept
    assert rows[0]["lasso_units"] == ""


def test_a_segment_whose_model_is_gone_is_scored_by_the_baseline_and_says_so(
    trained: TrainedFolder, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(trained.models, models)
    shutil.rmtree(models / "r01-small-fast")
    rows = _score(trained.data, models, tmp_path / "f.csv")
    assert {row["kind"] for row in rows if row["segment"] == "r01-small-fast"} == {"baseline"}
    summary = json.loads((tmp_path / "f.summary.json").read_text())
    assert summary["segments"]["r01-small-fast"]["scored_by"] == "region_baseline"
    assert summary["segments"]["r01-large-fast"]["scored_by"] == "own_model"


def test_a_shift_of_demand_shows_as_drift(trained: TrainedFolder, tmp_path: Path) -> None:
    folder = small_folder()
    late = str(CUTOFF.plus(-10))
    for row in folder.tables["deliveries"]:
        if row["sales_week"] > late:
            row["units"] *= 6
    stores = [dict(row, store_id=f"9{i}", region="r01", store_format="large") for i, row in
              enumerate(folder.tables["stores"])]
    extra = [dict(row, store_id=new["store_id"]) for new, old in zip(stores, STORES, strict=True)
             for row in folder.tables["deliveries"] if row["store_id"] == old]
    folder.tables["stores"] += stores
    folder.tables["deliveries"] += extra
    _score(folder.write(tmp_path / "data"), trained.models, tmp_path / "f.csv")
    moved = json.loads((tmp_path / "f.summary.json").read_text())["segments"]["r01-large-fast"]["drift"]
    assert moved[0]["verdict"] == "act"
    assert moved[0]["psi"] > 0.25


def test_a_model_that_was_asked_for_by_name_is_never_replaced_in_silence(
    trained: TrainedFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = tmp_path / "models"
    shutil.copytree(trained.models, models)
    shutil.rmtree(models / "r01-small-fast")
    assert score.main(["--data", str(trained.data), "--models", str(models), "--week", NEXT, "--out",
                       str(tmp_path / "f.csv"), "--segments", "r01-small-fast"]) == 1
    assert "no model for segment 'r01-small-fast'" in capsys.readouterr().err


def test_a_baseline_scores_all_of_its_region_and_format(trained: TrainedFolder, tmp_path: Path) -> None:
    rows = _score(trained.data, trained.models, tmp_path / "f.csv", "--segments", "r01-large-baseline")
    assert len(rows) == 2 * len(PRODUCTS)
    assert {row["segment"] for row in rows} == {"r01-large-baseline"}


def test_a_longer_horizon_is_a_parameter(tmp_path: Path) -> None:
    data = small_folder(ahead=2).write(tmp_path / "data")
    assert train.main(["--data", str(data), "--out", str(tmp_path / "m"), "--cutoff", str(CUTOFF), "--effort", "quick",
                       "--horizon", "2"]) == 0
    rows = _score(data, tmp_path / "m", tmp_path / "f.csv", "--horizon", "2")
    assert {row["sales_week"] for row in rows} == {NEXT, str(CUTOFF.plus(2))}
    assert len(rows) == 2 * len(STORES) * len(PRODUCTS)


def test_transfer_names_its_parent_and_starts_from_it(trained: TrainedFolder, tmp_path: Path) -> None:
    out = tmp_path / "pooled"
    assert pretrain.main(["--data", str(trained.data), "--out", str(out), "--cutoff", str(CUTOFF), "--effort", "quick",
                          "--init-from", str(trained.models / "r01-large-fast")]) == 0
    facts = json.loads((out / "pooled.json").read_text())
    assert facts["parent"]["segment"] == "r01-large-fast"
    assert (out / "pooled.npz").read_bytes() != (trained.models / "pooled/pooled.npz").read_bytes()


@pytest.mark.parametrize(("more", "reason"), [
    (["--cutoff", "2016-W01"], "no row up to"),
    (["--cutoff", "november"], "not a sales week"),
    (["--cutoff", str(CUTOFF), "--pooled", "."], "no pooled net"),
    (["--cutoff", str(CUTOFF), "--init-from", "."], "neither a pooled net"),
])
def test_unusable_arguments_end_with_the_reason(
    data: Path, tmp_path: Path, more: list[str], reason: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main(["--data", str(data), "--out", str(tmp_path / "m"), "--effort", "quick", *more]) == 1
    assert reason in capsys.readouterr().err


def test_a_pooled_net_of_another_cutoff_is_refused(trained: TrainedFolder, tmp_path: Path,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--data", str(trained.data), "--out", str(tmp_path), "--cutoff", str(CUTOFF.plus(-1)),
                       "--pooled", str(trained.models / "pooled")]) == 1
    assert "same cutoff" in capsys.readouterr().err


def test_scoring_and_segments_load_neither_torch_nor_sklearn(trained: TrainedFolder, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom ml_jobs import score, train\n"
        f"assert score.main(['--data', {str(trained.data)!r}, '--models', {str(trained.models)!r}, '--week', {NEXT!r},"
        f" '--out', {str(tmp_path / 'f.csv')!r}]) == 0\n"
        f"assert train.main(['--data', {str(trained.data)!r}, '--out', {str(tmp_path)!r}, '--cutoff', {str(CUTOFF)!r},"
        f" '--segments', 'r01-large-slow', '--pooled', {str(trained.models / 'pooled')!r}]) == 0\n"
        "print(sorted({'torch', 'sklearn', 'mlflow', 'pandas', 'scipy', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def _judged(folder: Path, *, lead: float = 5.0, **figures: float) -> None:
    """Change what the stored back-test says of the ensemble."""
    document = json.loads((folder / "metrics.json").read_text())
    document["backtest"]["lead"] = lead
    document["backtest"]["ensemble"] |= figures
    (folder / "metrics.json").write_text(json.dumps(document))


def test_a_model_that_lost_to_the_history_average_is_replaced_by_it(trained: TrainedFolder, tmp_path: Path) -> None:
    models, key = tmp_path / "models", "r01-large-fast"
    shutil.copytree(trained.models, models)
    _judged(models / key, sum_absolute_error=1e9, sum_ape=0.0)
    rows = [row for row in _score(trained.data, models, tmp_path / "f.csv") if row["segment"] == key]
    averages = {(row["store_id"], row["product_id"]): row["units"]
                for row in _score(trained.data, models, tmp_path / "b.csv", "--segments", "r01-large-baseline")}
    assert rows
    assert all(row["units"] == averages[row["store_id"], row["product_id"]] for row in rows)
    assert {(row["kind"], row["lasso_units"]) for row in rows} == {("baseline", "")}
    segment = json.loads((tmp_path / "f.summary.json").read_text())["segments"][key]
    assert segment["scored_by"] == "lost_to_average"
    assert "not better than the history average in 8 weeks: WAPE" in segment["error"]
    assert {row["kind"] for row in _score(trained.data, models, tmp_path / "n.csv", "--segments", key)} == {"ensemble"}
    _judged(models / key, sum_absolute_error=0.0)
    won = [row for row in _score(trained.data, models, tmp_path / "w.csv") if row["segment"] == key]
    assert {row["kind"] for row in won} == {"ensemble"}


@pytest.mark.parametrize(("sold", "lead", "scored_by"), [
    (49, 2.9, "unclear_lead"), (49, 3.0, "own_model"), (50, 2.9, "own_model"), (50, 0.1, "own_model"),
])
def test_of_few_sales_a_model_must_lead_clearly(
    trained: TrainedFolder, tmp_path: Path, sold: int, lead: float, scored_by: str
) -> None:
    models, key = tmp_path / "models", "r01-large-fast"
    shutil.copytree(trained.models, models)
    _judged(models / key, lead=lead, n_positive=sold, sum_absolute_error=0.0, sum_ape=0.0)
    rows = [row for row in _score(trained.data, models, tmp_path / "f.csv") if row["segment"] == key]
    segment = json.loads((tmp_path / "f.summary.json").read_text())["segments"][key]
    assert segment["scored_by"] == scored_by
    assert {row["kind"] for row in rows} == {"ensemble" if scored_by == "own_model" else "baseline"}
    assert ("2.9 standard errors in 8 weeks" in segment["error"]) == (scored_by == "unclear_lead")


def test_a_lead_is_counted_in_standard_errors() -> None:
    actual, costs = np.array([4.0, 4.0, 0.0, 2.0]), np.array([1.0, 2.0, 1.0, 1.0])
    ours, average = np.array([3.0, 4.0, 1.0, 2.0]), np.array([1.0, 3.0, 0.0, 2.0])
    saved = [2.0, 2.0, -1.0, 0.0]
    assert lead_in_errors(actual, ours, average, costs) == pytest.approx(sum(saved) / (np.std(saved) * 2))
    assert lead_in_errors(actual, average, ours, costs) == pytest.approx(-sum(saved) / (np.std(saved) * 2))
    assert lead_in_errors(actual, ours, ours, costs) == 0.0


def test_validation_accepts_what_training_adds_up_and_counts_it(tmp_path: Path) -> None:
    folder = small_folder()
    first = folder.tables["deliveries"][0]
    folder.tables["deliveries"] += [dict(first), dict(folder.tables["deliveries"][1], units=-10_000)]
    facts = validate.validate_data(folder.write(tmp_path), CUTOFF)
    assert (facts["repeated"], facts["negative"], facts["lost"]) == (2, 1, 0)
    assert facts["rows"] == len(folder.tables["deliveries"])
