"""Deployment steps against a loopback Resource Manager: order, repetition, failure half-way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import deploy, publish_ml, sql_access
from scripts.azure_rest import AzureError
from scripts.deploy_data_factory import Factory, Wanted, wanted
from scripts.event_subscriptions import subscribe, subscriptions
from scripts.sql_access import statements
from tests.infra.arm_server import Arm, serve

ROOT = Path(__file__).resolve().parents[2]
ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.DataFactory/factories/adf"
OUTPUTS = {
    "FUNCTION_APP_URL": "https://func.example",
    "FUNCTIONS_AUDIENCE": "api://client",
    "LAKE_ACCOUNT_ID": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/lake",
}


def factory(arm: Arm) -> None:
    arm.documents[ID] = {"location": "westeurope", "identity": {"type": "SystemAssigned"}, "properties": {}}


@pytest.fixture(scope="module")
def target() -> Wanted:
    return wanted("prod", OUTPUTS)


def test_values_of_the_environment_and_of_the_deployment_are_filled_in(target: Wanted) -> None:
    text = json.dumps([body for _, _, body in target.resources]) + json.dumps(target.global_parameters)
    assert "00000000-0000" not in text and "func-shelfcast" not in text and "stshelfcast" not in text
    assert target.global_parameters["functions_url"]["value"] == OUTPUTS["FUNCTION_APP_URL"]
    scopes = [
        b["properties"]["typeProperties"]["scope"]
        for b in target.of("trigger").values()
        if b["properties"]["type"] == "BlobEventsTrigger"
    ]
    assert scopes and set(scopes) == {OUTPUTS["LAKE_ACCOUNT_ID"]}


def test_pipelines_are_written_after_those_that_they_call(target: Wanted) -> None:
    names = [name for kind, name, _ in target.resources]
    for kind, name, body in target.resources:
        for other in names:
            if (
                kind in ("pipeline", "trigger")
                and f'"referenceName": "{other}"' in json.dumps(body)
                and other != name
            ):
                assert names.index(other) < names.index(name)


def test_a_deployment_stops_writes_deletes_and_starts_and_may_be_repeated(target: Wanted) -> None:
    with serve() as (arm, rest):
        factory(arm)
        arm.documents[f"{ID}/triggers/tr_weekly"] = {"name": "tr_weekly", "properties": {"runtimeState": "Started"}}
        arm.documents[f"{ID}/pipelines/pl_old"] = {"name": "pl_old", "properties": {}}
        done = Factory(rest, ID).deploy(target, ["tr_weekly", "tr_sweep"])
        assert done[0] == "stopped tr_weekly" and done[-2:] == ["started tr_sweep", "started tr_weekly"]
        assert "deleted pl_old" in done and f"{ID}/pipelines/pl_old" not in arm.documents
        first = {path: doc for path, doc in arm.documents.items() if "/triggers/" not in path}
        Factory(rest, ID).deploy(target, ["tr_weekly", "tr_sweep"])
        assert {path: doc for path, doc in arm.documents.items() if "/triggers/" not in path} == first
        states = {
            p.rsplit("/", 1)[-1]: d["properties"].get("runtimeState")
            for p, d in arm.documents.items()
            if "/triggers/" in p
        }
        assert sorted(name for name, state in states.items() if state == "Started") == ["tr_sweep", "tr_weekly"]


def test_a_failed_deployment_starts_again_what_it_had_stopped(target: Wanted) -> None:
    with serve() as (arm, rest):
        factory(arm)
        arm.documents[f"{ID}/triggers/tr_weekly"] = {"name": "tr_weekly", "properties": {"runtimeState": "Started"}}
        arm.faults[("PUT", f"{ID}/pipelines/pl_condition_all")] = [400]
        with pytest.raises(AzureError, match="400"):
            Factory(rest, ID).deploy(target, ["tr_weekly"])
        assert arm.documents[f"{ID}/triggers/tr_weekly"]["properties"]["runtimeState"] == "Started"


def test_throttling_and_short_outages_are_waited_out(target: Wanted) -> None:
    with serve() as (arm, rest):
        factory(arm)
        arm.faults[("PUT", f"{ID}/pipelines/pl_condition_all")] = [429, 503, 500]
        Factory(rest, ID).deploy(target, [])
        assert f"{ID}/pipelines/pl_condition_all" in arm.documents


def test_every_blob_function_gets_the_events_of_its_folder() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "devhost", "list", "--app", str(ROOT), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    functions = json.loads(listed)
    blobs = {name for name, one in functions.items() if "blobTrigger" in json.dumps(one)}
    assert blobs == {one.function for one in subscriptions()}
    names = {
        "AZURE_SUBSCRIPTION_ID": "s",
        "AZURE_RESOURCE_GROUP": "g",
        "FUNCTION_APP_NAME": "func",
        "LANDING_TOPIC_NAME": "topic",
        "FUNCTION_APP_URL": "https://func.example",
    }
    with serve() as (arm, rest):
        keys = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/func/host/default/listKeys"
        arm.answers[("POST", keys)] = {"systemKeys": {"blobs_extension": "k"}}
        done = subscribe(rest, names)
        assert len(done) == len(blobs)
        for path, document in arm.documents.items():
            source = path.rsplit("condition-", 1)[1].removesuffix("-arrived").replace("-", "_")
            assert document["properties"]["filter"]["subjectBeginsWith"].endswith(f"/landing/blobs/{source}/")
            assert (
                f"Host.Functions.condition_{source}_arrived"
                in document["properties"]["destination"]["properties"]["endpointUrl"]
            )


class ListedWorkspace:
    """A workspace that remembers."""

    def __init__(self) -> None:
        self.there: dict[tuple[str, str, str], str] = {}
        self.order: list[str] = []

    def content_of(self, kind: str, name: str, version: str) -> str | None:
        return self.there.get((kind, name, version))

    def register(self, kind: str, name: str, version: str, sha256: str) -> None:
        self.order.append(kind)
        self.there[(kind, name, version)] = sha256


def test_components_are_registered_once_and_a_version_is_never_changed() -> None:
    wanted_assets = {
        "components/train": {"version": "1", "sha256": "a"},
        "environments/forecasting": {"version": "1", "sha256": "b"},
    }
    workspace = ListedWorkspace()
    assert publish_ml.publish(workspace, wanted_assets) == (["environments/forecasting:1", "components/train:1"], [])
    assert workspace.order == ["environments", "components"]
    assert publish_ml.publish(workspace, wanted_assets) == ([], [])
    changed = {**wanted_assets, "components/train": {"version": "1", "sha256": "c"}}
    registered, refused = publish_ml.publish(workspace, changed)
    assert registered == [] and len(refused) == 1 and "raise its version" in refused[0]
    changed["components/train"]["version"] = "2"
    assert publish_ml.publish(workspace, changed) == (["components/train:2"], [])
    assert workspace.there[("components", "train", "1")] == "a"


def test_the_plan_deploys_the_code_after_its_components_and_pipelines_after_the_app(tmp_path: Path) -> None:
    names = [step.name for step in deploy.steps("prod", tmp_path, "abc", {}, drain_minutes=30)]
    assert names == [
        "verify",
        "infrastructure",
        "drain",
        "components",
        "application",
        "access",
        "events",
        "pipelines",
        "smoke",
    ]
    commands = {
        step.name: " ".join(step.command)
        for step in deploy.steps("dev", tmp_path, "abc", {"FUNCTION_APP_NAME": "func-x"}, 0)
    }
    assert "drain" not in commands
    assert "--name func-x" in commands["application"] and "codeVersion=abc" in commands["infrastructure"]


def test_the_database_user_has_no_password_and_no_more_than_tables_need() -> None:
    lines = statements("id-shelfcast-app-dev")
    assert "FROM EXTERNAL PROVIDER" in lines[0] and not any(
        "PASSWORD" in line or "db_owner" in line for line in lines
    )
    with pytest.raises(ValueError, match="managed identity"):
        statements("x] FROM EXTERNAL PROVIDER; DROP TABLE runs; --")


def test_the_app_registration_script_is_sound_shell(tmp_path: Path) -> None:
    log = tmp_path / "az.log"
    az = tmp_path / "az"
    az.write_text(
        f'#!/usr/bin/env bash\necho "$*" >> {log}\ncase "$*" in "ad app list"*) ;; "ad app create"*) echo client-1 ;; '
        '"ad sp list"*) ;; "ad sp create"*) echo service-1 ;; esac\n'
    )
    az.chmod(0o755)
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / "entra_app.sh"), "shelfcast-dev", "factory-1"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    )
    assert done.stdout.strip() == "client-1"
    said = log.read_text()
    assert "appRoleAssignmentRequired=true" in said and "factory-1" in said and "api://client-1" in said
    roles = json.loads(said.split("--app-roles ", 1)[1].splitlines()[0])
    assert [role["value"] for role in roles] == ["reader", "operator"]


def test_the_access_script_prints_what_it_would_execute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APP_IDENTITY_NAME", "id-shelfcast-app-prod")
    assert sql_access.main(["--print"]) == 0
    printed = [line for line in capsys.readouterr().out.split(";\n") if line.strip()]
    assert [line.rstrip(";\n") for line in printed] == statements("id-shelfcast-app-prod")
