"""Storage events: what a trigger listens for, and a watcher that finds changed blobs; delivery is at least once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devhost.adf.errors import FactoryError

CREATED, DELETED = "Microsoft.Storage.BlobCreated", "Microsoft.Storage.BlobDeleted"


@dataclass(frozen=True)
class BlobEvent:
    """One change of one blob. `name` is its path in the container."""

    type: str
    container: str
    name: str
    size: int
    etag: str

    def body(self) -> dict[str, Any]:
        """What triggerBody() answers: the folder with its container, and the file."""
        folder, _, file = self.name.rpartition("/")
        return {"folderPath": "/".join(part for part in (self.container, folder) if part), "fileName": file}


@dataclass(frozen=True)
class BlobFilter:
    """A storage event trigger's conditions."""

    trigger: str
    begins: str
    ends: str
    ignore_empty: bool
    events: tuple[str, ...]

    @classmethod
    def read(cls, name: str, definition: Mapping[str, Any]) -> BlobFilter:
        """From a trigger's JSON. Raises FactoryError when neither path condition is given."""
        settings = definition.get("typeProperties") or {}
        begins, ends = settings.get("blobPathBeginsWith") or "", settings.get("blobPathEndsWith") or ""
        if not begins and not ends:
            raise FactoryError(f"trigger {name!r} has neither blobPathBeginsWith nor blobPathEndsWith")
        return cls(
            trigger=name,
            begins=str(begins),
            ends=str(ends),
            ignore_empty=settings.get("ignoreEmptyBlobs") is True,
            events=tuple(settings.get("events") or (CREATED,)),
        )

    @property
    def container(self) -> str | None:
        """The container that the beginning names, None when it names none."""
        return self.begins.strip("/").split("/")[0] or None

    def matches(self, event: BlobEvent) -> bool:
        """True when the trigger fires for this event. Paths read `/container/blobs/folder/file`."""
        path = f"/{event.container}/blobs/{event.name}"
        begins = self.begins if self.begins.startswith("/") or not self.begins else f"/{self.begins}"
        if self.ignore_empty and event.size == 0 and event.type == CREATED:
            return False
        return event.type in self.events and path.startswith(begins) and path.endswith(self.ends)


class BlobWatcher:
    """Compares containers with what was seen before. A change counts as seen only once `seen` was told."""

    def __init__(self, connection: str, state: Path | None) -> None:
        self._connection = connection
        self._state = state
        self._known: dict[str, str] | None = None
        if state is not None and state.exists():
            self._known = json.loads(state.read_text(encoding="utf-8"))

    def changes(self, containers: set[str]) -> list[BlobEvent]:
        """Events since the last look, oldest blob first. The very first look only takes stock."""
        found = {f"{e.container}/{e.name}": e for c in sorted(containers) for e in self._listed(c)}
        if self._known is None:
            self._known = {key: event.etag for key, event in found.items()}
            self._save()
            return []
        events = [event for key, event in found.items() if self._known.get(key) != event.etag]
        for key in set(self._known) - set(found):
            container, _, name = key.partition("/")
            if container in containers:
                events.append(BlobEvent(DELETED, container, name, 0, ""))
        return events

    def seen(self, event: BlobEvent) -> None:
        """Note that an event was handled; until then a restart delivers it again."""
        assert self._known is not None
        key = f"{event.container}/{event.name}"
        if event.type == DELETED:
            self._known.pop(key, None)
        else:
            self._known[key] = event.etag
        self._save()

    def _listed(self, container: str) -> Iterator[BlobEvent]:
        from azure.core.exceptions import ResourceNotFoundError
        from azure.storage.blob import BlobServiceClient

        client = BlobServiceClient.from_connection_string(self._connection).get_container_client(container)
        try:
            blobs = sorted(client.list_blobs(), key=lambda blob: blob.last_modified)
        except ResourceNotFoundError:
            return
        for blob in blobs:
            yield BlobEvent(CREATED, container, str(blob.name), int(blob.size or 0), str(blob.etag))

    def _save(self) -> None:
        if self._state is not None:
            self._state.parent.mkdir(parents=True, exist_ok=True)
            part = self._state.with_suffix(".part")
            part.write_text(json.dumps(self._known), encoding="utf-8")
            part.replace(self._state)
