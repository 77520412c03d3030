"""Register environments and components in the workspace, by version. A version that is there is never changed.

python -m scripts.publish_ml [--plan]

A version in the workspace with other content than ours is refused: raise its number in ml_jobs/. Names come from the
environment: AML_SUBSCRIPTION_ID or AZURE_SUBSCRIPTION_ID, AZURE_RESOURCE_GROUP, AML_WORKSPACE.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Protocol

from scripts.package import assets

ROOT = Path(__file__).resolve().parent.parent
HASH = "content_sha256"


class Workspace(Protocol):
    """What publishing needs of a workspace."""

    def content_of(self, kind: str, name: str, version: str) -> str | None:
        """Return the hash that a registered version carries; None if there is no such version."""

    def register(self, kind: str, name: str, version: str, sha256: str) -> None:
        """Register the version with its hash."""


def publish(workspace: Workspace, wanted: dict[str, dict[str, str]]) -> tuple[list[str], list[str]]:
    """Register what is missing, environments first; return (registered, refused). A refused version changes nothing."""
    registered, refused = [], []
    for key in sorted(wanted, key=lambda key: (not key.startswith("environments/"), key)):
        kind, name = key.split("/")
        version, sha256 = wanted[key]["version"], wanted[key]["sha256"]
        there = workspace.content_of(kind, name, version)
        if there is None:
            workspace.register(kind, name, version, sha256)
            registered.append(f"{key}:{version}")
        elif there != sha256:
            refused.append(f"{key}:{version} is registered with other content; raise its version")
    return registered, refused


class AzureMlWorkspace:
    """The real one, through azure-ai-ml."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def content_of(self, kind: str, name: str, version: str) -> str | None:
        """See Workspace."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            found = getattr(self._client, kind).get(name=name, version=version)
        except ResourceNotFoundError:
            return None
        return str((found.tags or {}).get(HASH, ""))

    def register(self, kind: str, name: str, version: str, sha256: str) -> None:
        """See Workspace; uploads the code as .amlignore leaves it."""
        from azure.ai.ml import load_component, load_environment

        folder = ROOT / "ml_jobs" / kind / name
        load, file = (
            (load_component, "component.yml") if kind == "components" else (load_environment, "environment.yml")
        )
        asset = load(folder / file)
        asset.version = version
        asset.tags = {**(asset.tags or {}), HASH: sha256}
        getattr(self._client, kind).create_or_update(asset)


def connect() -> AzureMlWorkspace:
    """Return the workspace that the environment names."""
    from azure.ai.ml import MLClient
    from azure.identity import DefaultAzureCredential

    subscription = os.environ.get("AML_SUBSCRIPTION_ID") or os.environ["AZURE_SUBSCRIPTION_ID"]
    names = (subscription, os.environ["AZURE_RESOURCE_GROUP"], os.environ["AML_WORKSPACE"])
    return AzureMlWorkspace(MLClient(DefaultAzureCredential(), *names))


def main(arguments: list[str] | None = None) -> int:
    """Publish, or print what there is to publish; exit 1 if a version must be raised."""
    parser = argparse.ArgumentParser(description="Register environments and components by version.")
    parser.add_argument("--plan", action="store_true")
    wish = parser.parse_args(arguments)
    wanted = assets()
    if wish.plan:
        print("\n".join(f"{key}:{about['version']} {about['sha256'][:16]}" for key, about in wanted.items()))
        return 0
    registered, refused = publish(connect(), wanted)
    print("\n".join([*(f"registered {name}" for name in registered), *refused]) or "everything is registered")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
