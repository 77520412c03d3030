"""The YAML of jobs and endpoints: Azure ML's own loader takes it, and every cross reference holds."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2] / "ml_jobs"
COMPONENTS = sorted((ROOT / "components").glob("*/component.yml"))
PIPELINES = sorted((ROOT / "pipelines").glob("*.yml"))
PLACE = re.compile(r"\$\{\{\s*(inputs|outputs)\.(\w+)\s*\}\}")


def _read(path: Path) -> dict[str, Any]:
    document = yaml.safe_load(path.read_text())
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("path", COMPONENTS, ids=lambda path: path.parent.name)
def test_a_component_declares_what_its_command_uses(path: Path) -> None:
    component = _read(path)
    assert component["name"] == path.parent.name
    assert isinstance(component["version"], str)
    used = set(PLACE.findall(component["command"]))
    declared = {("inputs", name) for name in component["inputs"]} | {("outputs", name) for name in component["outputs"]}
    assert used == declared
    outside = re.sub(r"\$\[\[.*?\]\]", "", component["command"], flags=re.DOTALL)
    optional = {name for name, entry in component["inputs"].items() if entry.get("optional")}
    assert not optional & {name for _, name in PLACE.findall(outside)}


@pytest.mark.parametrize("path", COMPONENTS, ids=lambda path: path.parent.name)
def test_the_command_line_takes_the_components_options(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import importlib

    command = _read(path)["command"].replace("$[[", " ").replace("]]", " ")
    words = shlex.split(PLACE.sub("x", command))
    module = importlib.import_module(words[2])
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0
    known = capsys.readouterr().out
    assert all(word in known for word in words if word.startswith("--"))


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_a_pipeline_names_a_component_that_exists_in_that_version(path: Path) -> None:
    pipeline = _read(path)
    ((_, step),) = pipeline["jobs"].items()
    _, name, version = step["component"].split(":")
    component = _read(ROOT / "components" / name / "component.yml")
    assert component["version"] == version
    assert set(step["inputs"]) <= set(component["inputs"])
    inputs = component["inputs"].items()
    required = {key for key, entry in inputs if not entry.get("optional") and "default" not in entry}
    assert required <= set(step["inputs"])
    assert set(step["outputs"]) == set(component["outputs"])
    for name, bound in {**step["inputs"], **step["outputs"]}.items():
        assert bound in (f"${{{{parent.inputs.{name}}}}}", f"${{{{parent.outputs.{name}}}}}")


def test_environments_and_requirements_name_the_same_versions() -> None:
    wanted = {}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        match = re.match(r"([\w-]+)(\S*)", line)
        if match and match[2]:
            wanted[match[1]] = match[2]
    for folder in ("forecasting", "scoring"):
        pins = _read(ROOT / "environments" / folder / "conda.yml")["dependencies"][-1]["pip"]
        names = {pin.split("==")[0] for pin in pins if "==" in pin}
        assert all("==" in pin or pin.startswith("--") for pin in pins)
        assert names - {"azureml-inference-server-http"} <= set(wanted)


@pytest.mark.parametrize("name", ["batch", "online"])
def test_a_no_code_deployment_has_neither_script_nor_environment(name: str) -> None:
    deployment = _read(ROOT / "endpoints" / name / "no_code_deployment.yml")
    assert not {"code_configuration", "environment"} & deployment.keys()


@pytest.mark.long
def test_azure_ml_takes_every_definition() -> None:
    from azure.ai.ml import (
        load_batch_deployment,
        load_batch_endpoint,
        load_component,
        load_environment,
        load_job,
        load_online_deployment,
        load_online_endpoint,
    )

    for path in COMPONENTS:
        assert load_component(path).name == path.parent.name
    for path in PIPELINES:
        assert load_job(path).type == "pipeline"
    for path in sorted((ROOT / "environments").glob("*/environment.yml")):
        assert load_environment(path).name == path.parent.name
    online, batch = ROOT / "endpoints/online", ROOT / "endpoints/batch"
    assert load_online_endpoint(online / "endpoint.yml").auth_mode == "aad_token"
    assert [load_online_deployment(online / f"{name}.yml").name for name in ("blue", "green")] == ["blue", "green"]
    assert load_online_deployment(online / "no_code_deployment.yml").name == "no-code"
    assert load_batch_endpoint(batch / "endpoint.yml").name == "shelfcast-batch"
    assert load_batch_deployment(batch / "deployment.yml").error_threshold == 0
    assert load_batch_deployment(batch / "no_code_deployment.yml").name == "no-code"
