"""What conditioning's tests share: services on a real lake, and one call to condition some bytes under a contract."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import bootstrap
from adapters.lake import BlobLake
from conditioning.contract import parse_contract
from conditioning.local_run import condition_file, rules_of_contract
from domain.scenario import Scenario

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "samples" / "local_testing" / "data"


@dataclass
class TickingClock:
    """Moves one second at each look."""

    moment: datetime = datetime(2017, 11, 13, 6, tzinfo=UTC)

    def now(self) -> datetime:
        self.moment += timedelta(seconds=1)
        return self.moment


@dataclass
class HeardTelemetry:
    """Keeps what was said."""

    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def event(self, name: str, dimensions: dict[str, Any], measures: dict[str, float] | None = None) -> None:
        self.events.append((name, {**dimensions, **(measures or {})}))

    def exception(self, error: BaseException, dimensions: dict[str, Any]) -> None:
        self.errors.append(error)

    def flush(self, seconds: float = 5.0) -> bool:
        return True


@dataclass(frozen=True)
class CodeVersion:
    code_version: str = "test"


@dataclass
class Services:
    lake: BlobLake
    scenario: Scenario
    settings: CodeVersion
    telemetry: HeardTelemetry
    clock: TickingClock
    audit = bootstrap.Services.audit


@pytest.fixture
def services(lake: BlobLake) -> Services:
    scenario = Scenario.from_dict(json.loads((ROOT / "config" / "scenario.json").read_text()))
    return Services(lake, scenario, CodeVersion(), HeardTelemetry(), TickingClock())


@dataclass(frozen=True)
class Outcome:
    document: dict[str, Any]
    folder: Path

    @property
    def status(self) -> str:
        return str(self.document["status"])

    def lines(self, name: str = "data.csv") -> list[str]:
        return (self.folder / name).read_text("utf-8").splitlines()

    def rows(self) -> list[list[str]]:
        """The rule columns of the data."""
        import csv

        return [row[:-2] for row in csv.reader(self.lines()[1:])]

    def codes(self) -> dict[str, int]:
        return dict(self.document["counts"]["by_reason"])

    @property
    def error(self) -> dict[str, Any]:
        return dict(self.document["error"])


Conditioning = Callable[..., Outcome]

ORDERS = {
    "name": "orders",
    "fields": [
        {"name": "id", "type": "string", "constraints": {"required": True}},
        {"name": "day", "type": "date"},
        {"name": "amount", "type": "number"},
        {"name": "note", "type": "string"},
    ],
    "primaryKey": ["id"],
}


@pytest.fixture
def conditioned(tmp_path: Path) -> Conditioning:
    """Condition bytes under a contract (orders unless given) into a folder of their own."""
    calls = iter(range(10**6))

    def run(raw: bytes, contract: dict[str, Any] | None = None, name: str = "orders.csv", **options: Any) -> Outcome:
        number = next(calls)
        folder = tmp_path / f"{number}"
        folder.mkdir()
        path = folder / name
        path.write_bytes(raw)
        document = condition_file(
            path, rules_of_contract(parse_contract(contract or ORDERS)), folder / "out", **options
        )
        counts = document["counts"]
        assert counts["records_read"] == counts["conditioned"] + counts["quarantined"] + counts["duplicates"]
        assert not any(item.name.startswith(".") for item in (folder / "out").iterdir())
        return Outcome(document, folder / "out")

    return run
