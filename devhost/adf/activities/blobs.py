"""Activities on blobs: Lookup, GetMetadata, Copy, Delete, Validation; JSON, delimited text and binary datasets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Final

from devhost.adf.blob_storage import BlobPath, Storage, read_rows, write_rows
from devhost.adf.calls import Call
from devhost.adf.datasets import FORMATS, STORES, BlobDataset, read_dataset
from devhost.adf.errors import ActivityFailure, FactoryError
from devhost.adf.factory import Activity, Factory
from devhost.adf.spans import span_seconds

LOOKUP_ROWS: Final = 5000
LOOKUP_BYTES: Final = 4 * 1024 * 1024
_METADATA: Final = frozenset(
    {"exists", "itemName", "itemType", "size", "lastModified", "childItems", "contentMD5", "columnCount", "structure"}
)
_SOURCES: Final = frozenset({"JsonSource", "DelimitedTextSource", "BinarySource", "BlobSource"})
_SINKS: Final = frozenset({"JsonSink", "DelimitedTextSink", "BinarySink", "BlobSink"})
_STORE_PROPERTIES: Final = frozenset({"type", "recursive", "wildcardFolderPath", "wildcardFileName", "prefix"})
_STORE_WITHOUT_MEANING: Final = frozenset(
    {"enablePartitionDiscovery", "maxConcurrentConnections", "disableMetricsCollection"}
)


async def lookup(call: Call) -> dict[str, Any]:
    """Reads rows: `firstRow`, or `count` and `value` (at most 5,000 rows and 4 MB)."""
    dataset, storage = _dataset(call, "dataset"), _storage(call)
    path = await _one_file(call, dataset, "source")
    call.input = {"source": call.activity.properties.get("source"), "dataset": str(path)}
    rows = await asyncio.to_thread(read_rows, storage.read(path), dataset)
    if call.property("firstRowOnly", True) is not False:
        return {"firstRow": rows[0]} if rows else {}
    rows = rows[:LOOKUP_ROWS]
    if len(json.dumps(rows)) > LOOKUP_BYTES:
        raise ActivityFailure("The size of lookup activity result exceeds the limitation of 4194304", code="2103")
    return {"count": len(rows), "value": rows}


async def get_metadata(call: Call) -> dict[str, Any]:
    """The fields asked for; a missing blob or folder is an error unless `exists` is among them."""
    dataset, storage = _dataset(call, "dataset"), _storage(call)
    fields = [str(call.resolve(field)) for field in call.activity.properties.get("fieldList") or []]
    call.input = {"dataset": str(dataset.path), "fieldList": fields}
    found = await asyncio.to_thread(storage.describe, dataset.path)
    if found is None:
        if "exists" in fields:
            return {"exists": False}
        raise ActivityFailure(f"The required Blob is missing: {dataset.path}", code="2011")
    known: dict[str, Any] = {"exists": True, **found}
    if "structure" in fields or "columnCount" in fields:
        rows = await asyncio.to_thread(read_rows, storage.read(dataset.path), dataset)
        known["structure"] = [{"name": name, "type": "String"} for name in (rows[0] if rows else {})]
        known["columnCount"] = len(known["structure"])
    return {field: known[field] for field in fields if field in known}


async def copy(call: Call) -> dict[str, Any]:
    """Copies blobs as they are (binary, or the same format), or rows between JSON and delimited text."""
    source, sink = _copy_dataset(call, "inputs"), _copy_dataset(call, "outputs")
    storage = _storage(call)
    mapped = _mappings(call.property("translator", {}))
    files = await _files(call, source, "source")
    call.input = {"source": str(source.path), "sink": str(sink.path)}
    if not files:
        raise ActivityFailure(f"The required Blob is missing: {source.path}", code="2200")
    read = written = rows = 0
    for path in files:
        content = await asyncio.to_thread(storage.read, path)
        target = sink.path if sink.path.file else sink.path.child(path.below(source.path))
        if source.format != sink.format or source.shape != sink.shape or mapped:
            records = _mapped(read_rows(content, source), mapped)
            rows += len(records)
            content, read = write_rows(records, sink), read + len(content)
        else:
            read += len(content)
        await asyncio.to_thread(storage.write, target, content)
        written += len(content)
    counted = {"rowsRead": rows, "rowsCopied": rows} if rows else {}
    return {"dataRead": read, "dataWritten": written, "filesRead": len(files), "filesWritten": len(files), **counted}


async def delete(call: Call) -> dict[str, Any]:
    """Deletes the dataset's blob, or those of its folder."""
    dataset, storage = _dataset(call, "dataset"), _storage(call)
    files = await _files(call, dataset, "")
    call.input = {"dataset": str(dataset.path)}
    for path in files:
        await asyncio.to_thread(storage.delete, path)
    return {"filesDeleted": len(files), "recursive": call.property("recursive", False)}


