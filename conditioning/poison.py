"""Files on which conditioning itself fails: counted, and after five tries set aside whole for an engineer."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from conditioning.conditioner import REJECTED, Judged
from conditioning.raw_input import Metered
from conditioning.reasons import FileRefused
from conditioning.registry import Source
from domain.errors import BlobNotFound
from domain.lake_paths import LANDING, QUARANTINE, LandingFile
from domain.ports import BlobInfo

if TYPE_CHECKING:
    from conditioning.service import ConditioningServices

MOST_TRIES = 5


def note_failure(
    services: ConditioningServices,
    source: Source,
    landed: LandingFile,
    info: BlobInfo,
    error: Exception,
    correlation_id: str,
) -> dict[str, Any] | None:
    """Count one failure of this file version; at the fifth set it aside and return its outcome document, else None."""
    from conditioning.publish import publish

    lake = services.lake
    path = f"{landed.source}/{landed.sales_week}/tries/{landed.name}.{info.etag}.json"
    try:
        tries = int(lake.read_json(QUARANTINE, path)[0]["tries"]) + 1
    except BlobNotFound:
        tries = 1
    services.telemetry.exception(
        error, {"source": landed.source, "path": landed.path, "correlation_id": correlation_id, "try": tries}
    )
    lake.write_json(
        QUARANTINE,
        path,
        {"tries": tries, "error": "".join(traceback.format_exception_only(error)).strip(), "path": landed.path},
    )
    if tries < MOST_TRIES:
        return None
    lake.copy(LANDING, landed.path, QUARANTINE, f"{landed.source}/{landed.sales_week}/poison/{info.etag}-{landed.name}")
    reader = lake.open_reader(LANDING, landed.path, etag=info.etag)
    raw = Metered(reader)
    raw.drain()
    reader.close()
    refused = FileRefused(
        "poison",
        f"{landed.name}: conditioning failed {tries} times, at last with {type(error).__name__}: {error}",
        file=landed.name,
        value=type(error).__name__,
    )
    services.telemetry.event(
        "blob_poisoned",
        {"blob_path": landed.path, "etag": info.etag, "source": landed.source, "message": refused.message},
    )
    now = services.clock.now()
    document, _ = publish(
        lake,
        source,
        landed,
        info,
        Judged(REJECTED, raw.sha256, raw.size, None, None, refused),
        started=now,
        now=services.clock.now,
        correlation_id=correlation_id,
        reason="poison",
        code_version=services.settings.code_version,
    )
    return document
