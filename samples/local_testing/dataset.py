"""The whole local testing data set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from samples.local_testing.faults import Dropped
from samples.local_testing.references import promotion_drops, reference_drops
from samples.local_testing.shipments import delivery_drops, return_drops
from samples.local_testing.weather_files import forecast_drops, history_drops, stations_csv

DATA = Path(__file__).parent / "data"


def drops() -> list[Dropped]:
    """Return every file of the data set."""
    return [
        *reference_drops(),
        *delivery_drops(),
        *return_drops(),
        *promotion_drops(),
        *history_drops(),
        *forecast_drops(),
    ]


def write(out: Path) -> list[Dropped]:
    """Write the files, the station list and `expected.json` (records and faults a file) to `out`; old files go."""
    found = drops()
    for source in {dropped.raw.source for dropped in found}:
        shutil.rmtree(out / source, ignore_errors=True)
    for dropped in found:
        dropped.raw.write(out)
    (out / "stations.csv").write_bytes(stations_csv())
    (out / "expected.json").write_bytes(expected_json(found))
    return found


def expected_json(found: list[Dropped]) -> bytes:
    """Return {source: {sales_week: {file, records, faults}}}, one line a file."""
    by_source: dict[str, dict[str, Dropped]] = {}
    for dropped in found:
        by_source.setdefault(dropped.raw.source, {})[dropped.raw.sales_week] = dropped
    parts = []
    for source, weeks in sorted(by_source.items()):
        lines = [f"    {json.dumps(week)}: {json.dumps(dropped.expected())}" for week, dropped in sorted(weeks.items())]
        parts.append(f"  {json.dumps(source)}: {{\n" + ",\n".join(lines) + "\n  }")
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()
