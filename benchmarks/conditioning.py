"""Conditioning against its peers: `python -m benchmarks.conditioning [--rows 1000000] [--memory]`.

Every engine does the same work on the same seeded dirty file (see dirty_deliveries): parse, decode, normalise, judge,
find duplicates, write the rule columns as standard CSV. Each runs in its own process, one after the other: CPU seconds
are those of the whole process. `start` is what the same process takes for a file of 1,000 rows (interpreter, imports),
so that both counts can be read: `x ours` of whole processes, `x work` with each engine's start taken off.
`bare pyarrow` parses and writes the clean file without any rule: the floor. Rounds are repeated, for a machine's
neighbours come and go: seconds and ratios (each within its round) are medians.
"""

from __future__ import annotations

import argparse
import compileall
import csv
import hashlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.dirty_deliveries import CONTRACT, DATE_FORMATS, generate
from benchmarks.peers import python

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = [item["name"] for item in CONTRACT["fields"]]
KEY = CONTRACT["primaryKey"]
START_ROWS = 1000


# -- engines: each writes the rule columns to `out` and returns how many rows it wrote -------------------------------


def shelfcast(raw: Path, out: Path) -> int:
    from conditioning.contract import parse_contract
    from conditioning.local_run import condition_file, rules_of_contract

    folder = out.parent / "shelfcast"
    document = condition_file(raw, rules_of_contract(parse_contract(CONTRACT)), folder)
    (folder / "data.csv").replace(out)
    counts = document["counts"]
    assert counts["records_read"] == counts["conditioned"] + counts["quarantined"] + counts["duplicates"]
    return int(document["outputs"]["data"]["rows"])


def _rules() -> dict[str, Callable[[str], Any]]:
    from conditioning.contract import parse_contract
    from conditioning.values import make_rule

    return {item.name: make_rule(item) for item in parse_contract(CONTRACT).fields}


def _text(cell: bytes) -> str:
    try:
        return cell.decode()
    except UnicodeDecodeError:
        return cell.decode("cp1252")


def csv_module(raw: Path, out: Path) -> int:
    """Row by row, one record at a time: slow, and the judge of the others."""
    rules, width = _rules(), 8
    seen: set[tuple[str, ...]] = set()
    rows = 0
    with raw.open(encoding="latin-1", newline="") as file, out.open("w", encoding="utf-8", newline="") as sink:
        if file.read(3) != "ï»¿":
            file.seek(0)
        reader = csv.reader(file)
        next(reader)
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow(COLUMNS)
        for record in reader:
            if len(record) != width:
                continue
            cells = []
            for name, cell in zip(COLUMNS, record, strict=False):
                verdict = rules[name](_text(cell.encode("latin-1")))
                if not isinstance(verdict, str):
                    break
                cells.append(verdict)
            else:
                key = tuple(cells[:4])
                if key not in seen:
                    seen.add(key)
                    writer.writerow(cells)
                    rows += 1
    return rows


def _frame_by_rules(frame: Any, out: Path) -> int:
    """Apply our exact rules once per distinct value of a frame, then duplicates, then write."""
    import numpy as np
    import pandas as pd

    rules = _rules()
    good = np.ones(len(frame), bool)
    columns = {}
    for name in COLUMNS:
        codes, values = pd.factorize(frame[name])
        verdicts = [rules[name](value) for value in values]
        texts = np.array([verdict if isinstance(verdict, str) else None for verdict in verdicts] + [None], object)
        columns[name] = texts[codes]
        good &= np.array([isinstance(verdict, str) for verdict in verdicts] + [False])[codes]
    table = pd.DataFrame(columns)[good]
    table = table[~table.duplicated(subset=KEY)]
    table.to_csv(out, index=False, lineterminator="\n")
    return len(table)


def pandas_c_exact(raw: Path, out: Path) -> int:
    import pandas as pd

    frame = pd.read_csv(
        raw,
        dtype=str,
        keep_default_na=False,
        na_values=[],
        encoding="cp1252",
        on_bad_lines="skip",
        header=0,
        names=[*COLUMNS, "note"],
        index_col=False,
    )
    return _frame_by_rules(frame[frame["note"].notna()], out)


def pandas_pyarrow(raw: Path, out: Path) -> int:
    import pandas as pd

    frame = pd.read_csv(
        raw,
        dtype=str,
        keep_default_na=False,
        encoding="cp1252",
        engine="pyarrow",
        on_bad_lines=lambda _: "skip",
        header=0,
        names=[*COLUMNS, "note"],
    )
    return _frame_by_rules(frame, out)


