"""Write what one judged file yields: quarantine, data, outcome, pointer, in this order, each safe to repeat."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import datetime
from typing import Any
from uuid import uuid4

from conditioning.conditioner import REJECTED, Judged, check_invariant, data_version, verdict
from conditioning.lineage import run_events
from conditioning.outcome import outcome_document
from conditioning.registry import Source
from domain import lake_paths
from domain.errors import BlobConflict, BlobNotFound
from domain.lake_paths import CONDITIONED, QUARANTINE, STAGING, LandingFile
from domain.ports import BlobInfo, BlobReader, BlobWriter, Lake

SMALL_BYTES = 4 << 20  # written in one call


class Output:
    """One blob: small ones in one call, large ones by blocks; nothing is visible before `commit`."""

    def __init__(self, lake: Lake, container: str, path: str) -> None:
        self.size = 0
        self.path = path
        self._lake = lake
        self._container = container
        self._sha256 = hashlib.sha256()
        self._held: list[bytes] = []
        self._stack = ExitStack()
        self._writer: BlobWriter | None = None

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self.size += len(data)
        self._sha256.update(data)
        if self._writer is None:
            self._held.append(data)
            if self.size <= SMALL_BYTES:
                return
            self._writer = self._stack.enter_context(
                self._lake.open_writer(self._container, self.path, content_type="text/csv; charset=utf-8")
            )
            data, self._held = b"".join(self._held), []
        self._writer.write(data)

    @property
    def sha256(self) -> str:
        """Hash of all bytes."""
        return self._sha256.hexdigest()

    def commit(self, metadata: dict[str, str]) -> None:
        """Make the blob visible; where it exists already it holds these very bytes, so that is success too."""
        with self._stack:
            try:
                if self._writer is None:
                    self._lake.write(
                        self._container, self.path, b"".join(self._held), if_none_match=True, metadata=metadata
                    )
                else:
                    self._writer.commit(metadata=metadata, if_none_match=True)
            except BlobConflict:
                return


class LakeScratch:
    """Scratch space in a temporary blob: the local temp disk of a function is small."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._path = f"conditioning/{uuid4().hex}"
        self._stack = ExitStack()
        self._writer: BlobWriter = self._stack.enter_context(lake.open_writer(STAGING, self._path))
        self._committed = False

    def write(self, data: bytes) -> int:
        """Take the next bytes."""
        return self._writer.write(data)

    def reread(self) -> Callable[[int], bytes]:
        """End writing; return read(n) from the start."""
        with self._stack:
            self._writer.commit(if_none_match=True)
        self._committed = True
        reader: BlobReader = self._lake.open_reader(STAGING, self._path)
        return reader.read

    def discard(self) -> None:
        """Delete the blob."""
        if self._committed:
            self._lake.delete(STAGING, self._path)
        self._stack.close()


def publish(
    lake: Lake,
    source: Source,
    landed: LandingFile,
    info: BlobInfo,
    judged: Judged,
    *,
    started: datetime,
    now: Callable[[], datetime],
    correlation_id: str,
    reason: str,
    code_version: str,
    parent: str = "",
) -> tuple[dict[str, Any], bool]:
    """Write everything; return (outcome document, whether it is new). Two racing callers get the same document."""
    name, week = source.contract.name, landed.sales_week
    version = data_version(judged.sha256, name, source.rules_version)
    manifest = lake_paths.conditioned_manifest(name, week, version)
    known = lake.info(CONDITIONED, manifest)
    if known is not None:
        return _again(lake, manifest, known, landed, info), False
    metadata = {
        "source_file": landed.name,
        "source_etag": info.etag,
        "data_version": version,
        "rules_version": source.rules_version,
    }
    outputs = _write_outputs(lake, source, landed, judged, version, metadata)
    status = verdict(judged)
    check_invariant(judged)
    document = outcome_document(
        judged,
        source=name,
        week=week,
        status=status,
        version=version,
        contract_version=source.contract.version,
        code_version=code_version,
        path=landed.path,
        info=info,
        outputs=outputs,
        started=started,
        ended=now(),
        correlation_id=correlation_id,
        reason=reason,
        parent=parent,
    )
    fields = [(item.name, item.type) for item in source.contract.fields]
    lake.write(CONDITIONED, manifest.replace(".manifest.json", ".openlineage.jsonl"), run_events(document, fields))
    counts = judged.counts
    metadata |= {
        "status": status,
        "records_read": str(counts.records_read),
        "conditioned": str(counts.conditioned),
        "quarantined": str(counts.quarantined),
        "duplicates": str(counts.duplicates),
    }
    try:
        lake.write_json(CONDITIONED, manifest, document, if_none_match=True, metadata=metadata)
    except BlobConflict:
        return lake.read_json(CONDITIONED, manifest)[0], False
    return document, True


