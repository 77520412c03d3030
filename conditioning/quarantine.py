"""Browse quarantined records, and drive them again once the rule or the record is mended."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conditioning.contract import PROVENANCE
from conditioning.registry import Source, find_source
from domain import lake_paths
from domain.errors import BadRequest, BlobNotFound, NotFound
from domain.lake_paths import CONDITIONED, LANDING, QUARANTINE
from domain.sales_weeks import SalesWeek

if TYPE_CHECKING:
    from conditioning.service import ConditioningServices

MOST_CORRECTIONS = 5_000
LONGEST_REASON = 500


def quarantined_rows(
    services: ConditioningServices,
    source: str,
    week: SalesWeek | None,
    limit: int,
    offset: int,
    kind: str = "quarantine",
) -> dict[str, Any]:
    """Return a page of quarantined records (or of duplicates) of a week, or of all weeks, newest week first."""
    find_source(source)
    lake = services.lake
    prefix = lake_paths.week_folder(source, week) if week else f"{source}/"
    current = {
        info.path.rsplit("/", 1)[0]: info.metadata.get("data_version", "")
        for info in lake.list(CONDITIONED, prefix)
        if info.path.endswith("/current.json")
    }
    wanted = ".duplicates.csv" if kind == "duplicates" else ".csv"
    files = [
        info
        for info in lake.list(QUARANTINE, prefix)
        if info.path.endswith(wanted)
        and (kind == "duplicates") == info.path.endswith(".duplicates.csv")
        and info.path.count("/") == 2
    ]
    newest: dict[str, Any] = {}
    for info in files:  # of each week: the current version's list, or the newest one where the week was refused
        folder = info.path.rsplit("/", 1)[0]
        is_current = info.path.rsplit("/", 1)[1].split(".")[0] == current.get(folder)
        if folder not in newest or (is_current, info.last_modified) > newest[folder][0]:
            newest[folder] = ((is_current, info.last_modified), info)
    rows: list[dict[str, Any]] = []
    total = 0
    for folder in sorted(newest, reverse=True):
        info = newest[folder][1]
        text = lake.read(QUARANTINE, info.path).data.decode()
        for row in csv.DictReader(io.StringIO(text)):
            if offset <= total < offset + limit:
                name = info.path.rsplit("/", 1)[1].split(".")[0]
                rows.append(
                    {
                        "sales_week": folder.split("/")[1],
                        "data_version": name,
                        **row,
                        "source_row": int(row["source_row"]),
                    }
                )
            total += 1
    return {
        "source": source,
        "sales_week": str(week) if week else "",
        "total": total,
        "limit": limit,
        "offset": offset,
        "rows": rows,
    }


@dataclass(frozen=True)
class RedriveRequest:
    """Condition a week's file again; `rows` are corrected records in the standard columns, added to what is current."""

    source: str
    sales_week: SalesWeek
    correlation_id: str
    rows: tuple[dict[str, str], ...] = ()
    remove_rows: tuple[int, ...] = ()  # source_row of current rows that the corrected ones replace
    reason: str = ""  # why the operator asks

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RedriveRequest:
        """Read and check a request; raise BadRequest naming field, value and remedy."""
        unknown = sorted(set(data) - {"source", "sales_week", "correlation_id", "rows", "remove_rows", "reason"})
        if unknown:
            raise BadRequest(
                f"unknown field {unknown[0]!r}; known are sales_week, rows, remove_rows, reason, correlation_id",
                field=unknown[0],
                value=data[unknown[0]],
                remedy="remove it",
            )
        source = find_source(str(data.get("source", "")))
        rows = data.get("rows", [])
        if not isinstance(rows, list) or len(rows) > MOST_CORRECTIONS or not all(isinstance(row, dict) for row in rows):
            raise BadRequest(
                f"rows must be a list of at most {MOST_CORRECTIONS} objects",
                field="rows",
                remedy="send [{column: value}]",
            )
        for number, row in enumerate(rows):
            wrong = sorted(set(row) - set(source.contract.names))
            if wrong:
                raise BadRequest(
                    f"rows[{number}]: {wrong[0]!r} is no column of {source.contract.name}; columns are "
                    f"{', '.join(source.contract.names)}",
                    field=f"rows[{number}].{wrong[0]}",
                    value=row[wrong[0]],
                )
        remove = data.get("remove_rows", [])
        if not isinstance(remove, list) or not all(
            isinstance(item, int) and not isinstance(item, bool) for item in remove
        ):
            raise BadRequest("remove_rows must be a list of source_row numbers", field="remove_rows", value=remove)
        reason = data.get("reason") or ""
        if not isinstance(reason, str) or len(reason) > LONGEST_REASON:
            raise BadRequest(
                f"reason must be text of at most {LONGEST_REASON} characters", field="reason", remedy="say why, shortly"
            )
        texts = tuple({name: "" if value is None else str(value) for name, value in row.items()} for row in rows)
        return cls(
            source.contract.name,
            SalesWeek.parse(data.get("sales_week", "")),
            str(data.get("correlation_id", "")),
            texts,
            tuple(remove),
            reason.strip(),
        )


def redrive(services: ConditioningServices, request: RedriveRequest) -> dict[str, Any]:
    """Condition a week again: the raw file under today's rules, or the current data with corrected records.

    Corrections become a raw file of their own in landing (standard columns, named by the version they mend), so that
    they pass the same rules and leave the same trail as any delivery.
    """
    from conditioning.service import ConditionRequest, condition_source, newest_by_week

    source = find_source(request.source)
    if not request.rows and not request.remove_rows:
        landed = [
            item
            for item in newest_by_week(services.lake, request.source, request.sales_week)
            if item.file.sales_week == request.sales_week
        ]
        if not landed:
            raise NotFound(
                f"no raw file of {request.source} for {request.sales_week}",
                field="sales_week",
                value=str(request.sales_week),
            )
        path, reason = landed[0].file.path, "redrive"
    else:
        path, parent = _corrected_file(services, source, request)
        reason = f"redrive of {parent}"
    return condition_source(
        services,
        ConditionRequest(
            request.source,
            request.sales_week,
            request.correlation_id,
            f"{reason}: {request.reason}" if request.reason else reason,
            path,
            force=True,
        ),
    )


def _corrected_file(services: ConditioningServices, source: Source, request: RedriveRequest) -> tuple[str, str]:
    from conditioning.service import current_pointer

    lake = services.lake
    pointer = current_pointer(lake, request.source, request.sales_week)
    if pointer is None:
        raise NotFound(
            f"{request.source} has no data for {request.sales_week} that could be corrected",
            field="sales_week",
            value=str(request.sales_week),
            remedy="deliver a corrected file instead",
        )
    try:
        text = lake.read(CONDITIONED, pointer["data_path"]).data.decode()
    except BlobNotFound as error:
        raise NotFound(f"the current data {pointer['data_path']} is gone", field="sales_week") from error
    kept = [row for row in csv.DictReader(io.StringIO(text)) if int(row["source_row"]) not in set(request.remove_rows)]
    columns = [*source.contract.names, *PROVENANCE]
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(kept)
    writer.writerows([{**row, "source_file": "corrected"} for row in request.rows])
    path = f"{request.source}/{request.sales_week}/redrive-of-{pointer['data_version']}.csv"
    lake.write(LANDING, path, out.getvalue().encode())
    return path, str(pointer["data_version"])
