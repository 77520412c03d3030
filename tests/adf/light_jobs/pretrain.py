"""Leaves a net that nobody reads."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    options, _ = parser.parse_known_args()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "net.txt").write_text("a net\n")


if __name__ == "__main__":
    main()
