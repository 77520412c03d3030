"""The alert rules on this machine: each .kql of infra/alerts over the local telemetry log.

    python -m dashboard.alert_check --telemetry .data/complete_journey/local/telemetry.jsonl

The same text that Azure Monitor runs is run by DuckDB, so a rule can be seen firing, and staying quiet, before it is
deployed. Exit code 1 when any rule fires, 2 when one cannot be run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ALERTS = Path(__file__).resolve().parent.parent / "infra" / "alerts"
Row = Mapping[str, Any]

# The columns of Application Insights' tables that rules read, with DuckDB's types.
TABLES: Mapping[str, Mapping[str, str]] = {
    "customEvents": {
        "timestamp": "TIMESTAMP", "name": "VARCHAR", "customDimensions": "JSON", "customMeasurements": "JSON",
        "operation_Id": "VARCHAR", "cloud_RoleInstance": "VARCHAR",
    },
    "traces": {
        "timestamp": "TIMESTAMP", "message": "VARCHAR", "severityLevel": "INTEGER", "cloud_RoleInstance": "VARCHAR",
    },
    "requests": {
        "timestamp": "TIMESTAMP", "operation_Name": "VARCHAR", "resultCode": "VARCHAR", "success": "VARCHAR",
    },
}


@dataclass(frozen=True)
class Fired:
    """One rule that found something: its title, severity (1 is worst) and the rows of its query."""

    rule: str
    title: str
    severity: int
    rows: tuple[Row, ...]


def rules() -> dict[str, dict[str, Any]]:
    """Return the rules' settings by name; each has a .kql file of that name."""
    return dict(json.loads((ALERTS / "rules.json").read_text("utf-8")))


def check(tables: Mapping[str, Iterable[Row]], now: datetime) -> list[Fired]:
    """Run every rule over the rows as if it were `now`, and return those that fire, the worst first."""
    import duckdb
    import duckdb_kql

    moment = now.astimezone(UTC).replace(tzinfo=None)
    connection = duckdb.connect()
    try:
        for name, columns in TABLES.items():
            connection.execute(f'CREATE TABLE {name} ({", ".join(f"{c} {kind}" for c, kind in columns.items())})')
            marks = ", ".join("?" * len(columns))
            rows = [[_value(row.get(column)) for column in columns] for row in tables.get(name, ())]
            if rows:
                connection.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)  # noqa: S608 (names are ours)
        found = []
        for name, rule in rules().items():
            answer = duckdb_kql.kql(connection, (ALERTS / f"{name}.kql").read_text("utf-8"), query_now=moment)
            rows_found = tuple(dict(zip(answer.columns, row, strict=True)) for row in answer.fetchall())
            if rows_found:
                found.append(Fired(name, rule["title"], int(rule["severity"]), rows_found))
    finally:
        connection.close()
    return sorted(found, key=lambda one: (one.severity, one.rule))


def read_log(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the local telemetry log as Application Insights' rows; a torn last line is left out."""
    events: list[dict[str, Any]] = []
    for line in path.read_text("utf-8").splitlines():
        try:
            item = json.loads(line)
        except ValueError:
            continue
        if item["kind"] == "event":
            events.append({
                "timestamp": item["time"], "name": item["name"], "customDimensions": item["dimensions"],
                "customMeasurements": item["measures"], "operation_Id": item["operation_id"],
            })
    return {"customEvents": events}


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return json.dumps(value)
    if isinstance(value, str) and value.endswith("Z"):
        return value[:-1]
    return value


def main() -> int:
    """Check a telemetry log and say what fires."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--telemetry", type=Path, required=True, help="the local log, telemetry.jsonl in DATA_DIR")
    parser.add_argument("--now", type=datetime.fromisoformat, default=None, help="look as of this time (ISO 8601)")
    wanted = parser.parse_args()
    try:
        tables = read_log(wanted.telemetry)
    except OSError as error:
        sys.stderr.write(f"the telemetry log cannot be read: {error}\n")
        return 2
    fired = check(tables, wanted.now or datetime.now(UTC))
    for one in fired:
        sys.stdout.write(f"severity {one.severity}  {one.title} ({one.rule})\n")
        for row in one.rows:
            sys.stdout.write("    " + ", ".join(f"{key} {value}" for key, value in row.items()) + "\n")
    sys.stdout.write(f"{len(fired)} of {len(rules())} rules fire\n")
    return 1 if fired else 0


if __name__ == "__main__":
    sys.exit(main())
