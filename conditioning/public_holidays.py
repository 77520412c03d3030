"""Public holidays as a raw file of special events: `python -m conditioning.public_holidays --years 2017 --out FILE`.

The list of holidays changes between releases of the package `holidays`; its version is part of each event id, so that
a conditioned file says which list it came from.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

COLUMNS = ("event_id", "name", "kind", "start_date", "end_date", "region")


def holiday_rows(country: str, years: Sequence[int], regions: dict[str, str]) -> list[dict[str, str]]:
    """Return an event a holiday; `regions` maps sales regions to subdivisions (states), empty means everywhere."""
    from importlib.metadata import version

    import holidays

    release = version("holidays")

    rows = []
    for region, subdivision in (regions or {"": ""}).items():
        calendar = holidays.country_holidays(country, subdiv=subdivision or None, years=list(years))
        for day, name in sorted(calendar.items()):
            rows.append(
                {
                    "event_id": f"{country}-{subdivision or 'all'}-{day}-{region or 'all'}-v{release}",
                    "name": name.replace("; ", " / "),
                    "kind": "public_holiday",
                    "start_date": day.isoformat(),
                    "end_date": day.isoformat(),
                    "region": region,
                }
            )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m conditioning.public_holidays", description=__doc__)
    parser.add_argument("--country", default="US", help="ISO country code")
    parser.add_argument("--years", required=True, help="comma-separated years")
    parser.add_argument(
        "--region", action="append", default=[], help="REGION=SUBDIVISION, e.g. r01=NY; may be repeated"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="file to write; drop it at landing/special_events/WEEK/"
    )
    arguments = parser.parse_args(argv)
    regions = dict(pair.split("=", 1) for pair in arguments.region)
    with arguments.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(holiday_rows(arguments.country, [int(year) for year in arguments.years.split(",")], regions))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
