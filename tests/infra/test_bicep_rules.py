"""Rules that the infrastructure keeps: identity only, TLS 1.2, nothing public by accident, least privilege."""

from __future__ import annotations

import re

import pytest

from domain.lake_paths import CONTAINERS
from tests.infra.bicep_reader import INFRA, resources, variable

STORAGE = "Microsoft.Storage/storageAccounts"


@pytest.mark.parametrize(
    ("kind", "rules"),
    [
        (
            STORAGE,
            {
                "allowSharedKeyAccess": "false",
                "allowBlobPublicAccess": "false",
                "supportsHttpsTrafficOnly": "true",
                "minimumTlsVersion": "'TLS1_2'",
                "defaultToOAuthAuthentication": "true",
                "allowCrossTenantReplication": "false",
                "publicNetworkAccess": "privateNetwork ? 'Disabled' : 'Enabled'",
            },
        ),
        (
            "Microsoft.Web/sites",
            {"httpsOnly": "true", "minTlsVersion": "'1.2'", "ftpsState": "'Disabled'", "scmMinTlsVersion": "'1.2'"},
        ),
        ("Microsoft.Sql/servers", {"azureADOnlyAuthentication": "true", "minimalTlsVersion": "'1.2'"}),
        (
            "Microsoft.KeyVault/vaults",
            {"enableRbacAuthorization": "true", "enablePurgeProtection": "true", "enableSoftDelete": "true"},
        ),
        ("Microsoft.Insights/components", {"DisableLocalAuth": "true"}),
        ("Microsoft.ContainerRegistry/registries", {"adminUserEnabled": "false", "anonymousPullEnabled": "false"}),
        ("Microsoft.MachineLearningServices/workspaces", {"systemDatastoresAuthMode": "'Identity'"}),
        (
            "Microsoft.MachineLearningServices/workspaces/computes",
            {
                "minNodeCount": "0",
                "remoteLoginPortPublicAccess": "'Disabled'",
                "disableLocalAuth": "true",
                "vmPriority": "lowPriority ? 'LowPriority' : 'Dedicated'",
            },
        ),
        ("Microsoft.MachineLearningServices/workspaces/datastores", {"credentialsType": "'None'"}),
        ("Microsoft.Storage/storageAccounts/blobServices/containers", {"publicAccess": "'None'"}),
    ],
)
def test_every_resource_of_a_kind_keeps_its_rules(kind: str, rules: dict[str, str]) -> None:
    found = resources(kind)
    assert found
    for resource in found:
        for name, value in rules.items():
            assert resource.says(name) == [value], f"{resource.file} {resource.symbol} {name}"


def test_no_key_is_ever_asked_for() -> None:
    for path in INFRA.rglob("*.bicep"):
        assert not re.search(
            r"list\w*[kK]eys?\(|listSecrets|AccountKey|SharedAccess|administratorLoginPassword",
            path.read_text("utf-8"),
        ), path


def test_every_role_is_assigned_on_a_resource_and_none_is_an_owner_or_contributor_of_all() -> None:
    known = dict(re.findall(r"^  (\w+): '([0-9a-f-]{36})'", (INFRA / "roles.bicep").read_text("utf-8"), re.MULTILINE))
    broad = {
        "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
        "b24988ac-6180-42a0-ab88-20f7382dd24c",
        "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9",
    }
    assert not broad & set(known.values())
    assigned = resources("Microsoft.Authorization/roleAssignments")
    assert assigned
    for one in assigned:
        assert one.says("scope"), f"{one.file} {one.symbol} is assigned on a whole group"
    text = "".join(path.read_text("utf-8") for path in INFRA.rglob("*.bicep"))
    used = set(re.findall(r"roles\.(\w+)", text)) - {"bicep"}
    assert used == set(known)


def test_everything_that_can_be_private_has_an_endpoint_by_the_switch() -> None:
    text = {path.name: path.read_text("utf-8") for path in INFRA.rglob("*.bicep")}
    groups = {
        "key-vault.bicep": ["'vault'"],
        "sql.bicep": ["'sqlServer'"],
        "machine-learning.bicep": ["'amlworkspace'", "'registry'"],
    }
    for file, names in groups.items():
        assert [name for name in re.findall(r"groupId: (\S+)", text[file])] == names
        assert "if (privateNetwork)" in text[file]
    assert "privateNetwork ? services : []" in text["storage.bicep"]
    assert text["product.bicep"].count("services: [") == text["product.bicep"].count("'modules/storage.bicep'")
    zones = re.findall(r"^  (\w+): 'privatelink", text["network.bicep"], re.MULTILINE)
    assert {"blob", "dfs", "queue", "table", "vault", "sqlServer", "workspace", "registry"} <= set(zones)


def test_the_lake_has_a_container_and_a_datastore_for_each_zone() -> None:
    assert re.findall(r"'(\w+)'", variable("product.bicep", "zones")) == list(CONTAINERS)
    assert "for zone in zones" in (INFRA / "modules" / "machine-learning.bicep").read_text("utf-8")


def test_sign_in_stands_before_every_route_that_gives_data() -> None:
    app = (INFRA / "modules" / "function-app.bicep").read_text("utf-8")
    excluded = re.search(r"excludedPaths: \[(.*?)\]", app, re.DOTALL)
    assert excluded
    paths = set(re.findall(r"'([^']+)'", excluded[1]))
    assert paths == {"/api/health", "/api/openapi.json", "/api/ops", "/api/ops/*", "/runtime/webhooks/*"}
    assert "requireAuthentication: true" in app and "unauthenticatedClientAction: 'Return401'" in app
    assert "HTTP_AUTH: 'entra'" in app  # the header of the principal is believed only where sign-in puts it


def test_every_resource_that_keeps_data_sends_its_audit_logs() -> None:
    scoped = {one.file for one in resources("Microsoft.Insights/diagnosticSettings")}
    assert scoped >= {
        "storage.bicep",
        "key-vault.bicep",
        "sql.bicep",
        "machine-learning.bicep",
        "data-factory.bicep",
        "function-app.bicep",
    }
