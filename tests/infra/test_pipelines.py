"""Both pipeline systems call the same make targets, and branches go where infra/branches.json says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
AZURE = ROOT / "azure-pipelines"
GITHUB = ROOT / ".github" / "workflows"
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)
    return found


def commands(text: str) -> set[str]:
    """The make targets of a pipeline, with their arguments, whoever calls them."""
    direct = re.findall(r"(?:script|run): (make [^\n\"]+)", text)
    listed = [
        f"make {name}"
        for name in re.findall(
            r"^\s+(?:- |first: |second: )((?:deploy|publish-scoring|start-run)(?: [^\n]*)?)$", text, re.MULTILINE
        )
    ]
    return {re.sub(r"\s+", " ", command.strip()) for command in [*direct, *listed]}


def test_every_step_is_a_make_target() -> None:
    for path in [*AZURE.rglob("*.yml"), *GITHUB.glob("*.yml"), *(ROOT / ".github" / "actions").rglob("*.yml")]:
        for command in commands(path.read_text("utf-8")):
            assert command.split()[1] in TARGETS, f"{path.name}: {command}"


def test_pull_request_and_ci_do_the_same_on_both_systems() -> None:
    for name in ("pr.yml", "ci.yml"):
        azure, github = commands((AZURE / name).read_text("utf-8")), commands((GITHUB / name).read_text("utf-8"))
        assert azure == github
        assert "make check" in azure and "make coverage" in azure and "make compliance" in azure
    assert "make validate-models EFFORT=quick" in commands((AZURE / "pr.yml").read_text("utf-8"))
    assert {"make validate-models EFFORT=standard", "make package"} <= commands((AZURE / "ci.yml").read_text("utf-8"))


def test_delivery_does_the_same_on_both_systems() -> None:
    azure = commands((AZURE / "cd-model-validation.yml").read_text("utf-8")) | commands(
        (AZURE / "cd-scoring.yml").read_text("utf-8")
    )
    assert azure == commands((GITHUB / "cd.yml").read_text("utf-8"))
    assert azure == {
        "make deploy",
        "make start-run KIND=validate",
        "make publish-scoring",
        "make start-run KIND=score",
    }


def test_a_developer_runs_with_make_ci_what_the_pipelines_run() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    line = re.search(r"^ci: ([a-z -]+) ##", makefile, re.MULTILINE)
    assert line
    called = {command.split()[1] for command in commands((AZURE / "ci.yml").read_text("utf-8"))}
    assert set(line[1].split()) == called
    # Only a developer's machine may do without the advisories.
    assert "ci: AUDIT := --if-reachable" in makefile and makefile.count("if-reachable") == 1


def test_branches_go_to_the_environments_of_the_map() -> None:
    branches: dict[str, list[str]] = json.loads((ROOT / "infra" / "branches.json").read_text("utf-8"))
    condition = {"main": "'refs/heads/main'", "release/*": "'refs/heads/release/'"}
    for name in ("cd-model-validation.yml", "cd-scoring.yml"):
        stages = {stage["stage"]: stage for stage in load(AZURE / name)["stages"]}
        for branch, environments in branches.items():
            assert [s for s in stages if condition[branch] in stages[s]["condition"]] == environments
        assert stages["prod"]["dependsOn"] == "staging"
        for environment, stage in stages.items():
            assert stage["jobs"][0]["parameters"]["environment"] == environment
    jobs = load(GITHUB / "cd.yml")["jobs"]
    assert "== 'main'" in jobs["dev"]["if"] and "'release/'" in jobs["staging"]["if"]
    assert jobs["prod"]["needs"] == "staging" and jobs["scoring-prod"]["needs"] == "prod"
    for name in ("pr.yml", "ci.yml"):
        assert set(load(AZURE / name)["pr" if name == "pr.yml" else "trigger"]["branches"]["include"]) == set(
            branches
        )


def test_workflows_pin_actions_to_commits_and_sign_in_without_a_secret() -> None:
    for path in [*GITHUB.glob("*.yml"), *(ROOT / ".github" / "actions").rglob("*.yml")]:
        text = path.read_text("utf-8")
        for action in re.findall(r"uses: (\S+)", text):
            assert action.startswith("./") or re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action), f"{path.name}: {action}"
        assert "client-secret" not in text and "creds:" not in text
        if path.parent == GITHUB:
            assert load(path)["permissions"]["contents"] == "read"
    assert "id-token: write" in (GITHUB / "environment.yml").read_text("utf-8")


def test_production_waits_for_an_approval() -> None:
    deployment = load(AZURE / "templates" / "environment.yml")["jobs"][0]
    assert deployment["environment"].startswith("shelfcast-")  # approvals are checks of that environment
    assert load(GITHUB / "environment.yml")["jobs"]["deploy"]["environment"].startswith("shelfcast-")


def test_what_is_deployed_is_what_ci_packaged_and_scoring_takes_what_was_validated() -> None:
    validation = {stage["stage"]: stage["jobs"][0]["parameters"]
                  for stage in load(AZURE / "cd-model-validation.yml")["stages"]}
    scoring = {stage["stage"]: stage["jobs"][0]["parameters"] for stage in load(AZURE / "cd-scoring.yml")["stages"]}
    for environment in ("dev", "staging", "prod"):
        assert validation[environment]["packageOf"] == "ci"
        assert (scoring[environment]["packageOf"], scoring[environment]["artifact"]) == (
            "validation", f"package-{environment}"
        )
    for name in ("cd-model-validation.yml", "cd-scoring.yml"):
        (source,) = load(AZURE / name)["resources"]["pipelines"]  # a second one would be its newest run, of any commit
        assert "trigger" in source
    for job in load(GITHUB / "cd.yml")["jobs"].values():  # a workflow_run is of the default branch unless told
        assert job["with"]["commit"] == "${{ github.event.workflow_run.head_sha }}"
    steps = load(GITHUB / "environment.yml")["jobs"]["deploy"]["steps"]
    assert steps[0]["with"]["ref"] == "${{ inputs.commit }}"
