"""Seeded generator of a dirty weekly deliveries file, and the contract that it is conditioned under.

BOM, CRLF, Windows-1252 names, five date notations, thousands marks, three negative notations, ragged and blank lines,
quoted line breaks, control characters, missing and impossible values, repeated keys.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

HEADER = "document,store,upc,delivered,units,cost,department,driver note"
DATE_FORMATS = ("%Y-%m-%d", "%m/%d/%Y", "%d.%m.%Y", "%Y%m%d", "%d-%b-%Y")
CONTRACT: dict[str, Any] = {
    "name": "benchmark_deliveries",
    "version": "1",
    "fields": [
        {"name": "document", "type": "string", "constraints": {"required": True, "maxLength": 20}},
        {"name": "store", "type": "string", "constraints": {"required": True, "pattern": "[0-9]{9}"}},
        {"name": "upc", "type": "string", "constraints": {"required": True, "pattern": "[0-9]{14}"}},
        {"name": "delivered", "type": "date", "format": ";".join(DATE_FORMATS), "constraints": {"required": True}},
        {
            "name": "units",
            "type": "integer",
            "groupChar": ",",
            "negatives": ["leading", "trailing", "parentheses"],
            "constraints": {"required": True, "minimum": -5000, "maximum": 5000},
        },
        {"name": "cost", "type": "number", "scale": 2, "constraints": {"required": True, "minimum": 0}},
        {"name": "department", "type": "string", "constraints": {"maxLength": 30}},
    ],
    "primaryKey": ["document", "store", "upc", "delivered"],
    "missingValues": ["", "NA", "NULL"],
    "unknownColumns": "discard",
    "dialect": {"delimiter": ",", "quoteChar": '"', "header": True},
}
_DEPARTMENTS = ["GROCERY", "BAKERY", "SNACKS", "DAIRY", "BEVERAGES", "CAFÉ & TEE", "FROZEN", "DÉLI", "MEAT", "HEALTH"]


def generate(path: Path, rows: int, *, dirty: bool = True, seed: int = 7) -> dict[str, int]:
    """Write the file; return what was put in. `dirty=False` writes the same shape without any fault."""
    rng = random.Random(seed)
    from datetime import date, timedelta

    days = [date(2017, 11, 6) + timedelta(days=at) for at in range(7)]
    stores = [f"{rng.randrange(10**9):09d}" for _ in range(2000)]
    upcs = [f"{rng.randrange(10**14):014d}" for _ in range(9000)]
    dates = [[day.strftime(pattern) for pattern in (DATE_FORMATS if dirty else DATE_FORMATS[:1])] for day in days]
    put = {"rows": rows, "bad": 0, "duplicates": 0, "blank": 0}
    recent: list[str] = []
    encoding = "cp1252" if dirty else "utf-8"
    with path.open("wb") as file:
        file.write((b"\xef\xbb\xbf" if dirty else b"") + HEADER.encode() + b"\r\n")
        lines: list[str] = []
        for number in range(rows):
            dice = rng.random() if dirty else 1.0
            store = stores[int(rng.random() * 2000)]
            day = int(rng.random() * 7)
            patterns = dates[day]
            cells = [
                f"D{number // 20:09d}",
                store,
                upcs[int(rng.random() * 9000)],
                patterns[int(rng.random() * len(patterns))],
                str(int(rng.random() * 48) + 1),
                f"{rng.random() * 90 + 0.5:.2f}",
                _DEPARTMENTS[int(rng.random() * 10)],
                "",
            ]
            if dice < 0.06:
                _spoil(cells, int(dice * 400), put, recent, lines)
            lines.append(",".join(cells))
            if dirty and dice > 0.99:
                recent = cells
            if len(lines) >= 50_000:
                file.write(("\r\n".join(lines) + "\r\n").encode(encoding))
                lines = []
        file.write(("\r\n".join(lines) + "\r\n").encode(encoding))
    return put


def _spoil(cells: list[str], kind: int, put: dict[str, int], recent: list[str], lines: list[str]) -> None:
    spoilers: dict[int, tuple[int, str]] = {
        0: (1, "12345"),
        1: (2, "ABC"),
        2: (3, "31.02.2017"),
        3: (3, "soon"),
        4: (4, "n/a?"),
        5: (4, "99999"),
        6: (5, "-3.10"),
        7: (5, ""),
        8: (6, "BAD\x07BELL"),
        9: (7, '"left at\r\nthe dock"'),
        10: (4, '"1,250"'),
        11: (4, "(12)"),
        12: (4, "7-"),
        13: (4, "-3"),
        14: (6, '"A line\r\nbreak"'),
    }
    if kind in spoilers:
        place, value = spoilers[kind]
        cells[place] = value
        put["bad"] += kind not in (9, 10, 11, 12, 13)
    elif kind == 15:
        del cells[5]
        put["bad"] += 1
    elif kind == 16:
        cells.append("")
        put["bad"] += 1
    elif kind == 17:
        lines.append("")
        put["blank"] += 1
    elif recent and len(recent) == len(cells):
        cells[:] = recent
        put["duplicates"] += 1


def write_contract(path: Path) -> None:
    """Write the contract's JSON."""
    path.write_text(json.dumps(CONTRACT, indent=1))
