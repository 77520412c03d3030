"""The model registry on Azure ML: our version text is the asset's version, the stage is a tag (there are no aliases).

Tags have no ETag, the last writer wins: exactly one orchestrator promotes a segment. Every step may be repeated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapters.azureml_client import AzureMl, tag_values
from domain.errors import BadRequest, Conflict, NotFound, ShelfcastError, Unavailable
from domain.ports import ModelVersion

if TYPE_CHECKING:
    from azure.ai.ml.entities import Model

    from settings import Settings

STAGE_TAG = "stage"
CANDIDATE = "candidate"
READERS = 8  # the service lists the versions of one model at a time
_LONG_URI = re.compile(r"^azureml://subscriptions/[^/]+/resource[Gg]roups/[^/]+/workspaces/[^/]+/(datastores/.+)$")


@dataclass(frozen=True)
class AzureMlRegistry:
    """Implements domain.ports.Registry."""

    workspace: AzureMl

    def register(self, name: str, version: str, path: str, tags: Mapping[str, str]) -> ModelVersion:
        """Register as candidate; return what is there if it is the same, raise Conflict if it has another path."""
        existing = self._get(name, version)
        if existing is None:
            from azure.ai.ml.entities import Model

            wanted = Model(name=name, version=version, path=path, type="mlflow_model")
            wanted.tags = tag_values({STAGE_TAG: CANDIDATE, **tags})
            try:
                with self.workspace.errors(f"registering model {name}:{version}", model=name, version=version):
                    return _model_version(self.workspace.client.models.create_or_update(wanted))
            except (BadRequest, Conflict) as error:  # "Asset paths cannot be updated": somebody was quicker
                existing = self._get(name, version)
                if existing is None:
                    if isinstance(error, Conflict) or "cannot be updated" in error.message:
                        raise _later(error, "it exists but cannot be read yet") from error
                    raise
        found = _model_version(existing)
        if found.path.rstrip("/") != path.rstrip("/"):
            raise Conflict(
                f"model {name} version {version} is registered from {found.path}; a version never changes",
                model=name, version=version, path=path, remedy="register under another version",
            )
        return found

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """Return all versions of a model, newest registration first; empty if unknown."""
        try:
            with self.workspace.errors(f"listing the versions of model {name}", model=name):
                found = list(self.workspace.client.models.list(name=name))
        except NotFound:
            return []
        found.sort(key=_created_at, reverse=True)
        return [_model_version(model) for model in found]

    def models(self) -> Sequence[ModelVersion]:
        """Return every version of every model: one list of the names and one list each, eight at a time."""
        with self.workspace.errors("listing the models"):
            names = sorted({str(model.name) for model in self.workspace.client.models.list()})
        with ThreadPoolExecutor(READERS, thread_name_prefix="models") as pool:
            return [version for versions in pool.map(self.versions, names) for version in versions]

    def set_stage(self, name: str, version: str, stage: str, tags: Mapping[str, str] | None = None) -> ModelVersion:
        """Move a version to a stage and merge tags; raise NotFound for an unknown version."""
        model = self._get(name, version)
        if model is None:
            raise NotFound(f"model {name} has no version {version}", model=name, version=version)
        wanted = tag_values({STAGE_TAG: stage, **{**(model.tags or {}), **(tags or {}), STAGE_TAG: stage}})
        if wanted == dict(model.tags or {}):
            return _model_version(model)
        model.tags = wanted
        try:
            with self.workspace.errors(f"moving model {name}:{version} to {stage}", model=name, version=version):
                return _model_version(self.workspace.client.models.create_or_update(model))
        except Conflict as error:
            raise _later(error, "another change was under way") from error

    def _get(self, name: str, version: str) -> Model | None:
        try:
            with self.workspace.errors(f"reading model {name}:{version}", model=name, version=version):
                model: Model = self.workspace.client.models.get(name=name, version=version)
                return model
        except NotFound:
            return None


def connect_registry(settings: Settings) -> AzureMlRegistry:
    """Return the registry of the workspace that the settings name; nothing is sent yet."""
    return AzureMlRegistry(AzureMl(settings.aml_subscription_id, settings.aml_resource_group, settings.aml_workspace))


def _later(error: ShelfcastError, why: str) -> Unavailable:
    return Unavailable(f"{error.message}; {why}", **error.fields)


def _model_version(model: Model) -> ModelVersion:
    tags = {key: str(value) for key, value in (model.tags or {}).items()}
    stage = tags.pop(STAGE_TAG, CANDIDATE)
    return ModelVersion(str(model.name), str(model.version), _short_uri(str(model.path)), stage, tags)


def _short_uri(path: str) -> str:
    """The service spells a datastore path with subscription and workspace; ours is the same everywhere."""
    match = _LONG_URI.match(path)
    return f"azureml://{match[1]}" if match else path


def _created_at(model: Model) -> str:
    created: Any = getattr(getattr(model, "creation_context", None), "created_at", None)
    return str(created or "")
