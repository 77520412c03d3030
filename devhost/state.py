"""The data directory: who owns it, where the host answers, its keys."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from devhost.errors import HostError

STATE_FILE = "host.json"
_UNREADABLE = (FileNotFoundError, ValueError, TypeError)


@dataclass(frozen=True)
class HostState:
    """What other processes read in DATA/host.json while the host runs."""

    pid: int
    port: int
    url: str
    rpc_url: str
    app: str
    started_at: str
    azurite: dict[str, Any] | None

    def write(self, data_dir: Path) -> None:
        """Publish; replaces the file in one step."""
        replace_json(data_dir / STATE_FILE, asdict(self))

    @classmethod
    def read(cls, data_dir: Path) -> HostState | None:
        """Read what a host published, or None if none did."""
        try:
            return cls(**json.loads((data_dir / STATE_FILE).read_text(encoding="utf-8")))
        except _UNREADABLE:
            return None


@dataclass(frozen=True)
class Keys:
    """Access keys; they live as long as the data directory."""

    master: str
    function: str
    durable: str
    blobs: str
    eventgrid: str

    @classmethod
    def of(cls, data_dir: Path) -> Keys:
        """Read the keys, or make them at the first start."""
        path = data_dir / "keys.json"
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except _UNREADABLE:
            keys = cls(*(secrets.token_urlsafe(32) for _ in range(5)))
            replace_json(path, asdict(keys))
            return keys


def take(data_dir: Path) -> int:
    """Own the data directory until the process ends; returns the open lock. HostError if another host has it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    lock = os.open(data_dir / "host.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        other = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise HostError(
            f"Another host (pid {other}) runs on {data_dir}: stop it, or give this one its own --data."
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def replace_json(path: Path, document: dict[str, Any]) -> None:
    """Write a file that only this user can read, in one step."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(document, indent=1), encoding="utf-8")
    temporary.chmod(0o600)
    temporary.replace(path)
