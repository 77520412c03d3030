"""`python -m samples.local_testing [--out DIR]`: write the local testing data set anew."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from samples.local_testing.dataset import DATA, write


def main(arguments: list[str] | None = None) -> int:
    """Write the files, print one line a source; return 0, or 2 where the folder cannot be written."""
    parser = argparse.ArgumentParser(prog="python -m samples.local_testing", description=__doc__)
    parser.add_argument("--out", type=Path, default=DATA, help="folder to write to (default: the checked-in data)")
    options = parser.parse_args(arguments)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        found = write(options.out)
    except OSError as error:
        print(f"local_testing: {error}", file=sys.stderr)
        return 2
    files: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for dropped in found:
        files[dropped.raw.source] += 1
        sizes[dropped.raw.source] += len(dropped.raw.data)
    for source in sorted(files):
        print(f"{source:<16}{files[source]:>4} files {sizes[source] / 1000:>8.1f} kB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
