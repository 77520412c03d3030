"""An app's settings and host.json, as the real host gives them to functions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devhost.errors import AppLoadError

DEVELOPMENT_STORAGE = "UseDevelopmentStorage=true"
_EXPRESSION = re.compile(r"%([^%]+)%")


def read_settings(app_dir: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Values of local.settings.json, else of local.settings.sample.json; the real environment wins.

    Raises AppLoadError for a file that cannot be read.
    """
    for name in ("local.settings.json", "local.settings.sample.json"):
        document = _read_json(app_dir / name)
        if document is not None:
            values = {str(k): "" if v is None else str(v) for k, v in (document.get("Values") or {}).items()}
            return {key: environ.get(key, value) for key, value in values.items()}
    return {}


def storage_settings(settings: Mapping[str, str], environ: Mapping[str, str]) -> list[str]:
    """Names of settings that mean the storage emulator."""
    merged = {**settings, **environ}
    return sorted(k for k, v in merged.items() if v.strip().rstrip(";").lower() == DEVELOPMENT_STORAGE.lower())


def resolve(text: str, environ: Mapping[str, str], what: str) -> str:
    """Replace %NAME% by settings; AppLoadError names the missing one."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in environ:
            raise AppLoadError(f"{what} refers to the app setting {match[1]!r}, which is not set.")
        return environ[match[1]]

    return _EXPRESSION.sub(value, text)


def seconds(text: str) -> float:
    """Read a .NET TimeSpan ([d.]hh:mm:ss[.fff])."""
    match = re.fullmatch(r"(?:(\d+)\.)?(\d+):(\d+):(\d+(?:\.\d+)?)", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a time span like 00:05:00")
    days, hours, minutes, rest = match.groups()
    return int(days or 0) * 86400 + int(hours) * 3600 + int(minutes) * 60 + float(rest)


@dataclass(frozen=True)
class HostConfig:
    """What host.json says, with the defaults of the real host on a machine of `cores` cores."""

    hub_name: str = "TestHubName"
    route_prefix: str = "api"
    max_activities: int = 10
    max_orchestrators: int = 10
    default_version: str | None = None
    max_dequeue_count: int = 5
    queue_batch: int = 16
    queue_retry_seconds: float = 0.0
    queue_base64: bool = True
    blob_max_failures: int = 5

    @classmethod
    def read(cls, app_dir: Path, environ: Mapping[str, str], cores: int) -> HostConfig:
        """Read host.json; a missing file means defaults."""
        document = _read_json(app_dir / "host.json") or {}
        extensions = document.get("extensions") or {}
        durable = extensions.get("durableTask") or {}
        queues = extensions.get("queues") or {}
        prefix = (extensions.get("http") or {}).get("routePrefix", "api")
        try:
            return cls(
                hub_name=resolve(str(durable.get("hubName") or "TestHubName"), environ, "host.json hubName"),
                route_prefix=str(prefix).strip("/"),
                max_activities=int(durable.get("maxConcurrentActivityFunctions") or 10 * cores),
                max_orchestrators=int(durable.get("maxConcurrentOrchestratorFunctions") or 10 * cores),
                default_version=durable.get("defaultVersion"),
                max_dequeue_count=int(queues.get("maxDequeueCount") or 5),
                queue_batch=min(int(queues.get("batchSize") or 16), 32),
                queue_retry_seconds=seconds(str(queues.get("visibilityTimeout") or "00:00:00")),
                queue_base64=str(queues.get("messageEncoding") or "base64").lower() == "base64",
            )
        except (ValueError, TypeError, AttributeError) as problem:
            raise AppLoadError(f"{app_dir / 'host.json'}: {problem}") from problem


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as problem:
        raise AppLoadError(f"{path} is not valid JSON: {problem}") from problem
    if not isinstance(document, dict):
        raise AppLoadError(f"{path} must hold a JSON object.")
    return document