def pandas_plain(raw: Path, out: Path) -> int:
    """As most people write it: string methods over whole columns."""
    import pandas as pd

    frame = pd.read_csv(
        raw,
        dtype=str,
        keep_default_na=False,
        na_values=[],
        encoding="cp1252",
        on_bad_lines="skip",
        header=0,
        names=[*COLUMNS, "note"],
        index_col=False,
    )
    frame = frame[frame["note"].notna()].drop(columns="note")
    for name in COLUMNS:
        frame[name] = frame[name].str.strip()
    control = frame["department"].str.contains(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\r\n]", regex=True)
    good = (
        ~control
        & frame["store"].str.fullmatch("[0-9]{9}")
        & frame["upc"].str.fullmatch("[0-9]{14}")
        & (frame["document"] != "")
    )
    dates = pd.Series(pd.NaT, index=frame.index)
    for pattern in DATE_FORMATS:
        todo = dates.isna()
        dates[todo] = pd.to_datetime(frame.loc[todo, "delivered"], format=pattern, errors="coerce")
    good &= dates.notna()
    frame["delivered"] = dates.dt.strftime("%Y-%m-%d")
    units = frame["units"].str.replace(r"^\((.*)\)$", r"-\1", regex=True).str.replace(r"^(.*)-$", r"-\1", regex=True)
    units = pd.to_numeric(units.str.replace(",", ""), errors="coerce")
    good &= units.between(-5000, 5000)
    cost = pd.to_numeric(frame["cost"], errors="coerce")
    good &= cost >= 0
    frame["units"], frame["cost"] = units, cost
    frame = frame[good].copy()
    frame["units"] = frame["units"].astype("int64")
    frame = frame[~frame.duplicated(subset=KEY)]
    frame.to_csv(out, index=False, lineterminator="\n", float_format="%.2f")
    return len(frame)


def polars_eager(raw: Path, out: Path) -> int:
    import polars as pl

    text = raw.read_bytes().decode("latin-1").removeprefix("ï»¿").encode()  # polars reads UTF-8 only
    frame = pl.read_csv(
        io.BytesIO(text), infer_schema=False, truncate_ragged_lines=True, new_columns=[*COLUMNS, "note"]
    )
    del text
    frame = frame.select([pl.col(name).fill_null("").str.strip_chars() for name in COLUMNS])
    dates = pl.coalesce([pl.col("delivered").str.to_date(pattern, strict=False) for pattern in DATE_FORMATS])
    units = pl.col("units").str.replace(r"^\((.*)\)$", "-$1").str.replace(r"^(.*)-$", "-$1").str.replace_all(",", "")
    frame = (
        frame.with_columns(
            delivered=dates,
            units=units.cast(pl.Int64, strict=False),
            cost=pl.col("cost").cast(pl.Float64, strict=False),
        )
        .filter(
            ~pl.col("department").str.contains(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\r\n]"),
            pl.col("store").str.contains("^[0-9]{9}$"),
            pl.col("upc").str.contains("^[0-9]{14}$"),
            pl.col("document") != "",
            pl.col("delivered").is_not_null(),
            pl.col("units").is_between(-5000, 5000),
            pl.col("cost") >= 0,
        )
        .unique(subset=KEY, keep="first", maintain_order=True)
    )
    frame.write_csv(out, float_precision=2)
    return frame.height


def bare_pyarrow(raw: Path, out: Path) -> int:
    """Parse and write, no rules, no numbers, nothing refused: what the box can do at best (on the clean file)."""
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    convert = arrow_csv.ConvertOptions(column_types={name: pa.string() for name in COLUMNS}, include_columns=COLUMNS)
    reader = arrow_csv.open_csv(
        raw, arrow_csv.ReadOptions(use_threads=False), arrow_csv.ParseOptions(newlines_in_values=True), convert
    )
    rows = 0
    with out.open("wb") as sink, arrow_csv.CSVWriter(sink, reader.schema) as writer:
        for batch in reader:
            rows += batch.num_rows
            writer.write_batch(batch)
    return rows


