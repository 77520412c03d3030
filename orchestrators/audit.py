"""The audit trail: one line per operator action, gate override, promotion and publish; append-only and hash-chained.

Each line holds the SHA-256 of the line before it, over all files of the trail, so removing, changing or inserting one
breaks the chain. `head.json` names the newest line, so that cutting lines off the end shows as well.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from domain import lake_paths
from domain.errors import BlobConflict, BlobNotFound, Unavailable
from domain.ports import Lake
from orchestrators.services import RunServices

GENESIS = "0" * 64
HEAD = "head.json"
SEALED_BYTES = 1_000_000  # a longer file gets no more lines: an append must read what is there
MAX_TRIES = 50


@dataclass(frozen=True)
class AuditEntry:
    """Who did what to what. An entry whose `key` is in the newest file already is not written again."""

    actor: str
    action: str
    subject: str
    details: dict[str, Any] = field(default_factory=dict)
    key: str = ""


def append_audit(
    lake: Lake, now: datetime, actor: str, action: str, subject: str, details: dict[str, Any], key: str = ""
) -> None:
    """Append one line; with a `key`, once only. Raises Unavailable if other writers never leave room."""
    append_entries(lake, now, [AuditEntry(actor, action, subject, details, key)])


def audit_operator(
    services: RunServices, actor: str, action: str, subject: str, details: dict[str, Any], key: str = ""
) -> None:
    """Write what a person did into the trail, once if it has a `key`, and report it as an event."""
    action_id = key or f"{action}/{subject}/{uuid.uuid4().hex}"
    append_audit(services.lake, services.clock.now(), actor, action, subject, details, action_id)
    services.telemetry.event("operator_action", {
        "action_id": action_id, "action": action, "actor": actor, "target": subject,
        "reason": str(details.get("reason", "")), "dry_run": False,
    })


def append_entries(lake: Lake, now: datetime, entries: Sequence[AuditEntry]) -> None:
    """Append several lines at once, each at most once even if an answer of the storage account is lost."""
    # A key of its own makes a line recognisable when the answer to its append was lost.
    keyed = [(entry, entry.key or uuid.uuid4().hex) for entry in entries]
    for attempt in range(MAX_TRIES):
        path, data, previous = _end(lake)
        known = {_parsed(line).get("key") for line in data.splitlines()}
        lines = b""
        for entry, key in keyed:
            if key in known:
                continue
            document = {
                "at": now.isoformat(timespec="milliseconds"), "actor": entry.actor, "action": entry.action,
                "subject": entry.subject, "details": entry.details, "key": key, "previous": previous,
            }
            previous = document["hash"] = _hash(document)
            lines += (json.dumps(document, sort_keys=True, ensure_ascii=False) + "\n").encode()
        if not lines:
            return
        try:
            length = lake.append(lake_paths.AUDIT, path, lines, if_length=len(data))
        except BlobConflict:
            time.sleep(min(0.01 * (attempt + 1), 0.3))
        else:
            _advance_head(lake, path, length, previous)
            return
    raise Unavailable("the audit trail is written by others without end")


def _files(lake: Lake) -> list[str]:
    return [blob.path for blob in lake.list(lake_paths.AUDIT, "trail-")]


def _end(lake: Lake) -> tuple[str, bytes, str]:
    """Return (file to append to, its bytes, hash of the newest line). A file that is long enough is never touched."""
    files = _files(lake)
    if not files:
        return "trail-00001.jsonl", b"", GENESIS
    data = lake.read(lake_paths.AUDIT, files[-1]).data
    previous = _hash_of(data.splitlines()[-1]) if data else _last_hash(lake, files[:-1])
    if len(data) < SEALED_BYTES:
        return files[-1], data, previous
    return f"trail-{len(files) + 1:05d}.jsonl", b"", previous


def _last_hash(lake: Lake, files: Sequence[str]) -> str:
    """Return the newest hash before a file that was created and not yet written to."""
    for path in reversed(files):
        if lines := lake.read(lake_paths.AUDIT, path).data.splitlines():
            return _hash_of(lines[-1])
    return GENESIS


def _parsed(line: bytes) -> dict[str, Any]:
    """Return a line's document; a line that somebody made unreadable must not stop the trail from growing."""
    with suppress(ValueError):
        document = json.loads(line)
        if isinstance(document, dict):
            return document
    return {}


def _hash_of(line: bytes) -> str:
    return str(_parsed(line).get("hash") or hashlib.sha256(line).hexdigest())


def _advance_head(lake: Lake, path: str, length: int, newest: str) -> None:
    """Move the head forward, never back; a head that lags after a crash is fine, the next append mends it."""
    for _ in range(MAX_TRIES):
        etag: str | None = None
        with suppress(BlobNotFound):
            head, etag = lake.read_json(lake_paths.AUDIT, HEAD)
            if (head["path"], head["length"]) >= (path, length):
                return
        document = {"path": path, "length": length, "hash": newest}
        with suppress(BlobConflict):
            lake.write_json(lake_paths.AUDIT, HEAD, document, if_match=etag, if_none_match=etag is None)
            return


def read_audit(lake: Lake, limit: int = 200) -> list[dict[str, Any]]:
    """Return the newest lines, the newest first."""
    lines: list[dict[str, Any]] = []
    for path in reversed(_files(lake)):
        data = lake.read(lake_paths.AUDIT, path).data
        lines += [entry for line in reversed(data.splitlines()) if (entry := _parsed(line))]
        if len(lines) >= limit:
            break
    return lines[:limit]


def verify_audit(lake: Lake) -> list[str]:
    """Return a sentence for each line that was changed, removed or put in; empty means that the trail is whole."""
    faults = []
    hashes = set()
    previous = GENESIS
    for path in _files(lake):
        for number, line in enumerate(lake.read(lake_paths.AUDIT, path).data.splitlines(), start=1):
            try:
                entry = json.loads(line)
                stated = entry.pop("hash")
                follows = entry["previous"] == previous
            except (ValueError, KeyError, TypeError, AttributeError):
                faults.append(f"{path} line {number}: not an audit line")
                previous = _hash_of(line)
                continue
            if not follows:
                faults.append(f"{path} line {number}: does not follow the line before it")
            if _hash(entry) != stated:
                faults.append(f"{path} line {number}: was changed after it was written")
            previous = stated
            hashes.add(stated)
    with suppress(BlobNotFound):
        head, _ = lake.read_json(lake_paths.AUDIT, HEAD)
        if head["hash"] not in hashes:
            faults.append(f"{head['path']}: the newest line that {HEAD} names is gone, lines were cut off the end")
    return faults


def _hash(entry: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
