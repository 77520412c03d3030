"""The hub's file when it cannot be written: a turn is on disk as a whole or not at all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from devhost.durable.store import Store
from devhost.errors import StorageFull

INSERT = "INSERT INTO messages (instance, event) VALUES (?, ?)"


def test_half_a_turn_is_never_committed(tmp_path: Path) -> None:
    failures: list[StorageFull] = []
    seen: list[str] = []

    async def fill() -> None:
        store = Store(tmp_path / "hub.sqlite", failures.append)
        store.write(INSERT, "first", "whole")
        await store.committed()
        store.rows("PRAGMA max_page_count=40")
        store.write(INSERT, "second", "half")
        store.after_commit(lambda: seen.append("second"))
        await store.committed()
        store.write(INSERT, "third", "half of another turn")
        waits = asyncio.ensure_future(store.committed())
        store.after_commit(lambda: seen.append("third"))
        with pytest.raises(StorageFull, match="free some disk space"):
            store.write(INSERT, "third", "x" * 1_000_000)
        with pytest.raises(StorageFull):
            store.write(INSERT, "fourth", "after the failure")
        with pytest.raises(StorageFull):
            await waits
        with pytest.raises(StorageFull):
            await store.committed()
        store.close()

    async def read() -> list[tuple[str]]:
        store = Store(tmp_path / "hub.sqlite", failures.append)
        found = store.rows("SELECT instance FROM messages ORDER BY seq")
        store.close()
        return found  # type: ignore[return-value]

    asyncio.run(fill())
    assert asyncio.run(read()) == [("first",), ("second",)]
    assert seen == ["second"]
    assert len(failures) == 1