ENGINES: dict[str, Callable[[Path, Path], int]] = {
    "shelfcast": shelfcast,
    "pandas, pyarrow engine, exact rules": pandas_pyarrow,
    "pandas, C engine, exact rules": pandas_c_exact,
    "pandas, plain": pandas_plain,
    "polars": polars_eager,
    "csv module, row by row": csv_module,
    "bare pyarrow": bare_pyarrow,
}


def content(path: Path) -> str:
    """Return a hash of the rule columns of every row, in order, however the cells are quoted."""
    digest = hashlib.sha256()
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.reader(file):
            digest.update(("\x1f".join(row[: len(COLUMNS)]) + "\n").encode())
    return digest.hexdigest()[:16]


def run_here(engine: str, raw: Path, out: Path) -> dict[str, Any]:
    rows = ENGINES[engine](raw, out)
    return {"rows": rows, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def run_apart(engine: str, raw: Path, folder: Path) -> dict[str, Any]:
    """Run an engine in a process of its own; CPU and wall seconds are those of the whole process."""
    own = python() if engine == "polars" else sys.executable
    out = folder / "out.csv"
    command = [own, "-m", "benchmarks.conditioning", "--engine", engine, "--raw", raw, "--out", out]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - started
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = json.loads(done.stdout.splitlines()[-1])
    return {"engine": engine, "cpu": cpu, "wall": wall, **found, "content": content(out)}


def compare(rows: int, folder: Path, engines: list[str], rounds: int) -> list[dict[str, Any]]:
    def generated(kind: str, size: int) -> Path:
        path = folder / f"{kind}-{size}.csv"
        if not path.exists():
            generate(path, size, dirty=kind == "dirty")
        return path

    def run(engine: str) -> dict[str, Any]:
        kind = "clean" if engine == "bare pyarrow" else "dirty"
        start = run_apart(engine, generated(kind, START_ROWS), folder)["cpu"]
        return {**run_apart(engine, generated(kind, rows), folder), "start": start}

    sizes = ", ".join(f"{generated(kind, rows).stat().st_size / 1e6:.0f} MB {kind}" for kind in ("dirty", "clean"))
    print(f"{rows:,} rows, {sizes}")
    for package in ("conditioning", "domain"):  # as every installed peer is
        compileall.compile_dir(ROOT / package, quiet=1)
    tried = [[run(engine) for engine in engines] for _ in range(rounds)]
    found = []
    for own in zip(*tried, strict=True):
        middle = {key: median(item[key] for item in own) for key in ("cpu", "start", "wall")}
        pairs = [(item, first[0]) for item, first in zip(own, tried, strict=True)]
        ratio = median(item["cpu"] / first["cpu"] for item, first in pairs)
        work = median((item["cpu"] - item["start"]) / (first["cpu"] - first["start"]) for item, first in pairs)
        found.append({**own[0], **middle, "ratio": ratio, "work": work})
    ours = found[0]
    print(
        f"{'engine':38}{'CPU s':>8}{'start':>8}{'wall s':>8}{'rows/CPU s':>12}{'peak MB':>9}"
        f"{'x ours':>8}{'x work':>8}{'rows':>11}  same rows"
    )
    for item in found:
        same = "-" if item["engine"] == "bare pyarrow" else "yes" if item["content"] == ours["content"] else "NO"
        print(
            f"{item['engine']:38}{item['cpu']:8.1f}{item['start']:8.1f}{item['wall']:8.1f}{rows / item['cpu']:12,.0f}"
            f"{item['peak_mb']:9.0f}{item['ratio']:8.2f}{item['work']:8.2f}{item['rows']:11,}  {same}"
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--engines", default="", help="comma-separated beginnings of engine names; shelfcast always runs"
    )
    parser.add_argument(
        "--memory", action="store_true", help="Azurite to Azurite: peak memory at --rows and at four times as many"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of each engine")
    parser.add_argument("--folder", type=Path, help="keep the generated files here")
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--raw", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.engine:
        print(json.dumps(run_here(arguments.engine, arguments.raw, arguments.out)))
        return
    with tempfile.TemporaryDirectory(prefix="conditioning-") as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if arguments.memory:
            from benchmarks.conditioning_memory import measure

            measure(folder, arguments.rows)
            return
        wanted = [name.strip() for name in arguments.engines.split(";") if name.strip()]
        engines = [
            name
            for name in ENGINES
            if not wanted or name == "shelfcast" or any(name.startswith(item) for item in wanted)
        ]
        compare(arguments.rows, folder, engines, arguments.rounds)


if __name__ == "__main__":
    main()
