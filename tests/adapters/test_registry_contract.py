"""What every model registry behind the port promises; the same tests run on MLflow and on Azure ML."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapters.azureml_client import AzureMl
from adapters.registry_azureml import AzureMlRegistry
from adapters.registry_mlflow import MlflowRegistry
from domain.errors import Conflict, NotFound
from domain.ports import ModelVersion, Registry
from tests.control_plane.server import ControlPlane

ROOT = Path(__file__).resolve().parents[2]
NAME = "demand-r01-large-fast"
PATH = "azureml://datastores/models/paths/weekly-2017-W45-a1-r01-large-fast/r01-large-fast/"
TAGS = {"segment": "r01-large-fast", "trained_on": "2017-11-06", "mape": "0.31"}


@pytest.fixture(params=["mlflow", "azureml"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    if request.param == "mlflow":
        yield MlflowRegistry(f"sqlite:///{tmp_path / 'registry.sqlite'}")
        return
    plane: ControlPlane = request.getfixturevalue("plane")
    settings = plane.environment
    workspace = AzureMl(settings["AML_SUBSCRIPTION_ID"], settings["AML_RESOURCE_GROUP"], settings["AML_WORKSPACE"])
    yield AzureMlRegistry(workspace)


def test_a_new_version_is_a_candidate_with_its_tags(registry: Registry) -> None:
    expected = ModelVersion(NAME, "3f2a9c", PATH, "candidate", TAGS)
    assert registry.register(NAME, "3f2a9c", PATH, TAGS) == expected
    assert list(registry.versions(NAME)) == [expected]
    assert registry.versions("demand-unknown") == []


def test_registering_again_returns_what_is_there(registry: Registry) -> None:
    registry.register(NAME, "3f2a9c", PATH, TAGS)
    registry.set_stage(NAME, "3f2a9c", "production", {"promoted_by": "ann"})
    again = registry.register(NAME, "3f2a9c", PATH, TAGS)
    assert (again.stage, again.tags["promoted_by"]) == ("production", "ann")
    assert len(registry.versions(NAME)) == 1


def test_a_version_never_gets_another_path(registry: Registry) -> None:
    registry.register(NAME, "3f2a9c", PATH, TAGS)
    with pytest.raises(Conflict, match="a version never changes"):
        registry.register(NAME, "3f2a9c", "azureml://datastores/models/paths/elsewhere/", TAGS)


def test_versions_come_newest_first_and_models_holds_them_all(registry: Registry) -> None:
    for version in ("aaa", "ccc", "bbb"):
        registry.register(NAME, version, PATH + version + "/", TAGS)
    registry.register("demand-r02-small-slow", "ddd", PATH, TAGS)
    assert [found.version for found in registry.versions(NAME)] == ["bbb", "ccc", "aaa"]
    assert sorted((found.name, found.version) for found in registry.models()) == [
        (NAME, "aaa"),
        (NAME, "bbb"),
        (NAME, "ccc"),
        ("demand-r02-small-slow", "ddd"),
    ]


def test_a_stage_moves_back_and_forth_and_tags_are_merged(registry: Registry) -> None:
    registry.register(NAME, "3f2a9c", PATH, TAGS)
    registry.set_stage(NAME, "3f2a9c", "production", {"why": "better than the baseline"})
    moved = registry.set_stage(NAME, "3f2a9c", "retired", {"mape": "0.50"})
    assert moved == ModelVersion(
        NAME, "3f2a9c", PATH, "retired", {**TAGS, "why": "better than the baseline", "mape": "0.50"}
    )
    assert registry.set_stage(NAME, "3f2a9c", "production").stage == "production"
    assert registry.versions(NAME)[0].stage == "production"


def test_an_unknown_version_has_no_stage(registry: Registry) -> None:
    with pytest.raises(NotFound):
        registry.set_stage(NAME, "nothing", "production")
    registry.register(NAME, "3f2a9c", PATH, TAGS)
    with pytest.raises(NotFound):
        registry.set_stage(NAME, "nothing", "production")


def test_threads_register_at_once(registry: Registry) -> None:
    names = [f"demand-s{number}" for number in range(6)] * 3
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: registry.register(name, "v", PATH, TAGS), names))
    assert sorted(found.name for found in registry.models()) == sorted(set(names))


def test_84_models_are_registered_and_promoted_in_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry = MlflowRegistry(f"sqlite:///{tmp_path / 'registry.sqlite'}")
    began, cpu = time.monotonic(), time.process_time()
    assert registry.models() == []
    opened = time.monotonic()
    for number in range(84):
        registry.register(f"demand-s{number}", "v1", PATH, {f"tag{index}": "x" for index in range(10)})
    registered = time.monotonic()
    for number in range(84):
        registry.set_stage(f"demand-s{number}", "v1", "production", {"promoted_at": "now", "why": "better"})
    promoted = time.monotonic()
    assert len(registry.models()) == 84
    read = time.monotonic()
    with capsys.disabled():
        print(
            f"\nMLflow registry: open {opened - began:.1f} s, 84 registrations {registered - opened:.1f} s, "
            f"84 promotions {promoted - registered:.1f} s, read all {read - promoted:.2f} s; "
            f"CPU of all {time.process_time() - cpu:.1f} s"
        )
    assert time.process_time() - cpu < 10


def test_showing_models_does_not_wait_for_mlflow(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'registry.sqlite'}"
    assert MlflowRegistry(uri).models() == []
    MlflowRegistry(uri).register(NAME, "3f2a9c", PATH, TAGS)
    script = (
        "import sys; from adapters.registry_mlflow import MlflowRegistry\n"
        f"print([found.version for found in MlflowRegistry({uri!r}).models()], 'mlflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.split("\n")[0] == "['3f2a9c'] False"
