"""`python -m conditioning FILE --contract CONTRACT.json --out DIR`: any table under any Table Schema.

Prints the outcome document as JSON. Exit codes: 0 accepted, 3 partial (some records are quarantined or duplicates),
4 rejected (the file as a whole), 2 wrong call (no such file, unusable contract).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from domain.errors import BadRequest, ShelfcastError
from domain.sales_weeks import SalesWeek

EXIT_CODES = {"accepted": 0, "partial": 3, "rejected": 4}
WRONG_CALL = 2


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m conditioning", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "file", type=Path, help="raw file: delimited or fixed-width text, workbook, JSON, gzip or zip of these"
    )
    rules = parser.add_mutually_exclusive_group(required=True)
    rules.add_argument("--contract", type=Path, help="Table Schema, Data Resource or one-resource Data Package (JSON)")
    rules.add_argument("--source", help="one of our sources, with its dialects and column map")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for data.csv, quarantine.csv, duplicates.csv, manifest.json"
    )
    parser.add_argument(
        "--sales-week", default="", help="week that the file is about, e.g. 2017-W45 (fields marked inSalesWeek)"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = _arguments(argv)
    try:
        document = _run(arguments)
    except ShelfcastError as error:
        _print(error.to_problem())
        return WRONG_CALL
    except Exception as error:  # an engineer gets a sentence, never a stack of ours
        problem = ShelfcastError(
            f"{arguments.file}: conditioning itself failed ({type(error).__name__}: {error}); nothing was written",
            file=str(arguments.file), remedy="report it with the file",
        )  # fmt: skip
        _print({**problem.to_problem(), "status": "rejected"})
        return EXIT_CODES["rejected"]
    _print(document)
    return EXIT_CODES[document["status"]]


def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    from conditioning.contract import load_contract
    from conditioning.local_run import condition_file, rules_of_contract, rules_of_source
    from conditioning.registry import find_source

    if not arguments.file.is_file():
        raise BadRequest(
            f"{arguments.file} is no file", field="file", value=str(arguments.file), remedy="name an existing file"
        )
    week = SalesWeek.parse(arguments.sales_week) if arguments.sales_week else None
    rules = (
        rules_of_contract(load_contract(arguments.contract))
        if arguments.contract
        else rules_of_source(find_source(arguments.source))
    )
    return condition_file(arguments.file, rules, arguments.out, week=week)


def _print(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=1, default=str) + "\n")


if __name__ == "__main__":
    sys.exit(main())
