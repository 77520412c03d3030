"""Histories of instances on disk, the ones that were used last also in memory."""

from __future__ import annotations

from collections import OrderedDict

from devhost.durable.history import Event, from_text
from devhost.durable.store import Store

CACHED_EVENTS = 30_000  # over all instances, about 15 MB


class Histories:
    """Reads and appends as part of the running turn's transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cache: OrderedDict[str, list[Event]] = OrderedDict()
        self._cached = 0

    def load(self, instance_id: str) -> list[Event]:
        """Give the whole history; the list never changes: an episode that is under way keeps what it was given."""
        past = self._cache.get(instance_id)
        if past is None:
            rows = self._store.rows("SELECT event FROM history WHERE instance=? ORDER BY seq", instance_id)
            past = self._cache[instance_id] = [from_text(text) for (text,) in rows]
            self._cached += len(past)
        self._cache.move_to_end(instance_id)
        while self._cached > CACHED_EVENTS and len(self._cache) > 1:
            self._cached -= len(self._cache.popitem(last=False)[1])
        return past

    def append(self, instance_id: str, length: int, events: list[Event]) -> None:
        """Add events to a history that has `length` of them."""
        rows = [(instance_id, length + i, item.text) for i, item in enumerate(events)]
        self._store.write_many("INSERT INTO history VALUES (?,?,?)", rows)
        cached = self._cache.get(instance_id)
        if cached is not None or length == 0:
            self._cache[instance_id] = [*(cached or ()), *events]
            self._cached += len(events)

    def delete(self, instance_id: str) -> None:
        """Delete a history."""
        self.release(instance_id)
        self._store.write("DELETE FROM history WHERE instance=?", instance_id)

    def release(self, instance_id: str) -> None:
        """Keep a history on disk only."""
        self._cached -= len(self._cache.pop(instance_id, ()))
