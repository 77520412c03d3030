"""The task hub on disk: one SQLite file, written in group commits.

All writes of two turns of the event loop share a transaction: what one turn sets off in the next is part of it. What
must not be seen before it is safe (replies, dispatch) runs in `after_commit`. A killed process loses nothing that was
committed: SQLite's log is in the operating system's hands by then. The file belongs to one host at a time (see
`devhost.state`).
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from devhost.errors import HostError, StorageFull

_SCHEMA = """
CREATE TABLE IF NOT EXISTS instances (
  id TEXT PRIMARY KEY, execution TEXT NOT NULL, name TEXT NOT NULL, version TEXT, status TEXT NOT NULL, input TEXT,
  output TEXT, custom_status TEXT, created TEXT NOT NULL, updated TEXT NOT NULL,
  parent TEXT, parent_execution TEXT, parent_task INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history (instance TEXT NOT NULL, seq INTEGER NOT NULL, event TEXT NOT NULL,
  PRIMARY KEY (instance, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS messages (seq INTEGER PRIMARY KEY, instance TEXT NOT NULL, execution TEXT,
  event TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS messages_by_instance ON messages (instance);
CREATE TABLE IF NOT EXISTS activities (instance TEXT NOT NULL, execution TEXT NOT NULL, task INTEGER NOT NULL,
  name TEXT NOT NULL, input TEXT NOT NULL, PRIMARY KEY (instance, execution, task)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS timers (instance TEXT NOT NULL, execution TEXT NOT NULL, task INTEGER NOT NULL,
  fire_at TEXT NOT NULL, PRIMARY KEY (instance, execution, task)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entities (id TEXT PRIMARY KEY, state TEXT, updated TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blob_seen (place TEXT NOT NULL, blob TEXT NOT NULL, etag TEXT NOT NULL,
  PRIMARY KEY (place, blob)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blob_arrivals (seq INTEGER PRIMARY KEY, function TEXT NOT NULL, blob TEXT NOT NULL,
  etag TEXT NOT NULL, failures INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS schedules (function TEXT PRIMARY KEY, last TEXT, next TEXT) WITHOUT ROWID;
"""
_FULL = ("database or disk is full", "disk I/O error", "No space left")
# One host a hub: no locks at every commit. 16 MB of log before it is written back, 4 MB of cache.
_SETTINGS = """
PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;
PRAGMA wal_autocheckpoint=4000; PRAGMA cache_size=-4096;
"""


class Store:
    """Statements on the hub's file; every call happens on the host's event loop. HostError if it cannot be opened."""

    def __init__(self, path: Path, on_failure: Callable[[StorageFull], None]) -> None:
        self._path = path
        self._on_failure = on_failure
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._connection.executescript(_SETTINGS + _SCHEMA)
        except sqlite3.DatabaseError as problem:
            raise HostError(f"The task hub {path} cannot be opened ({problem}): close what else has it open, or move"
                            " it away to begin with an empty one.") from problem  # fmt: skip
        self._turn: asyncio.Future[None] | None = None  # ends with the open transaction
        self._after: list[Callable[[], None]] = []
        self._broken: StorageFull | None = None

    def write(self, statement: str, *values: Any) -> sqlite3.Cursor:
        """Do a statement as part of the running turn's transaction."""
        self._begin()
        return self._do(self._connection.execute, statement, values)

    def write_many(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        """Do a statement for each row as part of the running turn's transaction."""
        if rows:
            self._begin()
            self._do(self._connection.executemany, statement, rows)

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Read; sees the running turn's writes."""
        return self._do(self._connection.execute, statement, values).fetchall()

    def row(self, statement: str, *values: Any) -> tuple[Any, ...] | None:
        """Read the first row, or None."""
        found: tuple[Any, ...] | None = self._do(self._connection.execute, statement, values).fetchone()
        return found

    def after_commit(self, action: Callable[[], None]) -> None:
        """Run `action` once everything written so far is on disk (at once if there is nothing to write)."""
        if self._turn is None:
            action()
        else:
            self._after.append(action)

    async def committed(self) -> None:
        """Wait until everything written so far is on disk. StorageFull if it cannot be."""
        if self._broken is not None:
            raise self._broken
        if self._turn is not None:
            await asyncio.shield(self._turn)

    def flush(self) -> None:
        """Commit the running transaction, then do what waited for it."""
        if self._turn is None or self._broken is not None:
            return
        self._do(self._connection.execute, "COMMIT")
        self._turn.set_result(None)
        self._turn = None
        actions, self._after = self._after, []
        for action in actions:
            action()

    def close(self) -> None:
        """Commit and close; after a failed statement only what was committed before it stays."""
        self.flush()
        self._broken = self._broken or StorageFull("The task hub is closed.")
        self._connection.close()

    def _begin(self) -> None:
        if self._turn is None:
            self._do(self._connection.execute, "BEGIN IMMEDIATE")
            loop = asyncio.get_running_loop()
            self._turn = loop.create_future()
            loop.call_soon(loop.call_soon, self.flush)

    def _do(self, act: Callable[..., sqlite3.Cursor], *arguments: Any) -> sqlite3.Cursor:
        if self._broken is not None:
            raise self._broken
        try:
            return act(*arguments)
        except (sqlite3.OperationalError, OSError) as problem:
            if not any(text in str(problem) for text in _FULL):
                raise
            # The rest of this turn cannot be written: half of it must not be committed by what still runs.
            self._broken = StorageFull(
                f"The task hub {self._path} cannot be written ({problem}): free some disk space and start the host "
                "again. Work goes on from the last commit."
            )
            self._after.clear()
            if self._turn is not None:
                self._turn.set_exception(self._broken)
                self._turn.exception()  # it is no surprise if nobody waits
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            self._on_failure(self._broken)
            raise self._broken from problem
