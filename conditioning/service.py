"""Bring a source up to date: the one body behind blob events, Data Factory calls, the hourly sweep and operators."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from conditioning.registry import Source, find_source
from domain import lake_paths
from domain.errors import BadRequest, BlobConflict, BlobNotFound, NotFound, ShelfcastError
from domain.lake_paths import CONDITIONED, LANDING, LandingFile
from domain.ports import BlobInfo, Clock, Lake, Telemetry
from domain.sales_weeks import SalesWeek

if TYPE_CHECKING:
    from conditioning.conditioner import Judged
    from domain.scenario import Scenario

PARALLEL_FILES = 2  # files of different weeks at once: the storage's latency of one hides behind the work of the other
_COUNTS = ("records_read", "conditioned", "quarantined", "duplicates")


class HasCodeVersion(Protocol):
    """What conditioning needs of the settings."""

    @property
    def code_version(self) -> str:
        """Commit of the deployed code."""


class ConditioningServices(Protocol):
    """What conditioning needs of the world."""

    @property
    def lake(self) -> Lake:
        """The data lake."""

    @property
    def scenario(self) -> Scenario:
        """The business scenario."""

    @property
    def settings(self) -> HasCodeVersion:
        """The app's settings."""

    @property
    def telemetry(self) -> Telemetry:
        """Where events go."""

    @property
    def clock(self) -> Clock:
        """The time."""


@dataclass(frozen=True)
class ConditionRequest:
    """What to condition. Without `blob_path`: every week of the source up to and with `sales_week`."""

    source: str
    sales_week: SalesWeek
    correlation_id: str
    reason: str = ""
    blob_path: str = ""
    force: bool = False  # make this file's version current although a newer file's is, and read it again

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ConditionRequest:
        """Read and check a request; raise BadRequest naming field, value and remedy."""
        known = {"source", "sales_week", "correlation_id", "reason", "blob_path", "force"}
        unknown = sorted(set(data) - known)
        if unknown:
            raise BadRequest(
                f"unknown field {unknown[0]!r}; known fields are {', '.join(sorted(known))}",
                field=unknown[0],
                value=data[unknown[0]],
                remedy="remove it",
            )
        for name in ("source", "correlation_id", "reason", "blob_path"):
            if not isinstance(data.get(name, ""), str):
                raise BadRequest(
                    f"{name} must be text, not {data[name]!r}", field=name, value=data[name], remedy="send text"
                )
        if not isinstance(data.get("force", False), bool):
            raise BadRequest(
                f"force must be true or false, not {data['force']!r}",
                field="force",
                value=data["force"],
                remedy="send true or false",
            )
        blob_path = data.get("blob_path", "")
        if blob_path:
            landed = LandingFile.parse(blob_path)
            if data.get("source") not in ("", None, landed.source):
                raise BadRequest(
                    f"blob_path {blob_path!r} is not of source {data['source']!r}",
                    field="blob_path",
                    value=blob_path,
                    remedy=f"use landing/{data['source']}/YYYY-Www/FILE",
                )
            week = landed.sales_week
        else:
            week = SalesWeek.parse(data.get("sales_week", ""))
        if not re.fullmatch(r"[\x21-\x7e]{1,200}", data.get("correlation_id", "")):
            raise BadRequest(
                "correlation_id must be 1 to 200 printable characters without blanks",
                field="correlation_id",
                value=data.get("correlation_id", ""),
                remedy="leave it out or send an id",
            )
        return cls(
            data["source"], week, data["correlation_id"], data.get("reason", ""), blob_path, data.get("force", False)
        )


@dataclass(frozen=True)
class _Landed:
    """A raw file in the landing zone."""

    file: LandingFile
    info: BlobInfo


def condition_source(services: ConditioningServices, request: ConditionRequest) -> dict[str, Any]:
    """Condition what is not conditioned yet; safe to repeat, in any order, by several callers at once.

    Raise NotFound for an unknown source or blob; Unavailable or Throttled (a retry helps) when storage fails.
    """
    source = find_source(request.source)
    if request.blob_path:
        landed = LandingFile.parse(request.blob_path)
        info = services.lake.info(LANDING, landed.path)
        if info is None:
            raise NotFound(
                f"landing/{landed.path} does not exist",
                field="blob_path",
                value=request.blob_path,
                remedy="upload it first",
            )
        wanted = [_Landed(landed, info)]
    else:
        wanted = newest_by_week(services.lake, request.source, request.sales_week)
    known = {} if request.force else _known(services.lake, source, wanted)
    todo = [item for item in wanted if (item.file.name, item.info.etag) not in known]
    unchanged = [known[item.file.name, item.info.etag] for item in wanted if (item.file.name, item.info.etag) in known]
    documents = _condition_all(services, source, todo, request)
    return _answer(request, wanted, documents, unchanged)


