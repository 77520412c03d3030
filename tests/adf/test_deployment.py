"""The ARM template of the factory, and the order in which it is deployed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from devhost.adf.template import build_template

ROOT = Path(__file__).parents[2]
ADF = ROOT / "adf"
TEMPLATE = build_template(ADF)


@pytest.mark.parametrize("environment", sorted(file.stem for file in (ADF / "parameters").glob("*.json")))
def test_each_environments_file_fits_the_template(environment: str) -> None:
    given = json.loads((ADF / "parameters" / f"{environment}.json").read_text())["parameters"]
    declared = TEMPLATE["parameters"]
    assert set(given) <= set(declared), "a parameter that the template does not have stops the deployment"
    kinds = {"string": str, "int": int, "object": dict, "array": list, "bool": bool}
    assert all(isinstance(entry["value"], kinds[declared[name]["type"]]) for name, entry in given.items())


def test_every_address_of_the_template_is_a_parameter() -> None:
    assert "azurewebsites.net" not in json.dumps(TEMPLATE["resources"])
    assert "/subscriptions/" not in json.dumps(TEMPLATE["resources"])


def test_resources_come_after_what_they_need() -> None:
    names = {}
    for resource in TEMPLATE["resources"]:
        kind = resource["type"].removeprefix("Microsoft.DataFactory/factories/")
        names[f"{kind}/{resource['name'].split('/')[1].split(chr(39))[0]}"] = resource
    for resource in names.values():
        for needed in resource["dependsOn"]:
            assert needed.split(", '/")[1].removesuffix("')]") in names
    weekly = " ".join(names["pipelines/pl_forecast_weekly"]["dependsOn"])
    assert "pipelines/pl_condition_all" in weekly
    assert "linkedServices/ls_functions" in weekly
    assert len(names) == len(list(ADF.glob("*/*.json"))) - len(list((ADF / "parameters").glob("*.json")))


def test_triggers_are_deployed_stopped_and_hold_no_secret() -> None:
    triggers = [r["properties"] for r in TEMPLATE["resources"] if r["type"].endswith("/triggers")]
    assert {trigger["runtimeState"] for trigger in triggers} == {"Stopped"}
    assert "secureString" not in json.dumps(TEMPLATE)


def test_a_text_with_a_bracket_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    definition = {"name": "p", "properties": {"activities": [], "description": "[not a template expression]"}}
    (tmp_path / "pipeline" / "p.json").write_text(json.dumps(definition))
    properties = build_template(tmp_path)["resources"][0]["properties"]
    assert properties["description"] == "[[not a template expression]"


def test_a_deployment_stops_deploys_and_starts_in_that_order(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    fake = tmp_path / "az"
    fake.write_text(
        f'#!/bin/sh\necho "$*" >> {log}\n'
        'case "$*" in\n'
        '*"trigger list"*Started*) printf "tr_weekly\\n" ;;\n'
        '*"trigger list"*) printf "tr_weekly\\ntr_sweep\\n" ;;\n'
        "esac\n"
    )
    fake.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    command = [str(ADF / "deploy.sh"), "rg", "adf-x", "prod"]
    subprocess.run(command, env=environment, check=True, cwd=ROOT, capture_output=True, timeout=60)
    calls = [" ".join(line.split()[:3]) for line in log.read_text().splitlines()]
    listed, stop, deploy, start = (
        "datafactory trigger list",
        "datafactory trigger stop",
        "deployment group create",
        "datafactory trigger start",
    )
    assert calls == [listed, stop, deploy, listed, start, start]
    told = subprocess.run([command[0]], env=environment, check=False, capture_output=True, text=True, timeout=60)
    assert told.returncode == 2
    assert "usage: adf/deploy.sh" in told.stderr
