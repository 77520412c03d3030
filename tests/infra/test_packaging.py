"""The package holds what runs and nothing else, is the same for the same commit, and betrays any change."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts import package, packages
from scripts.package import is_ignored


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    package.build(out)
    return out


def test_the_same_files_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    paths = package.files_of(".amlignore")
    package.write_zip(tmp_path / "one.zip", paths)
    package.write_zip(tmp_path / "two.zip", reversed(sorted(paths, reverse=True)))
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_a_changed_package_is_found_out(made: Path, tmp_path: Path) -> None:
    here = package.code_version()
    assert package.verify(made, here) == []
    for name in ("functions.zip", "ml.zip", "sbom.json", "manifest.json"):
        (tmp_path / name).write_bytes((made / name).read_bytes())
    (tmp_path / "functions.zip").write_bytes((tmp_path / "functions.zip").read_bytes() + b"x")
    assert package.verify(tmp_path, here) == ["functions.zip is not the file that was packaged"]
    (other,) = package.verify(made, "0123456789ab")
    assert f"the package is of {here}, this folder is at 0123456789ab" in other


def test_the_app_in_the_package_loads_and_has_all_that_it_reads(made: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(made / "functions.zip") as bundle:
        bundle.extractall(tmp_path)
    code = (
        "import function_app, json, pathlib\n"
        "print(len(function_app.app.get_functions()))\n"
        "from adapters.jobs_component import load_launch\n"
        "assert pathlib.Path('docs/openapi.json').exists() and pathlib.Path('config/scenario.json').exists()\n"
        "for name in ('pretrain', 'train_segment', 'score'):\n"
        "    assert pathlib.Path(f'ml_jobs/components/{name}/component.yml').exists(), name\n"
        "assert pathlib.Path('dashboard/static/index.html').exists()\n"
    )
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30
    names = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
    assert not names & {"tests", "devhost", "samples", "benchmarks", "scripts", "infra", "adf", ".github", "Makefile"}


def test_the_bundle_for_azure_ml_holds_the_jobs_and_the_rules_that_they_import(made: Path) -> None:
    with zipfile.ZipFile(made / "ml.zip") as bundle:
        assert {name.split("/")[0] for name in bundle.namelist()} == {"domain", "ml_jobs"}


def test_the_bill_of_materials_lists_every_package_that_is_deployed_and_none_for_tests(made: Path) -> None:
    document = json.loads((made / "sbom.json").read_text("utf-8"))
    names = {one["name"] for one in document["components"]}
    assert document["specVersion"] == "1.6" and {"azure-functions", "pandas", "torch", "mssql-python"} <= names
    assert not names & {"pytest", "ruff", "mypy", "schemathesis"}
    references = {one["bom-ref"] for one in document["components"]}
    assert all(set(one["dependsOn"]) <= references for one in document["dependencies"])


def test_every_licence_is_allowed() -> None:
    assert [one.name for one in packages.deployed_packages() if not one.is_allowed] == []
    assert not packages.Package("x", "1", "GNU Affero General Public License v3", ()).is_allowed


def test_ignore_files_are_read_as_git_reads_them() -> None:
    patterns = ["*", "!domain/", "!domain/**", "__pycache__/"]
    assert is_ignored("README.md", patterns) and not is_ignored("domain/runs.py", patterns)
    assert is_ignored("domain/__pycache__/runs.pyc", patterns)
    assert is_ignored("docs/a.md", ["docs/*.md"]) and not is_ignored("docs/openapi.json", ["docs/*.md"])