def _again(lake: Lake, manifest: str, known: BlobInfo, landed: LandingFile, info: BlobInfo) -> dict[str, Any]:
    """Note that these bytes came once more, as another file or ETag, so that the next sweep need not read them."""
    content = lake.read(CONDITIONED, manifest)
    origin = {"source_file": landed.name, "source_etag": info.etag}
    if not origin.items() <= known.metadata.items():
        with suppress(BlobConflict):  # another caller noted it
            lake.write(
                CONDITIONED,
                manifest,
                content.data,
                if_match=content.etag,
                metadata={**known.metadata, **origin},
            )
    document, _ = lake.read_json(CONDITIONED, manifest)
    return dict(document)


def _write_outputs(
    lake: Lake, source: Source, landed: LandingFile, judged: Judged, version: str, metadata: dict[str, str]
) -> dict[str, Any]:
    name, week, table = source.contract.name, landed.sales_week, judged.table
    outputs: dict[str, Any] = {
        "data": None,
        "quarantine": {"path": "", "rows": 0},
        "duplicates": {"path": "", "rows": 0},
    }
    if table is None:
        return outputs
    path = lake_paths.quarantined(name, week, version)
    quarantine = Output(lake, QUARANTINE, path)
    rows = table.write_quarantine(quarantine.write)
    if rows:
        quarantine.commit(metadata)
        outputs["quarantine"] = {"path": path, "rows": rows, "sha256": quarantine.sha256}
    if judged.refused is not None:
        return outputs
    data = Output(lake, CONDITIONED, lake_paths.conditioned_data(name, week, version))
    duplicates = Output(lake, QUARANTINE, path.removesuffix(".csv") + ".duplicates.csv")
    table.finish(data.write, duplicates.write)
    if table.counts.duplicates:
        duplicates.commit(metadata)
        outputs["duplicates"] = {"path": duplicates.path, "rows": table.counts.duplicates, "sha256": duplicates.sha256}
    check_invariant(judged)
    data.commit(metadata)
    outputs["data"] = {
        "path": data.path,
        "sha256": data.sha256,
        "content_hash": table.content_hash(),
        "rows": table.rows,
        "bytes": data.size,
    }
    return outputs


def settled_key(info: BlobInfo) -> str:
    """Return what orders raw files of a week: the newer one supersedes; on the same second the later name."""
    return f"{info.last_modified:%Y-%m-%dT%H:%M:%SZ} {info.path}"


def switch_pointer(lake: Lake, document: dict[str, Any], info: BlobInfo, now: datetime, *, force: bool = False) -> bool:
    """Make the data version the current one of its week unless a newer raw file was settled; return whether it is.

    `settled_through` names the newest raw file that the pointer takes into account: an operator may force an older
    one's version without the next sweep undoing it.
    """
    if document["status"] == REJECTED:
        return False
    path = f"{document['source']}/{document['sales_week']}/current.json"
    data, mine = document["outputs"]["data"], settled_key(info)
    while True:
        try:
            current, etag = lake.read_json(CONDITIONED, path)
        except BlobNotFound:
            current, etag = {"settled_through": "", "data_version": ""}, None
        if current.get("settled_through", "") > mine and not force:
            return bool(current["data_version"] == document["data_version"])
        pointer = {
            "data_version": document["data_version"],
            "data_path": data["path"],
            "manifest_path": data["path"].removesuffix(".csv") + ".manifest.json",
            "rows": data["rows"],
            "sha256": data["sha256"],
            "source_file": document["input"]["path"],
            "settled_through": max(mine, current.get("settled_through", "")),
            "switched_at": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        if all(current.get(name) == pointer[name] for name in ("data_version", "settled_through")):
            return True
        metadata = {name: pointer[name] for name in ("data_version", "settled_through")}
        try:
            lake.write_json(CONDITIONED, path, pointer, if_match=etag, if_none_match=etag is None, metadata=metadata)
        except BlobConflict:
            continue  # somebody switched meanwhile: look again
        return True
