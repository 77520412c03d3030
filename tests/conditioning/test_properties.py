"""Conditioning is a function of bytes and contract: whatever the blocks and the dirt, every record ends once."""

from __future__ import annotations

import csv
import io
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from benchmarks.conditioning import content, csv_module
from benchmarks.dirty_deliveries import CONTRACT, generate
from conditioning import columns, delimited
from conditioning.contract import parse_contract
from conditioning.delimited import RAW_TEXT_LIMIT, raw_text
from conditioning.local_run import condition_file, rules_of_contract
from conditioning.record_blocks import last_record_end, record_blocks
from conditioning.record_tokens import records_of
from tests.conditioning.conftest import ORDERS

_CELLS = st.sampled_from(
    [
        "",
        "001",
        "002",
        "a",
        "2017-11-06",
        "soon",
        "1.5",
        "1,5",
        "=x",
        '"q"',
        '"a,b"',
        '"a\nb"',
        '5" pipe',
        "é",
        "\x07",
        "NA",
        " x ",
        '"',
        '""',
    ]
)
_RECORDS = st.lists(st.lists(_CELLS, min_size=1, max_size=6).map(",".join), max_size=30)
_NEWLINE = st.sampled_from(["\n", "\r\n", "\r"])


def run(
    raw: bytes, contract: dict[str, Any], block_bytes: int, memory_rows: int | None = None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.csv"
        path.write_bytes(raw)
        out = Path(folder) / "out"
        document = condition_file(path, rules_of_contract(parse_contract(contract)), out, block_bytes=block_bytes)
        made = {item.name: item.read_bytes() for item in out.iterdir() if item.suffix == ".csv"}
    for name in ("started_at", "ended_at", "seconds"):
        document.pop(name)
    document["input"].pop("path")
    return document, made


def in_order(raw: str) -> bytes:
    return ("id,day,amount,note\n" + raw).encode()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_RECORDS, _NEWLINE, st.integers(1, 200))
@example(['001,2017-11-06,1.5,"a', 'b"'], "\r\n", 7)
@example(['"', ""], "\n", 1)
@example(["A", "A"], "\r", 1)
@example(["A", "A"], "\r\n", 1)
def test_every_record_ends_once_and_the_block_size_never_shows(
    records: list[str], newline: str, block_bytes: int
) -> None:
    raw = in_order(newline.join(records))
    contract = {**ORDERS, "dialect": {"delimiter": ","}}
    whole, files = run(raw, contract, 1 << 22)
    counts = whole["counts"]
    assert counts["records_read"] == counts["conditioned"] + counts["quarantined"] + counts["duplicates"]
    assert sum(counts["by_reason"].values()) == counts["quarantined"]
    pieces, same_files = run(raw, contract, block_bytes)
    if whole["status"] == "rejected" and whole["error"]["code"] != "too_many_quarantined":
        assert pieces["error"]["code"] == whole["error"]["code"]
        return
    assert pieces == whole
    assert same_files == files
    if whole["status"] == "rejected":
        return
    assert len(files["data.csv"].splitlines()) - 1 == counts["conditioned"]
    assert len(list(csv.reader(io.StringIO(files["quarantine.csv"].decode())))) - 1 == counts["quarantined"]
    listed = sorted(
        int(row["source_row"]) for name in files for row in csv.DictReader(io.StringIO(files[name].decode()))
    )
    assert listed == list(range(1, counts["records_read"] + 1))


@settings(max_examples=60, deadline=None)
@given(_RECORDS)
def test_the_standard_csv_is_a_fixed_point(records: list[str]) -> None:
    contract = {**ORDERS, "dialect": {"delimiter": ","}}
    first, files = run(in_order("\n".join(records)), contract, 1 << 22)
    if first["status"] == "rejected":
        return
    rows = [row[:4] for row in csv.reader(io.StringIO(files["data.csv"].decode()))]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    again, _ = run(out.getvalue().encode(), contract, 1 << 22)
    assert again["status"] == "accepted"
    assert again["outputs"]["data"]["content_hash"] == first["outputs"]["data"]["content_hash"]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet='ab,"\n', max_size=60))
def test_records_are_cut_as_the_csv_module_cuts_them(text: str) -> None:
    data = (text + "\n").encode()
    end, _ = last_record_end(data, ord(","), ord('"'))
    ours = []
    for block in record_blocks(io.BytesIO(data[:end]), "file.csv", ord(","), ord('"')):
        found = records_of(block)
        ours += [block.data[start:stop].decode() for start, stop in zip(found.starts, found.ends, strict=True)]
    theirs, held = [], io.StringIO(data[:end].decode(), newline="")
    lines = list(held)
    at = 0
    reader = csv.reader(iter(lines))
    for row in reader:
        record = "".join(lines[at : reader.line_num]).rstrip("\n")
        at = reader.line_num
        if row:
            theirs.append(record)
    assert ours == theirs


