"""An app's settings and host.json, as the real host gives them to functions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devhost.errors import AppLoadError

_EXPRESSION = re.compile(r"%([^%]+)%")
_NOTHING_TO_DO = ("version", "logging.", "extensionBundle.")  # in host.json: telemetry and packaging


def read_settings(app_dir: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Values of local.settings.json, else of local.settings.sample.json; the real environment wins.

    Raises AppLoadError for a file that cannot be read.
    """
    for name in ("local.settings.json", "local.settings.sample.json"):
        if document := _read_json(app_dir / name):
            if document.get("IsEncrypted"):
                raise AppLoadError(f"{app_dir / name} is encrypted: run `func settings decrypt`.")
            values = {str(k): "" if v is None else str(v) for k, v in (document.get("Values") or {}).items()}
            return {key: environ.get(key, value) for key, value in values.items()}
    return {}


def means_emulator(value: str) -> bool:
    """True for a connection that stands for the storage emulator."""
    return value.strip().rstrip(";").lower() == "usedevelopmentstorage=true"


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
    """What host.json says, with the defaults of the real host; `not_modelled` names what this host does not do."""

    hub_name: str
    route_prefix: str
    max_activities: int
    max_orchestrators: int
    default_version: str | None
    max_dequeue_count: int
    queue_batch: int
    queue_retry_seconds: float
    queue_longest_poll: float
    queue_base64: bool
    blob_max_failures: int
    not_modelled: list[str]

    @classmethod
    def read(cls, app_dir: Path, environ: Mapping[str, str], cores: int) -> HostConfig:
        """Read host.json for a machine of some cores; a missing file means defaults."""
        left = dict(_leaves(_read_json(app_dir / "host.json")))
        local = dict(_leaves(_read_json(app_dir / "local.settings.json")))

        def take(name: str, otherwise: Any) -> Any:
            return left.pop(f"extensions.{name}", None) or otherwise

        try:
            return cls(
                hub_name=resolve(str(take("durableTask.hubName", "TestHubName")), environ, "host.json hubName"),
                route_prefix=str(left.pop("extensions.http.routePrefix", "api")).strip("/"),
                max_activities=int(take("durableTask.maxConcurrentActivityFunctions", 10 * cores)),
                max_orchestrators=int(take("durableTask.maxConcurrentOrchestratorFunctions", 10 * cores)),
                default_version=take("durableTask.defaultVersion", None),
                max_dequeue_count=int(take("queues.maxDequeueCount", 5)),
                queue_batch=min(int(take("queues.batchSize", 16)), 32),
                queue_retry_seconds=seconds(str(take("queues.visibilityTimeout", "00:00:00"))),
                queue_longest_poll=seconds(str(take("queues.maxPollingInterval", "00:00:02"))),
                queue_base64=str(take("queues.messageEncoding", "base64")).lower() == "base64",
                blob_max_failures=int(take("blobs.poisonBlobThreshold", 5)),
                not_modelled=[
                    *(f"host.json {name}" for name in left if not name.startswith(_NOTHING_TO_DO)),
                    *(f"local.settings.json {name}" for name in local if name.startswith("Host.")),
                ],
            )
        except (ValueError, TypeError) as problem:
            raise AppLoadError(f"{app_dir / 'host.json'}: {problem}") from problem


def _leaves(document: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """All values of nested objects that are no objects, with their dotted names."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield path + name, value


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object in a file, empty if there is no such file."""
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as problem:
        raise AppLoadError(f"{path} is not valid JSON: {problem}") from problem
    if not isinstance(document, dict):
        raise AppLoadError(f"{path} must hold a JSON object.")
    return document
