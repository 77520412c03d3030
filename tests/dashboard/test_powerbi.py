"""The Power BI project reads what the results store has: every view, every column, with data in the sample."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from pathlib import Path

import pytest

from adapters.results import open_results
from dashboard.powerbi_sample import FLAGS, OUT, VIEWS, export, main

PROJECT = OUT.parent
TABLES = PROJECT / "Shelfcast.SemanticModel" / "definition" / "tables"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("results") / "results.sqlite"
    results = open_results(f"sqlite:///{path}")
    results.write_run(
        {"run_id": "weekly-2017-W45-a1", "kind": "weekly", "sales_week": "2017-W45", "status": "degraded"}
    )
    results.write_metrics(
        "weekly-2017-W45-a1",
        [
            {"segment": "r01-large-fast", "member": "production", "mape": 0.3, "accepted": True, "stale": False},
        ],
    )
    results.set_current("2017-W45", "weekly-2017-W45-a1")
    results.close()
    return path


def header(file: Path) -> list[str]:
    with file.open(encoding="utf-8", newline="") as text:
        return next(csv.reader(text))


def test_every_column_of_the_model_is_in_its_view(store: Path, tmp_path: Path) -> None:
    export(store, tmp_path)
    read = set()
    for file in TABLES.glob("*.tmdl"):
        text = file.read_text("utf-8")
        (view,) = re.findall(r'ReadView\("(\w+)"', text)
        wanted = set(re.findall(r"sourceColumn: (\w+)", text))
        assert wanted and wanted <= set(header(tmp_path / f"{view}.csv")), file.name
        assert wanted == set(re.findall(r'\{"(\w+)", (?:type|Int64)', text)), file.name
        read.add(view)
    assert read == set(VIEWS)


def test_flags_are_words_that_power_bi_reads(store: Path, tmp_path: Path) -> None:
    export(store, tmp_path)
    with (tmp_path / "current_model_metrics.csv").open(encoding="utf-8", newline="") as text:
        (row,) = csv.DictReader(text)
    assert (row["accepted"], row["stale"], row["failover"]) == ("true", "false", "")
    assert {
        column
        for file in TABLES.glob("*.tmdl")
        for column in re.findall(r"column (\w+)\n\t\tdataType: boolean", file.read_text("utf-8"))
    } >= FLAGS


def test_the_checked_in_sample_fits_the_schema_of_today_and_has_data(store: Path, tmp_path: Path) -> None:
    export(store, tmp_path)
    for view in VIEWS:
        assert header(OUT / f"{view}.csv") == header(tmp_path / f"{view}.csv"), f"make the sample of {view} anew"
    for view in ("runs", "run_steps", "current_model_metrics", "current_forecasts", "current_quality",
                 "current_realised"):
        assert len((OUT / f"{view}.csv").read_text("utf-8").splitlines()) > 1, view
    assert sum(file.stat().st_size for file in OUT.iterdir()) < 1_000_000


def test_the_reports_have_the_pages_that_people_were_promised() -> None:
    pages: dict[str, list[str]] = {}
    for report in PROJECT.glob("*.Report"):
        name = json.loads((report / ".platform").read_text("utf-8"))["metadata"]["displayName"]
        folder = report / "definition" / "pages"
        order = json.loads((folder / "pages.json").read_text("utf-8"))["pageOrder"]
        pages[name] = [json.loads((folder / page / "page.json").read_text("utf-8"))["displayName"] for page in order]
    assert pages == {
        "ML training": ["Training", "Pipeline"],
        "ML monitoring": ["Scoring", "Realised accuracy", "Data quality", "Predictions", "Runs"],
    }


def test_stale_is_more_than_sixty_days() -> None:
    model = (TABLES / "Models.tmdl").read_text("utf-8")
    assert model.count("DATEDIFF(Models[trained_on], Models[week_start], DAY) > 60") == 2


def test_a_missing_database_is_said_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "sys.argv", ["powerbi_sample", "--results", str(tmp_path / "none.sqlite"), "--out", str(tmp_path)]
    )
    assert main() == 1
    assert "there is no results database" in capsys.readouterr().err
    sqlite3.connect(tmp_path / "empty.sqlite").execute("CREATE TABLE t (x)").connection.close()
    monkeypatch.setattr(
        "sys.argv", ["powerbi_sample", "--results", str(tmp_path / "empty.sqlite"), "--out", str(tmp_path)]
    )
    assert main() == 1
