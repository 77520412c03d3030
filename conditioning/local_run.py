"""Condition one local file with the engine of the functions; what the command line does."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from conditioning.conditioner import Judged, check_invariant, condition, data_version, verdict
from conditioning.contract import Contract
from conditioning.dialect import ColumnMap, Delimited, Dialect, FixedWidth, ReadContext, Sheet
from conditioning.headers import identity_map
from conditioning.lineage import run_events
from conditioning.open_table import OpenRequest
from conditioning.outcome import outcome_document
from conditioning.raw_input import Limits
from conditioning.reading import WeekBounds
from conditioning.registry import Source
from domain.errors import BadRequest
from domain.sales_weeks import SalesWeek

DATA, QUARANTINE, DUPLICATES, MANIFEST, LINEAGE = (
    "data.csv",
    "quarantine.csv",
    "duplicates.csv",
    "manifest.json",
    "openlineage.jsonl",
)


@dataclass(frozen=True)
class Rules:
    """Under which rules a local file is read."""

    contract: Contract
    dialects: tuple[Dialect, ...]
    maps: Mapping[str, ColumnMap]
    rules_version: str


def rules_of_source(source: Source) -> Rules:
    """Return the rules of one of our sources."""
    return Rules(source.contract, source.spec.dialects, source.maps, source.rules_version)


def rules_of_contract(contract: Contract) -> Rules:
    """Return the rules of any Table Schema: its dialect if it has one, else delimited text is sniffed."""
    dialects = _dialects(contract)
    columns = identity_map(contract)
    version = f"{contract.version}+{contract.digest[:12]}"
    return Rules(contract, dialects, {dialect.name: columns for dialect in dialects}, version)


def _dialects(contract: Contract) -> tuple[Dialect, ...]:
    declared = contract.dialect or {}
    number = declared.get("sheetNumber", 0)
    if not isinstance(number, int) or number < 0:
        raise BadRequest(
            f"dialect.sheetNumber {number!r} must be a whole number from 1", field="dialect.sheetNumber", value=number
        )
    sheet = Sheet("workbook", sheet=str(declared.get("sheetName", "")), number=number)
    positions = declared.get("columns")
    if isinstance(positions, list):
        try:
            columns = tuple((str(item["name"]), int(item["start"]), int(item["end"])) for item in positions)
        except (KeyError, TypeError, ValueError) as error:
            raise BadRequest(
                "dialect.columns must be a list of {name, start, end}, 1-based and inclusive", field="dialect.columns"
            ) from error
        return FixedWidth("fixed width", columns, fits=".*"), sheet
    for name in ("delimiter", "quoteChar", "escapeChar", "commentChar"):
        mark = declared.get(name)
        if mark not in (None, False, "") and (not isinstance(mark, str) or len(mark) != 1 or not mark.isascii()):
            raise BadRequest(
                f"dialect.{name} {mark!r} must be one ASCII character", field=f"dialect.{name}", value=mark
            )
    described = any(name in declared for name in ("delimiter", "quoteChar", "header"))
    text = Delimited(
        "declared" if described else "sniffed",
        delimiter=str(declared.get("delimiter", "," if described else "")),
        quote=str(declared.get("quoteChar", '"') or ""),
        columns=tuple(contract.names) if declared.get("header") is False else (),
        escape=str(declared.get("escapeChar") or ""),
        comment=str(declared.get("commentChar") or ""),
        skip_initial_space=bool(declared.get("skipInitialSpace", False)),
        sniffed=not described,
        encoding=contract.encoding,
    )
    return text, sheet


def condition_file(
    path: Path,
    rules: Rules,
    out: Path,
    *,
    week: SalesWeek | None = None,
    history_start: str = "",
    code_version: str = "",
    block_bytes: int | None = None,
) -> dict[str, Any]:
    """Condition a file into a folder and return the outcome document.

    Files appear in the folder only when they are whole, the manifest last. Raise BadRequest if the file or the folder
    cannot be used; every fault of the file's content is in the outcome.
    """
    started = datetime.now(UTC)
    try:
        out.mkdir(parents=True, exist_ok=True)
        stream = path.open("rb")
    except OSError as error:
        raise BadRequest(f"{error.filename}: {error.strerror}", field="file", value=str(error.filename)) from error
    first, last = (week.monday.isoformat(), week.sunday.isoformat()) if week else ("", "")
    request = OpenRequest(
        path.name,
        rules.contract,
        rules.dialects,
        rules.maps,
        ReadContext(path.name, Limits(), first, last),
        rules.contract.encoding,
        **({"block_bytes": block_bytes} if block_bytes else {}),
    )
    with stream, tempfile.TemporaryDirectory(prefix=".conditioning-", dir=out) as folder:
        judged = condition(stream, request, bounds=WeekBounds(first, last, history_start))
        try:
            outputs = _write(judged, Path(folder))
        finally:
            judged.discard()
        check_invariant(judged)
        document = outcome_document(
            judged,
            source=rules.contract.name,
            week=week,
            status=verdict(judged),
            version=data_version(judged.sha256, rules.contract.name, rules.rules_version),
            contract_version=rules.contract.version,
            code_version=code_version,
            path=str(path),
            info=None,
            outputs=outputs,
            started=started,
            ended=datetime.now(UTC),
            correlation_id="",
            reason="command line",
        )
        fields = [(item.name, item.type) for item in rules.contract.fields]
        (Path(folder) / LINEAGE).write_bytes(run_events(document, fields))
        manifest = json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
        (Path(folder) / MANIFEST).write_bytes(manifest.encode("utf-8", "backslashreplace"))
        for name in (QUARANTINE, DUPLICATES, DATA, LINEAGE, MANIFEST):
            made = Path(folder) / name
            if made.exists():
                made.replace(out / name)
            else:
                (out / name).unlink(missing_ok=True)  # of an earlier call: it is not this file's
    return document


class _Hashed:
    """A file being written, with its hash and size."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.sha256 = hashlib.sha256()
        self._file: IO[bytes] = path.open("wb")

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self.sha256.update(data)
        self._file.write(data)

    def close(self) -> None:
        self._file.close()


def _write(judged: Judged, folder: Path) -> dict[str, Any]:
    outputs: dict[str, Any] = {
        "data": None,
        "quarantine": {"path": QUARANTINE, "rows": 0},
        "duplicates": {"path": DUPLICATES, "rows": 0},
    }
    table = judged.table
    quarantine = _Hashed(folder / QUARANTINE)
    if table is not None:
        outputs["quarantine"]["rows"] = table.write_quarantine(quarantine.write)
    quarantine.close()
    if table is None or judged.refused is not None:
        return outputs
    data, duplicates = _Hashed(folder / DATA), _Hashed(folder / DUPLICATES)
    table.finish(data.write, duplicates.write)
    data.close()
    duplicates.close()
    outputs["duplicates"]["rows"] = table.counts.duplicates
    outputs["data"] = {
        "path": DATA,
        "sha256": data.sha256.hexdigest(),
        "content_hash": table.content_hash(),
        "rows": table.rows,
        "bytes": data.size,
    }
    return outputs
