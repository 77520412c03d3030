"""The result views as CSV files, so that the Power BI project opens with data and without a database.

    python -m dashboard.powerbi_sample --results .data/complete_journey/local/results.sqlite

The project's parameter `Source` says `csv` for these files, `sql` for Azure SQL; both give the same columns.
"""

from __future__ import annotations

import argparse
import csv
import sqlite3
import sys
from pathlib import Path

VIEWS = ("runs", "run_steps", "current_model_metrics", "current_forecasts", "current_quality", "current_drift",
         "current_realised", "costs")
FLAGS = frozenset(("accepted", "failover", "stale", "meets_mission", "breached"))  # SQLite keeps them as 0 and 1
OUT = Path(__file__).resolve().parent / "powerbi" / "sample"


def export(results: Path, out: Path) -> dict[str, int]:
    """Write one CSV a view and return the rows of each; raise FileNotFoundError or sqlite3.Error if there is none."""
    if not results.is_file():
        raise FileNotFoundError(f"there is no results database at {results}; a finished run writes it")
    out.mkdir(parents=True, exist_ok=True)
    counts = {}
    connection = sqlite3.connect(f"file:{results}?mode=ro", uri=True)
    try:
        for view in VIEWS:
            cursor = connection.execute(f"SELECT * FROM {view} ORDER BY 1, 2, 3")  # noqa: S608 (names are ours)
            columns = [column[0] for column in cursor.description]
            rows = [[_text(name, value) for name, value in zip(columns, row, strict=True)] for row in cursor]
            with (out / f"{view}.csv").open("w", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([columns, *rows])
            counts[view] = len(rows)
    finally:
        connection.close()
    return counts


def _text(column: str, value: object) -> str:
    if value is None:
        return ""
    if column in FLAGS:
        return "true" if value else "false"
    return str(value)


def main() -> int:
    """Export and say how many rows each view has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="results.sqlite in the app's DATA_DIR")
    parser.add_argument("--out", type=Path, default=OUT)
    wanted = parser.parse_args()
    try:
        counts = export(wanted.results, wanted.out)
    except (OSError, sqlite3.Error) as error:
        sys.stderr.write(f"nothing was exported: {error}\n")
        return 1
    for view, rows in counts.items():
        sys.stdout.write(f"{wanted.out / view}.csv: {rows} rows\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
