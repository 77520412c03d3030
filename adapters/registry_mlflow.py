"""The model registry of one machine: MLflow's own store in a SQLite file, behind the same port as Azure ML's.

MLflow numbers versions itself, so our version (a hash of the model's identity) is a tag, and so is the stage. MLflow
writes; reads go to its tables, because importing it costs about 3 s of CPU and 200 MB, and a page that only shows
models must not wait for that. The registry's contract tests hold the two together.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from domain.errors import Conflict, NotFound, Unavailable
from domain.ports import ModelVersion

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

VERSION_TAG = "shelfcast.version"
STAGE_TAG = "stage"
CANDIDATE = "candidate"
BUSY_SECONDS = 10.0
_LOADING = threading.Lock()
_READ = """
    SELECT versions.name, versions.version, versions.source, tags.key, tags.value
    FROM model_versions AS versions
    LEFT JOIN model_version_tags AS tags ON tags.name = versions.name AND tags.version = versions.version
    WHERE versions.current_stage IS NOT 'Deleted_Internal' AND :name IN ('', versions.name)
"""


def _load() -> None:
    """Import the library, one thread at a time: two that import it at once break it for the life of the process."""
    with _LOADING:
        # It reports its use over the internet unless told not to, before it is imported.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow.tracking  # noqa: F401


@dataclass(frozen=True)
class _Entry:
    """One version of ours and the number that MLflow gave it."""

    number: int
    model: ModelVersion


class MlflowRegistry:
    """Implements domain.ports.Registry. One instance may be used from many threads."""

    def __init__(self, uri: str) -> None:
        """Keep the store's URI (`sqlite:///FILE`); it is opened on first use."""
        self._uri = uri
        self._file = Path(uri.removeprefix("sqlite:///"))
        self._lock = threading.RLock()  # SQLite has one writer; it also makes look-then-write one step

    @cached_property
    def _opened(self) -> MlflowClient:
        import logging

        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._file)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # stays with the file; a commit waits for the disk once
        return MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    @contextmanager
    def _client(self) -> Iterator[MlflowClient]:
        _load()
        from mlflow.exceptions import MlflowException

        with self._lock:
            try:
                yield self._opened
            except MlflowException as error:
                raise Unavailable(f"the model registry {self._uri} failed: {error}") from error

    def register(self, name: str, version: str, path: str, tags: Mapping[str, str]) -> ModelVersion:
        """Register as candidate; return what is there if it is the same, raise Conflict if it has another path."""
        with self._client() as client:
            existing = self._find(name, version)
            if existing is None:
                self._ensure_model(client, name)
                texts = {key: str(value) for key, value in tags.items()}
                texts |= {VERSION_TAG: version, STAGE_TAG: CANDIDATE}
                made = client.create_model_version(name, source=path, tags=texts)
                return _model_version(name, int(made.version), path, dict(made.tags))
        if existing.model.path != path:
            raise Conflict(
                f"model {name} version {version} is registered from {existing.model.path}; a version never changes",
                model=name, version=version, path=path, remedy="register under another version",
            )
        return existing.model

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """Return all versions of a model, newest registration first; empty if unknown."""
        return [entry.model for entry in self._read(name)] if name else []

    def models(self) -> Sequence[ModelVersion]:
        """Return every version of every model, newest registration first within a model."""
        return [entry.model for entry in self._read()]

    def set_stage(self, name: str, version: str, stage: str, tags: Mapping[str, str] | None = None) -> ModelVersion:
        """Move a version to a stage and merge tags; raise NotFound for an unknown version."""
        with self._client() as client:
            found = self._find(name, version)
            if found is None:
                raise NotFound(f"model {name} has no version {version}", model=name, version=version)
            known = {**found.model.tags, STAGE_TAG: found.model.stage}
            # The stage comes last: a reader that sees it sees the tags that explain it.
            for key, value in [*(tags or {}).items(), (STAGE_TAG, stage)]:
                if known.get(key) != str(value):
                    client.set_model_version_tag(name, str(found.number), key, str(value))
            made = client.get_model_version(name, str(found.number))
            return _model_version(name, found.number, found.model.path, dict(made.tags))

    def _find(self, name: str, version: str) -> _Entry | None:
        return next((entry for entry in self._read(name) if entry.model.version == version), None)

    def _read(self, name: str = "") -> list[_Entry]:
        """Return the entries of one model or of all, by name, newest first; none while there is no store.

        Should two processes have registered one version at once, the older entry is the one that counts.
        """
        if not self._file.is_file():
            return []
        address = f"{self._file.resolve().as_uri()}?mode=ro"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)) as connection:
                rows = connection.execute(_READ, {"name": name}).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # MLflow is about to make them
                return []
            raise Unavailable(f"the model registry {self._uri} cannot be read: {error}") from error
        numbered: dict[tuple[str, int], tuple[str, dict[str, str]]] = {}
        for model, number, source, key, value in rows:
            _, tags = numbered.setdefault((model, number), (source, {}))
            if key is not None:
                tags[key] = value
        oldest: dict[tuple[str, str], _Entry] = {}
        for (model, number), (source, tags) in sorted(numbered.items()):
            found = _model_version(model, number, source, tags)
            oldest.setdefault((model, found.version), _Entry(number, found))
        return sorted(oldest.values(), key=lambda entry: (entry.model.name, -entry.number))

    @staticmethod
    def _ensure_model(client: MlflowClient, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _model_version(name: str, number: int, source: str, tags: dict[str, str]) -> ModelVersion:
    version = tags.pop(VERSION_TAG, str(number))
    stage = tags.pop(STAGE_TAG, CANDIDATE)
    return ModelVersion(name, version, source, stage, tags)