def newest_by_week(lake: Lake, source: str, through: SalesWeek) -> list[_Landed]:
    """Return the newest raw file of each week up to `through`, oldest week first: it supersedes the others."""
    newest: dict[SalesWeek, _Landed] = {}
    for info in lake.list(LANDING, f"{source}/"):
        try:
            landed = LandingFile.parse(info.path)
        except BadRequest:
            continue  # not where a source may write; `quality` reports it
        best = newest.get(landed.sales_week)
        if landed.sales_week <= through and (
            best is None or (info.last_modified, info.path) > (best.info.last_modified, best.info.path)
        ):
            newest[landed.sales_week] = _Landed(landed, info)
    return [newest[week] for week in sorted(newest)]


def _known(lake: Lake, source: Source, wanted: Sequence[_Landed]) -> dict[tuple[str, str], BlobInfo]:
    """Return the outcomes that exist under the present rules, by (file name, ETag)."""
    if not wanted:
        return {}
    only = wanted[0].file
    prefix = lake_paths.week_folder(only.source, only.sales_week) if len(wanted) == 1 else f"{only.source}/"
    outcomes: dict[tuple[str, str], BlobInfo] = {}
    settled: dict[str, str] = {}
    for info in lake.list(CONDITIONED, prefix):
        if info.path.endswith("/current.json"):
            settled[info.path.split("/")[1]] = info.metadata.get("settled_through", "")
        elif info.path.endswith(".manifest.json") and info.metadata.get("rules_version") == source.rules_version:
            outcomes[info.metadata["source_file"], info.metadata["source_etag"]] = info
    done = _settled(wanted, settled)
    return {key: info for key, info in outcomes.items() if info.metadata["status"] == "rejected" or key in done}


def _settled(wanted: Sequence[_Landed], settled: Mapping[str, str]) -> set[tuple[str, str]]:
    """Return the files that their week's pointer takes into account; a kill may have come just before the switch."""
    from conditioning.publish import settled_key

    return {
        (item.file.name, item.info.etag)
        for item in wanted
        if settled.get(str(item.file.sales_week), "") >= settled_key(item.info)
    }


def _condition_all(
    services: ConditioningServices, source: Source, todo: Sequence[_Landed], request: ConditionRequest
) -> list[tuple[dict[str, Any], bool]]:
    """Condition every file; one that fails does not stop the others, its error is raised when all are done."""
    errors: list[BaseException] = []

    def one(item: _Landed) -> tuple[dict[str, Any], bool] | None:
        try:
            return _condition_file(services, source, item, request)
        except Exception as error:
            errors.append(error)
            return None

    if len(todo) < 2:
        found = [one(item) for item in todo]
    else:
        with ThreadPoolExecutor(PARALLEL_FILES) as pool:
            found = list(pool.map(one, todo))
    if errors:
        raise next((error for error in errors if not isinstance(error, ShelfcastError)), errors[0])
    return [item for item in found if item is not None]


def _condition_file(
    services: ConditioningServices, source: Source, item: _Landed, request: ConditionRequest
) -> tuple[dict[str, Any], bool]:
    from conditioning.poison import note_failure

    try:
        return _condition_version(services, source, item, request)
    except BlobConflict:  # replaced while it was read: the newer bytes are the ones to condition
        info = services.lake.info(LANDING, item.file.path)
        if info is None or info.etag == item.info.etag:
            raise
        return _condition_version(services, source, _Landed(item.file, info), request)
    except ShelfcastError:
        raise
    except Exception as error:
        document = note_failure(services, source, item.file, item.info, error, request.correlation_id)
        if document is None:
            raise
        return document, True


