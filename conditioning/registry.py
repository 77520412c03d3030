"""Source name -> its module, contract and column map; each is loaded on first use."""

from __future__ import annotations

import csv
import hashlib
import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from conditioning.contract import PROVENANCE, Contract, parse_contract
from conditioning.dialect import ColumnMap, Delimited, Mapped, SourceSpec
from conditioning.headers import identity_map
from conditioning.reading import Reading
from domain.errors import BadSetting, NotFound

FOLDER = Path(__file__).resolve().parent
STANDARD = "standard"  # every source also takes our own standard CSV: corrected rows come back this way
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # functions in a dialect print their memory address


@dataclass(frozen=True)
class Source:
    """All that conditioning knows of a source. `rules_version` changes with contract and column map."""

    spec: SourceSpec
    contract: Contract
    maps: Mapping[str, ColumnMap]
    rules_version: str


def source_names() -> list[str]:
    """Return every source that has a module, in order; nothing is imported."""
    return sorted(path.stem for path in (FOLDER / "sources").glob("*.py") if path.stem != "__init__")


def find_source(name: str) -> Source:
    """Return the source of that name; raise NotFound listing the valid ones."""
    names = source_names()
    if name not in names:
        raise NotFound(
            f"no source {name!r}; valid sources are {', '.join(names)}", field="source", value=name, valid=names
        )
    return _load(name)


@cache
def _load(name: str) -> Source:
    spec: SourceSpec = importlib.import_module(f"conditioning.sources.{name}").SOURCE
    spec = replace(spec, dialects=(*spec.dialects, Delimited(STANDARD)))
    contract_text = (FOLDER / "contracts" / f"{name}.json").read_text("utf-8")
    map_text = (FOLDER / "column_maps" / f"{name}.csv").read_text("utf-8")
    contract = parse_contract(json.loads(contract_text), name)
    maps = _maps(name, map_text, contract)
    maps[STANDARD] = {**identity_map(contract), **{column: Mapped("") for column in PROVENANCE}}
    lacking = [dialect.name for dialect in spec.dialects if dialect.name not in maps]
    if lacking:
        raise BadSetting(f"column_maps/{name}.csv maps nothing for dialects {lacking}", field="dialect")
    shared = _shared_tables(spec)
    digest = hashlib.sha256(
        "\n".join([contract_text, map_text, _ADDRESS.sub("", repr(spec)), *shared]).encode()
    ).hexdigest()[:12]
    return Source(spec, contract, maps, f"{contract.version}+{digest}")


def _shared_tables(spec: SourceSpec) -> list[str]:
    return [(FOLDER / "column_maps" / table).read_text("utf-8") for table in spec.tables]


def _maps(name: str, text: str, contract: Contract) -> dict[str, dict[str, Mapped]]:
    maps: dict[str, dict[str, Mapped]] = {}
    for number, row in enumerate(csv.DictReader(text.splitlines()), 2):
        column = row["column"].strip()
        if column and column not in contract.names:
            raise BadSetting(
                f"column_maps/{name}.csv, line {number}: {column!r} is no field of the contract",
                field="column",
                value=column,
            )
        values = dict(pair.split("=", 1) for pair in row["values"].split(";") if pair)
        reading = Reading(unit=row["unit"].strip(), format=row["format"].strip(), values=values)
        maps.setdefault(row["dialect"].strip(), {})[row["provider_column"]] = Mapped(column, reading)
    return maps
