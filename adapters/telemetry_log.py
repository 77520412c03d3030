"""Telemetry without Application Insights: one JSON document a line, in a file that the local alert check reads."""

from __future__ import annotations

import json
import logging
import os
import threading
from pathlib import Path

from adapters.telemetry_values import Item

ROTATE_BYTES = 32 * 1024 * 1024  # then the file becomes `.1`, and the former `.1` goes


class LineLog:
    """Appends items to a file; where no file can be written (a read-only app folder) they go to `logging`."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._logger = logging.getLogger("shelfcast.telemetry")

    def put(self, item: Item) -> None:
        """Write one line at once, so that a killed process has lost nothing."""
        line = json.dumps(item.to_dict(), ensure_ascii=False, sort_keys=True)
        if self._path is not None:
            try:
                self._append(self._path, line + "\n")
            except OSError as error:
                self._path = None
                self._logger.warning("telemetry goes to the log, its file cannot be written: %s", error)
            else:
                return
        self._logger.info("%s", line)

    def flush(self, seconds: float) -> bool:
        """Nothing waits."""
        del seconds
        return True

    def _append(self, path: Path, text: str) -> None:
        with self._lock:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size > ROTATE_BYTES:
                path.replace(path.with_name(path.name + ".1"))
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(handle, text.encode())  # one write: lines of several processes never mix
            finally:
                os.close(handle)


class Nowhere:
    """Takes everything and keeps nothing: TELEMETRY_BACKEND=none."""

    def put(self, item: Item) -> None:
        """Forget the item."""

    def flush(self, seconds: float) -> bool:
        """Nothing waits."""
        del seconds
        return True
