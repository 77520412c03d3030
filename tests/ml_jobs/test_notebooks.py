"""Notebooks and the modules that come out of them: one content, kept in one place."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from scripts.export_notebooks import main

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    for path in NOTEBOOKS:
        module = json.loads(path.read_text("utf-8"))["metadata"]["shelfcast"]["module"]
        (tmp_path / module).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / module, tmp_path / module)
    return tmp_path


def test_every_module_is_what_its_notebook_exports() -> None:
    assert NOTEBOOKS
    assert main(["--check"]) == 0


def test_a_module_that_was_changed_by_hand_fails_the_check_until_it_is_exported_again(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = repository / "ml_jobs/forecasting/objective.py"
    before = module.read_text()
    module.write_text(before.replace("BASE_RATE = ", "BASE_RATE = 1"))
    assert main(["--check", "--root", str(repository)]) == 1
    assert "objective.py differs from objective.ipynb" in capsys.readouterr().err
    assert main(["--root", str(repository)]) == 0
    assert module.read_text() == before


def test_a_change_of_an_exported_cell_fails_the_check_and_one_of_the_experiment_does_not(repository: Path) -> None:
    path = repository / "notebooks/objective.ipynb"
    notebook = json.loads(path.read_text("utf-8"))
    notebook["cells"][-1]["source"] = ["print('another experiment')"]
    path.write_text(json.dumps(notebook), "utf-8")
    assert main(["--check", "--root", str(repository)]) == 0
    notebook["cells"][1]["source"].append("\nMORE = 1")
    path.write_text(json.dumps(notebook), "utf-8")
    assert main(["--check", "--root", str(repository)]) == 1


def test_stored_outputs_fail_the_check(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = repository / "notebooks/objective.ipynb"
    notebook = json.loads(path.read_text("utf-8"))
    notebook["cells"][-1]["execution_count"] = 3
    path.write_text(json.dumps(notebook), "utf-8")
    assert main(["--check", "--root", str(repository)]) == 1
    assert "clear them" in capsys.readouterr().err


def test_experiments_run_and_production_cannot_reach_them() -> None:
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        exec(compile(code, path.name, "exec"), {"__name__": "experiment"})
    assert not list((ROOT / "notebooks").rglob("*.py"))
    product = [path for folder in ("domain", "conditioning", "orchestrators", "adapters", "ml_jobs", "dashboard")
               for path in (ROOT / folder).rglob("*.py")]
    assert not [path for path in product if re.search(r"^\s*(from|import) notebooks\b", path.read_text(), re.MULTILINE)]
    assert "notebooks" in (ROOT / ".funcignore").read_text().split()