def test_a_dirty_file_equals_the_row_by_row_judge(tmp_path: Path) -> None:
    raw = tmp_path / "dirty.csv"
    put = generate(raw, 60_000)
    document = condition_file(raw, rules_of_contract(parse_contract(CONTRACT)), tmp_path / "out")
    assert document["counts"]["quarantined"] == put["bad"]
    assert document["counts"]["duplicates"] == put["duplicates"]
    csv_module(raw, tmp_path / "judge.csv")
    assert content(tmp_path / "out" / "data.csv") == content(tmp_path / "judge.csv")


def test_columns_beyond_the_distinct_limit_read_the_same(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    raw = tmp_path / "dirty.csv"
    generate(raw, 20_000)
    rules = rules_of_contract(parse_contract(CONTRACT))
    coded = condition_file(raw, rules, tmp_path / "coded", block_bytes=1 << 16)
    monkeypatch.setattr(columns, "DISTINCT_LIMIT", 50)
    wide = condition_file(raw, rules, tmp_path / "wide", block_bytes=1 << 16)
    assert wide["outputs"] == coded["outputs"]
    assert wide["counts"] == coded["counts"]
    for name, found in wide["quality"]["columns"].items():
        assert {key: found[key] for key in ("nulls", "min", "max")} == {
            key: coded["quality"]["columns"][name][key] for key in ("nulls", "min", "max")
        }


def test_very_short_records_are_read_in_several_batches(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    raw = tmp_path / "dirty.csv"
    generate(raw, 2_000)
    rules = rules_of_contract(parse_contract(CONTRACT))
    at_once = condition_file(raw, rules, tmp_path / "once")
    monkeypatch.setattr(delimited, "BATCH_RECORDS", 300)
    in_batches = condition_file(raw, rules, tmp_path / "batches")
    for part in ("outputs", "counts", "quality", "reasons"):
        assert in_batches[part] == at_once[part]


def test_duplicates_are_the_same_in_memory_and_on_disk() -> None:
    from conditioning.dedupe import KeyLog
    from conditioning.hashing import hash_values

    rng = np.random.default_rng(3)
    keys = hash_values([str(number) for number in rng.integers(0, 4000, 10_000)])
    keys[9_000:] = keys[0]  # one key over and over
    checks = keys ^ rng.integers(0, 2, 10_000).astype(np.uint64)  # keys of which only 64 bits agree are two
    content_hashes = hash_values([str(number) for number in rng.integers(0, 3, 10_000)])
    seen: dict[tuple[int, int], int] = {}
    expected = []
    for row, key in enumerate(zip(keys.tolist(), checks.tolist(), strict=True)):
        if key in seen:
            expected.append((row, seen[key] + 1, bool(content_hashes[row] == content_hashes[seen[key]])))
        seen.setdefault(key, row)
    for memory_rows, pass_rows in ((10**6, 10**6), (100, 777)):
        log = KeyLog(memory_rows, pass_rows)
        for start in range(0, 10_000, 1000):
            part = slice(start, start + 1000)
            log.add(keys[part], content_hashes[part], checks[part], np.arange(start, start + 1000) + 1)
        found = []
        for block, item in enumerate(log.duplicates()):
            rows = (item.rows + 1000 * block).tolist()
            found += list(zip(rows, item.first_numbers.tolist(), item.identical.tolist(), strict=True))
        log.close()
        assert found == expected


def test_a_key_over_and_over_costs_no_memory() -> None:
    from conditioning.dedupe import KeyLog
    from conditioning.hashing import hash_values

    rows, blocks = 100_000, 60
    one, distinct = (np.repeat(hash_values(texts), times) for texts, times in ((["7"], rows), (["1", "2"], 1)))
    log = KeyLog(memory_rows=0)
    for number in range(blocks):
        keys = one.copy()
        if number in (3, 9):
            keys[:2] = distinct  # each of these is there twice, far apart
        log.add(keys, keys, keys, np.arange(rows) + rows * number + 1)
    tracemalloc.start()
    try:
        found = [len(item.rows) for item in log.duplicates()]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    log.close()
    assert sum(found) == rows * blocks - 3
    assert (found[0], found[3], found[9]) == (rows - 1, rows - 2, rows)
    assert peak < 45e6, "the halves of all keys alone are 24 MB, their order 48"


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(1, 5_000))
def test_raw_text_is_the_record_or_its_beginning(piece: str, times: int) -> None:
    """Wherever the bytes are cut: a cut character is not taken for another encoding."""
    text = piece * times
    assert raw_text(text.encode()) == (text if len(text) <= RAW_TEXT_LIMIT else text[:RAW_TEXT_LIMIT] + " [cut]")
