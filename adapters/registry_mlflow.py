"""The model registry of one machine: MLflow's own store in a SQLite file, behind the same port as Azure ML's.

MLflow numbers versions itself, so our version (a hash of the model's identity) is a tag, and so is the stage. First use
in a process costs about 3 s of CPU and 200 MB (import 1.3 s, tables 1.4 s), a registration about 6 ms, reading all
versions about 1 ms per twenty.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domain.errors import Conflict, NotFound, Unavailable
from domain.ports import ModelVersion

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

VERSION_TAG = "shelfcast.version"
STAGE_TAG = "stage"
CANDIDATE = "candidate"
PAGE = 1000
_LOADING = threading.Lock()


def _load() -> None:
    """Import the library, one thread at a time: two that import it at once break it for the life of the process."""
    with _LOADING:
        # It reports its use over the internet unless told not to, before it is imported.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow.tracking  # noqa: F401


class MlflowRegistry:
    """Implements domain.ports.Registry. One instance may be used from many threads."""

    def __init__(self, uri: str) -> None:
        """Keep the store's URI (`sqlite:///FILE`); it is opened on first use."""
        self._uri = uri
        self._lock = threading.RLock()  # SQLite has one writer; it also makes look-then-write one step

    @cached_property
    def _opened(self) -> MlflowClient:
        import logging

        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        file = Path(self._uri.removeprefix("sqlite:///"))
        file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(file)) as connection:
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
            existing = self._find(client, name, version)
            if existing is None:
                self._ensure_model(client, name)
                texts = {key: str(value) for key, value in tags.items()}
                texts |= {VERSION_TAG: version, STAGE_TAG: CANDIDATE}
                return _model_version(client.create_model_version(name, source=path, tags=texts))
        found = _model_version(existing)
        if found.path != path:
            raise Conflict(
                f"model {name} version {version} is registered from {found.path}; a version never changes",
                model=name, version=version, path=path, remedy="register under another version",
            )
        return found

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """Return all versions of a model, newest registration first; empty if unknown."""
        with self._client() as client:
            return self._sorted(_search(client, f"name = '{_quotable(name)}'"))

    def models(self) -> Sequence[ModelVersion]:
        """Return every version of every model, newest registration first within a model."""
        with self._client() as client:
            return self._sorted(_search(client, ""))

    def set_stage(self, name: str, version: str, stage: str, tags: Mapping[str, str] | None = None) -> ModelVersion:
        """Move a version to a stage and merge tags; raise NotFound for an unknown version."""
        with self._client() as client:
            found = self._find(client, name, version)
            if found is None:
                raise NotFound(f"model {name} has no version {version}", model=name, version=version)
            # The stage comes last: a reader that sees it sees the tags that explain it.
            for key, value in [*(tags or {}).items(), (STAGE_TAG, stage)]:
                if found.tags.get(key) != str(value):
                    client.set_model_version_tag(name, str(found.version), key, str(value))
            return _model_version(client.get_model_version(name, str(found.version)))

    def _find(self, client: MlflowClient, name: str, version: str) -> Any | None:
        """Our version as MLflow has it; the oldest, should two processes have registered it at once."""
        filter_text = f"name = '{_quotable(name)}' and tags.`{VERSION_TAG}` = '{_quotable(version)}'"
        found = _search(client, filter_text)
        return min(found, key=lambda entry: int(entry.version)) if found else None

    @staticmethod
    def _ensure_model(client: MlflowClient, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    @staticmethod
    def _sorted(found: Sequence[Any]) -> list[ModelVersion]:
        oldest: dict[tuple[str, str], Any] = {}
        for entry in sorted(found, key=lambda entry: int(entry.version)):
            oldest.setdefault((entry.name, entry.tags.get(VERSION_TAG, str(entry.version))), entry)
        ordered = sorted(oldest.values(), key=lambda entry: (entry.name, -int(entry.version)))
        return [_model_version(entry) for entry in ordered]


def _search(client: MlflowClient, filter_text: str) -> list[Any]:
    found: list[Any] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(filter_text, max_results=PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _model_version(entry: Any) -> ModelVersion:
    tags = dict(entry.tags)
    version = tags.pop(VERSION_TAG, str(entry.version))
    stage = tags.pop(STAGE_TAG, CANDIDATE)
    return ModelVersion(entry.name, version, entry.source, stage, tags)


def _quotable(text: str) -> str:
    """A name inside a filter; the filter language has no escape, and our names never hold a quote."""
    if "'" in text or "`" in text:
        raise NotFound(f"{text!r} cannot be the name or version of a model", model=text)
    return text
