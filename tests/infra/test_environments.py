"""dev, staging and prod are one template with three files of differences; settings agree everywhere."""

from __future__ import annotations

import json
import re
from dataclasses import fields

from scripts.package import files_of
from settings import Settings
from tests.infra.bicep_reader import INFRA, variable

ROOT = INFRA.parent
ENVIRONMENTS = ("dev", "staging", "prod")

# What may differ between environments: size, redundancy, retention, money, network, and what starts by itself.
MAY_DIFFER = {
    "privateNetwork",
    "officeRanges",
    "zoneRedundant",
    "lakeSku",
    "hostStorageSku",
    "deleteRetentionDays",
    "auditImmutableDays",
    "maximumInstances",
    "computeMaxNodes",
    "computeLowPriority",
    "trainEffort",
    "maxJobsInFlight",
    "nodePricePerHour",
    "runBudget",
    "sqlSku",
    "sqlAutoPauseMinutes",
    "logRetentionDays",
    "logDailyCapGb",
    "monthlyBudget",
    "startTriggers",
}

# Settings of the Functions host, its extensions and the Azure SDK; the app itself does not read them.
HOST_SETTINGS = {"FUNCTIONS_WORKER_RUNTIME", "AzureWebJobsStorage"}


def environments() -> dict[str, dict[str, object]]:
    return {name: json.loads((INFRA / "environments" / f"{name}.json").read_text("utf-8")) for name in ENVIRONMENTS}


def test_the_environments_have_the_same_keys_and_differ_only_where_they_may() -> None:
    found = environments()
    assert set(found["dev"]) == set(found["staging"]) == set(found["prod"])
    for key in found["dev"]:
        if len({json.dumps(one[key]) for one in found.values()}) > 1:
            assert key in MAY_DIFFER, f"{key} differs between environments"
    assert set(found["dev"]) >= MAY_DIFFER


def test_the_template_reads_every_key_and_no_other() -> None:
    text = "".join(path.read_text("utf-8") for path in INFRA.rglob("*.bicep"))
    by_template = set(re.findall(r"choice\.(\w+)", text))
    assert by_template | {"startTriggers"} == set(environments()["dev"])  # triggers: scripts/deploy_data_factory.py


def test_production_is_private_redundant_and_kept() -> None:
    prod = environments()["prod"]
    assert prod["privateNetwork"] is True and prod["zoneRedundant"] is True and prod["computeLowPriority"] is False
    assert str(prod["lakeSku"]).startswith("Standard_RAGZRS") and int(str(prod["auditImmutableDays"])) >= 365


def test_the_durable_backend_is_one_that_the_template_knows() -> None:
    product = (INFRA / "product.bicep").read_text("utf-8")
    known = set(re.findall(r"durableBackend == '(\w+)'", product)) | {"AzureStorage"}
    assert {one["durableBackend"] for one in environments().values()} <= known
    overrides = variable("modules/function-app.bicep", "schedulerSettings")
    host = json.loads((ROOT / "host.json").read_text("utf-8"))["extensions"]["durableTask"]
    assert host["storageProvider"]["type"] == "AzureStorage"
    assert "durableTask__storageProvider__type: 'azureManaged'" in overrides
    assert f"hub: '{host['hubName']}'" in product


def read_by_the_app() -> set[str]:
    return {field.name.upper() for field in fields(Settings)}


def test_bicep_sets_every_setting_that_the_app_reads_and_no_other() -> None:
    listed = re.findall(r"^  (\w+): ", variable("modules/function-app.bicep", "productSettings"), re.MULTILINE)
    assert {name.removesuffix("__blobServiceUri") for name in listed} == read_by_the_app()
    assert len(listed) == len(set(listed))


def test_the_local_sample_sets_every_setting_that_the_app_reads_and_no_other() -> None:
    values = json.loads((ROOT / "local.settings.sample.json").read_text("utf-8"))["Values"]
    assert set(values) - HOST_SETTINGS == read_by_the_app()


def test_the_documentation_has_a_row_for_every_setting_and_no_other() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text("utf-8")
    table = page.split("## Settings", 1)[1].split("\n## ", 1)[0]
    assert set(re.findall(r"^\| `([A-Z_]+)`", table, re.MULTILINE)) == read_by_the_app()


# Set by a platform or a library, and not by us: they have no place among the app's settings.
OF_PLATFORMS = {
    "WEBSITE_SITE_NAME",  # App Service: name of the app
    "WEBSITE_INSTANCE_ID",  # App Service: the machine that this process runs on
    "MLFLOW_DISABLE_TELEMETRY",
    "SHELFCAST_AGENT",  # from the local platform to the agent that it starts
}


def test_the_app_reads_its_settings_and_no_other_variable_of_the_environment() -> None:
    packaged = [ROOT / name for name in files_of(".funcignore") if name.endswith(".py")]
    files = [path for path in packaged if path.relative_to(ROOT).parts[0] != "ml_jobs"]  # jobs have nodes of their own
    read: dict[str, str] = {}
    for path in files:
        pattern = r"(?:environ(?:\.get|\.setdefault)?[\[(]|getenv\()([\"']?\w+)"
        read |= dict.fromkeys(re.findall(pattern, path.read_text("utf-8")), path.name)
    by_name = {name.strip("\"'"): file for name, file in read.items() if name[0] in "\"'"}
    assert {name: file for name, file in by_name.items() if name not in read_by_the_app() | OF_PLATFORMS} == {}