async def validation(call: Call) -> dict[str, Any]:
    """Waits until the dataset exists (large enough, with or without children); fails when the time is up."""
    dataset, storage = _dataset(call, "dataset"), _storage(call)
    least, children = call.property("minimumSize"), call.property("childItems")
    timeout, sleep = call.property("timeout", "0.12:00:00"), float(call.property("sleep", 10))
    call.input = {"dataset": str(dataset.path)}
    try:
        async with asyncio.timeout(call.services.clock.limit(span_seconds(timeout))):
            while True:
                found = await asyncio.to_thread(storage.describe, dataset.path)
                if found is not None and int(found.get("size") or 0) >= int(least or 0):
                    has = bool(found.get("childItems"))
                    if children is None or has == (children is True):
                        return {"exists": True, **found}
                await call.services.clock.wait(sleep)
    except TimeoutError:
        raise ActivityFailure(
            f"Validation timed out after {timeout}: {dataset.path}", code="2002", status="TimedOut"
        ) from None


def unmodelled(factory: Factory, activity: Activity) -> Iterator[str]:
    """What a blob activity needs and this module does not do."""
    if activity.type not in ("Lookup", "GetMetadata", "Copy", "Delete", "Validation"):
        return
    for role, reference in _references(activity):
        yield from _unmodelled_dataset(factory, reference, role)
    translator = activity.properties.get("translator") or {}
    if translator.get("type", "TabularTranslator") != "TabularTranslator" or translator.get("collectionReference"):
        yield f"translator of type {translator.get('type')}"
    for role, allowed in (("source", _SOURCES), ("sink", _SINKS)):
        settings = activity.properties.get(role)
        if isinstance(settings, dict) and settings.get("type") not in allowed:
            yield f"{role} of type {settings.get('type')}"
        store = settings.get("storeSettings") if isinstance(settings, dict) else None
        for key, value in (store or {}).items():
            if (
                role == "source"
                and key not in _STORE_PROPERTIES | _STORE_WITHOUT_MEANING
                and value not in (None, "", False)
            ):
                yield f"store setting {key!r}"
    if activity.type == "GetMetadata":
        asked = [f for f in activity.properties.get("fieldList") or [] if isinstance(f, str) and not f.startswith("@")]
        yield from (f"metadata field {field!r}" for field in asked if field not in _METADATA)


def _references(activity: Activity) -> Iterator[tuple[str, dict[str, Any]]]:
    if "dataset" in activity.properties:
        yield "dataset", activity.properties["dataset"]
    for role in ("inputs", "outputs"):
        for reference in activity.definition.get(role) or []:
            yield role, reference


def _unmodelled_dataset(factory: Factory, reference: dict[str, Any], role: str) -> Iterator[str]:
    try:
        dataset = factory.dataset(str(reference.get("referenceName")))
        service = factory.linked_service(str((dataset.get("linkedServiceName") or {}).get("referenceName")))
    except FactoryError as error:
        yield str(error)
        return
    if dataset.get("type") not in FORMATS:
        yield f"{role} dataset of type {dataset.get('type')}"
    if service.get("type") not in STORES:
        yield f"{role} linked service of type {service.get('type')}"
    compression = (dataset.get("typeProperties") or {}).get("compression")
    if compression and compression.get("type") not in (None, "none", "None"):
        yield f"{role} dataset with compression"


def _dataset(call: Call, name: str) -> BlobDataset:
    return read_dataset(call, call.activity.properties.get(name) or {})


def _copy_dataset(call: Call, role: str) -> BlobDataset:
    references = call.activity.definition.get(role) or []
    if len(references) != 1:
        raise FactoryError(f"Copy {call.activity.name!r} needs one of {role}")
    return read_dataset(call, references[0])


def _mappings(translator: dict[str, Any]) -> list[tuple[str | int, str]]:
    """Source column (name, or position from 0) and sink name of each mapped column; empty copies all as they are."""
    found: list[tuple[str | int, str]] = []
    for entry in translator.get("mappings") or []:
        source, sink = entry.get("source") or {}, entry.get("sink") or {}
        column = source.get("name") or source.get("path", "").strip("$[]'") or int(source.get("ordinal", 1)) - 1
        found.append((column, str(sink.get("name") or sink.get("path", "").strip("$[]'") or column)))
    return found


def _mapped(rows: list[dict[str, Any]], mapped: list[tuple[str | int, str]]) -> list[dict[str, Any]]:
    if not mapped:
        return rows
    return [
        {sink: list(row.values())[source] if isinstance(source, int) else row.get(source) for source, sink in mapped}
        for row in rows
    ]


def _storage(call: Call) -> Storage:
    storage = call.services.storage
    assert isinstance(storage, Storage)
    return storage


async def _files(call: Call, dataset: BlobDataset, role: str) -> list[BlobPath]:
    settings = call.property(role, {}) if role else {}
    store = settings.get("storeSettings") or call.property("storeSettings", {}) or {}
    recursive = call.property("recursive", store.get("recursive", True)) is not False
    return await asyncio.to_thread(
        _storage(call).files,
        dataset.path,
        recursive=recursive,
        folder_pattern=store.get("wildcardFolderPath"),
        file_pattern=store.get("wildcardFileName"),
        prefix=store.get("prefix"),
    )


async def _one_file(call: Call, dataset: BlobDataset, role: str) -> BlobPath:
    files = await _files(call, dataset, role)
    if not files:
        raise ActivityFailure(f"The required Blob is missing: {dataset.path}", code="2100")
    return files[0]
