"""`python -m samples.complete_journey --out DIR`: write the raw drops of the Complete Journey."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from domain.errors import ShelfcastError
from samples.complete_journey.drops import parse_weeks, raw_drops


def main(arguments: list[str] | None = None) -> int:
    """Write the files, print one line a source; return 0, or 2 where the call was wrong."""
    parser = argparse.ArgumentParser(prog="python -m samples.complete_journey", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write DIR/{source}/{sales_week}/{file} to")
    parser.add_argument("--weeks", default="2017-W01..2017-W52", help="first..last sales week (default: the year)")
    parser.add_argument("--ahead", type=int, default=1, help="weeks of planned promotions after the last (default 1)")
    options = parser.parse_args(arguments)
    files: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    try:
        first, last = parse_weeks(options.weeks)
        for raw in raw_drops(first, last, max(options.ahead, 0)):
            raw.write(options.out)
            files[raw.source] += 1
            sizes[raw.source] += len(raw.data)
    except (ShelfcastError, OSError) as error:
        print(f"complete_journey: {error}", file=sys.stderr)
        return 2
    for source in sorted(files):
        print(f"{source:<16}{files[source]:>4} files {sizes[source] / 1e6:>8.2f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
