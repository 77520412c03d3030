"""The audit trail: one line per operator action, promotion and publish; append-only and hash-chained.

Each line holds the SHA-256 of the line before, so removing or changing one breaks every line after it.
"""

from __future__ import annotations

import hashlib
import json
import time
from datetime import datetime
from typing import Any

from domain import lake_paths
from domain.errors import BlobConflict, BlobNotFound, Unavailable
from domain.ports import Lake

GENESIS = "0" * 64
MAX_TRIES = 50


def _path(now: datetime) -> str:
    return f"{now.year:04d}.jsonl"


def append_audit(lake: Lake, now: datetime, actor: str, action: str, subject: str, details: dict[str, Any]) -> str:
    """Append one line and return its hash. Raises Unavailable if other writers never leave room."""
    path = _path(now)
    for attempt in range(MAX_TRIES):
        try:
            data = lake.read(lake_paths.AUDIT, path).data
        except BlobNotFound:
            data = b""
        lines = data.splitlines()
        previous = json.loads(lines[-1])["hash"] if lines else GENESIS
        entry = {
            "at": now.isoformat(timespec="milliseconds"), "actor": actor, "action": action, "subject": subject,
            "details": details, "previous": previous,
        }
        entry["hash"] = _hash(entry)
        line = (json.dumps(entry, sort_keys=True, ensure_ascii=False) + "\n").encode()
        try:
            lake.append(lake_paths.AUDIT, path, line, if_length=len(data))
        except BlobConflict:
            time.sleep(min(0.01 * (attempt + 1), 0.3))
        else:
            return str(entry["hash"])
    raise Unavailable(f"audit/{path} is written by others without end")


def read_audit(lake: Lake, limit: int = 200) -> list[dict[str, Any]]:
    """Return the newest lines, the newest first."""
    lines: list[dict[str, Any]] = []
    for blob in sorted(lake.list(lake_paths.AUDIT), key=lambda blob: blob.path, reverse=True):
        data = lake.read(lake_paths.AUDIT, blob.path).data
        lines += [json.loads(line) for line in reversed(data.splitlines())]
        if len(lines) >= limit:
            break
    return lines[:limit]


def verify_audit(lake: Lake) -> list[str]:
    """Return a sentence for each line that was changed, removed or put in; empty means that the trail is whole."""
    faults = []
    for blob in lake.list(lake_paths.AUDIT):
        previous = GENESIS
        for number, line in enumerate(lake.read(lake_paths.AUDIT, blob.path).data.splitlines(), start=1):
            try:
                entry = json.loads(line)
                stated = entry.pop("hash")
            except (ValueError, KeyError):
                faults.append(f"{blob.path} line {number}: not an audit line")
                continue
            if entry["previous"] != previous:
                faults.append(f"{blob.path} line {number}: does not follow the line before it")
            if _hash(entry) != stated:
                faults.append(f"{blob.path} line {number}: was changed after it was written")
            previous = stated
    return faults


def _hash(entry: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