def _condition_version(
    services: ConditioningServices, source: Source, item: _Landed, request: ConditionRequest
) -> tuple[dict[str, Any], bool]:
    from conditioning.publish import LakeScratch, publish, switch_pointer

    lake, clock = services.lake, services.clock
    started = clock.now()
    reader = lake.open_reader(LANDING, item.file.path, etag=item.info.etag)
    judged: Judged | None = None
    try:
        judged = judge(reader, source, item.file, services.scenario.history_start, scratch=lambda: LakeScratch(lake))
        document, fresh = publish(
            lake,
            source,
            item.file,
            item.info,
            judged,
            started=started,
            now=clock.now,
            correlation_id=request.correlation_id,
            reason=request.reason,
            code_version=services.settings.code_version,
            parent=_parent(request.reason),
        )
    finally:
        reader.close()
        if judged is not None:
            judged.discard()
    switch_pointer(lake, document, item.info, clock.now(), force=request.force)
    if fresh:
        _report(services, document, started, clock.now())
    return document, fresh


def judge(
    reader: Any, source: Source, landed: LandingFile, history_start: SalesWeek, *, scratch: Callable[[], Any]
) -> Judged:
    """Read one raw file under its source's rules and judge it."""
    from conditioning.conditioner import condition
    from conditioning.dialect import ReadContext
    from conditioning.open_table import OpenRequest
    from conditioning.raw_input import Limits
    from conditioning.reading import WeekBounds

    first, last = landed.sales_week.monday.isoformat(), landed.sales_week.sunday.isoformat()
    opening = OpenRequest(
        landed.name,
        source.contract,
        source.spec.dialects,
        source.maps,
        ReadContext(landed.name, Limits(), first, last),
        encoding=source.contract.encoding,
    )
    return condition(reader, opening, bounds=WeekBounds(first, last, history_start.monday.isoformat()), scratch=scratch)


def _parent(reason: str) -> str:
    return reason.removeprefix("redrive of ").partition(":")[0] if reason.startswith("redrive of ") else ""


def _report(services: ConditioningServices, document: dict[str, Any], started: datetime, ended: datetime) -> None:
    counts = document["counts"]
    services.telemetry.event(
        "source_conditioned",
        {
            **{
                key: document[key]
                for key in ("source", "sales_week", "status", "data_version", "contract_version", "correlation_id")
            },
            "source_file": document["input"]["path"],
            "message": document.get("error", {}).get("message", ""),
            "schema_changed": str(any("unknown columns" in warning for warning in document["warnings"])).lower(),
        },
        {
            "rows": float(counts["records_read"]),
            **{name: float(counts[name]) for name in _COUNTS[1:]},
            "seconds": (ended - started).total_seconds(),
            "bytes": float(document["input"]["bytes"]),
        },
    )


def _answer(
    request: ConditionRequest,
    wanted: Sequence[_Landed],
    documents: Sequence[tuple[dict[str, Any], bool]],
    unchanged: Sequence[BlobInfo],
) -> dict[str, Any]:
    from conditioning.outcome import clipped

    latest = str(wanted[-1].file.sales_week) if wanted else ""
    statuses = {document["sales_week"]: document["status"] for document, _ in documents}
    if not wanted:
        status = "absent"
    elif not documents:
        status = "unchanged"
    elif statuses.get(latest) == "rejected":
        status = "rejected"
    else:
        status = "accepted" if set(statuses.values()) == {"accepted"} else "partial"
    counts = _summed(document["counts"] for document, _ in documents)
    if not documents and unchanged:
        counts = _summed([{name: int(info.metadata.get(name, 0)) for name in _COUNTS} for info in unchanged])
    return {
        "source": request.source,
        "sales_week": str(request.sales_week),
        "status": status,
        "latest_week": latest,
        "conditioned_files": sum(document["status"] != "rejected" for document, _ in documents),
        "unchanged_files": len(unchanged),
        "rejected_files": sum(document["status"] == "rejected" for document, _ in documents),
        "counts": counts,
        "files": [clipped(document) for document, _ in documents],
        "correlation_id": request.correlation_id,
    }


def _summed(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = dict.fromkeys(_COUNTS, 0)
    reasons: dict[str, int] = {}
    for part in parts:
        for name in _COUNTS:
            total[name] += part[name]
        for code, number in part.get("by_reason", {}).items():
            reasons[code] = reasons.get(code, 0) + number
    return {**total, "by_reason": dict(sorted(reasons.items()))}


def current_pointer(lake: Lake, source: str, week: SalesWeek) -> dict[str, Any] | None:
    """Return the pointer document of a week, None if nothing was conditioned for it."""
    try:
        return dict(lake.read_json(CONDITIONED, lake_paths.conditioned_current(source, week))[0])
    except BlobNotFound:
        return None
