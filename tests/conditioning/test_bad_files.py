"""Files that nobody wants: right values, or a refusal that names file, row, field and remedy; never a stack."""

from __future__ import annotations

import bz2
import datetime
import gzip
import hashlib
import io
import zipfile
import zlib

import pytest

from conditioning.overlap import behind
from tests.conditioning.conftest import ORDERS, Conditioning

HEADER = "id,day,amount,note\n"
GOOD = HEADER + "001,2017-11-06,1.50,first\n002,2017-11-07,2,second\n"
GOOD_ROWS = [["001", "2017-11-06", "1.5", "first"], ["002", "2017-11-07", "2", "second"]]


def xlsx(sheets: dict[str, list[list[object]]]) -> bytes:
    import openpyxl

    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


TABLE = [["id", "day", "amount", "note"], ["001", "2017-11-06", 1.5, "first"], ["002", "2017-11-07", 2, "second"]]


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(GOOD.encode(), id="plain"),
        pytest.param(b"\xef\xbb\xbf" + GOOD.encode(), id="utf-8 byte order mark"),
        pytest.param(GOOD.encode("utf-16"), id="utf-16"),
        pytest.param(GOOD.encode("utf-16-le"), id="utf-16 without mark"),
        pytest.param(GOOD.encode("utf-16-be"), id="utf-16 big endian without mark"),
        pytest.param(GOOD.encode("utf-32"), id="utf-32"),
        pytest.param(GOOD.replace("\n", "\r\n").encode(), id="CRLF"),
        pytest.param(GOOD.replace("\n", "\r").encode(), id="old Mac line ends"),
        pytest.param(GOOD.replace("\n", "\n\ufeff", 2).encode(), id="byte order marks of files put together"),
        pytest.param(GOOD.replace("\n", "\r\n", 1).encode(), id="mixed line ends"),
        pytest.param(GOOD.rstrip("\n").encode(), id="no final line end"),
        pytest.param((GOOD + "\n\n\r\n").encode(), id="blank lines"),
        pytest.param(GOOD.encode() + b"\x1a", id="end-of-file mark"),
        pytest.param(GOOD.replace(",", ";").encode(), id="semicolons"),
        pytest.param(GOOD.replace(",", "\t").encode(), id="tabs"),
        pytest.param(GOOD.replace(",", "|").encode(), id="pipes"),
        pytest.param(GOOD.replace(",", ";").replace("1.50", "1,50").encode(), id="decimal commas"),
        pytest.param(GOOD.replace("first", '"first"').replace("id,", '"id",').encode(), id="quotes"),
        pytest.param(("Report of week 45\n\n" + GOOD).encode(), id="title above the header"),
        pytest.param(GOOD.replace("id,day,amount", "ID, Day ,AMOUNT").encode(), id="header in another case"),
        pytest.param(
            b"note,amount,day,id\nfirst,1.5,2017-11-06,001\nsecond,2,2017-11-07,002\n", id="other column order"
        ),
        pytest.param(gzip.compress(GOOD.encode()), id="gzip"),
        pytest.param(gzip.compress(GOOD[:30].encode()) + gzip.compress(GOOD[30:].encode()), id="gzip of two members"),
        pytest.param(zipped({"a/orders.csv": GOOD.encode()}), id="zip"),
        pytest.param(zipped({"orders.csv.gz": gzip.compress(GOOD.encode())}), id="gzip in a zip"),
        pytest.param(xlsx({"Sheet1": TABLE}), id="workbook"),
        pytest.param(
            xlsx({"Info": [["about"], ["nothing"]], "Data": TABLE}), id="workbook with the data on the second sheet"
        ),
        pytest.param(xlsx({"Data": [["Report"], [], *TABLE]}), id="workbook with a merged title"),
        pytest.param(
            xlsx({"S": [TABLE[0], ["001", datetime.date(2017, 11, 6), 1.5, "first"], ["002", 43046, 2, "second"]]}),
            id="workbook with real dates and a day number",
        ),
        pytest.param(
            b'[{"id":"001","day":"2017-11-06","amount":1.50,"note":"first"},{"id":"002","day":"2017-11-07","amount":2,"note":"second"}]',
            id="json objects",
        ),
        pytest.param(
            b'[["id","day","amount","note"],["001","2017-11-06",1.5,"first"],["002","2017-11-07",2,"second"]]',
            id="json lists",
        ),
        pytest.param(
            b'{"id":"001","day":"2017-11-06","amount":1.50,"note":"first"}\n{"id":"002","day":"2017-11-07","amount":2,"note":"second"}\n',
            id="json lines",
        ),
    ],
)
def test_odd_but_readable_files_give_the_right_values(conditioned: Conditioning, raw: bytes) -> None:
    outcome = conditioned(raw)
    assert outcome.status == "accepted", outcome.document.get("error") or outcome.document["reasons"]
    assert outcome.rows() == GOOD_ROWS


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"", "empty_file", id="empty"),
        pytest.param(b"\n\n\n", "empty_file", id="blank lines only"),
        pytest.param(HEADER.encode(), "no_records", id="header only"),
        pytest.param(gzip.compress(GOOD.encode() * 500)[:-20], "truncated_file", id="truncated gzip"),
        pytest.param(b"\x1f\x8b\x08\x00garbage-garbage", "corrupt_file", id="corrupt gzip"),
        pytest.param(zipped({"orders.csv": GOOD.encode() * 50})[:-40], "truncated_file", id="truncated zip"),
        pytest.param(
            zipped({"a.csv": GOOD.encode(), "b.csv": GOOD.encode()}), "several_members", id="two files in a zip"
        ),
        pytest.param(zipped({}), "several_members", id="empty zip"),
        pytest.param(gzip.compress(HEADER.encode() + b"001,,,x\n" * 8_000_000), "decompression_bomb", id="gzip bomb"),
        pytest.param(
            zipped({"orders.csv": HEADER.encode() + b"001,,,x\n" * 8_000_000}), "decompression_bomb", id="zip bomb"
        ),
        pytest.param(b"a,b,c\n1,2,3\n", "header_mismatch", id="another table"),
        pytest.param(b"id day amount note\n001 2017-11-06 1.5 first\n", "header_mismatch", id="merged header"),
        pytest.param(GOOD.replace("day", "id", 1).encode(), "duplicate_header", id="column twice"),
        pytest.param(GOOD.replace("first", '"first').encode(), "unterminated_quote", id="quote never closed"),
        pytest.param(xlsx({"Data": [["a", "b"], [1, 2]]}), "header_mismatch", id="workbook of another table"),
        pytest.param(xlsx({"Data": TABLE})[:900], "truncated_file", id="truncated workbook"),
        pytest.param(b'[{"id": "001"', "malformed_document", id="truncated json"),
        pytest.param(b"[1,2,3]", "malformed_document", id="json without a table"),
        pytest.param(b'[{"id": "001", "id": "002"}]', "malformed_document", id="json with a name twice"),
        pytest.param(b'[{"id": "001", "\\ud800": 1}]', "malformed_document", id="json with half a character as name"),
        pytest.param(
            ("[" + ",".join(f'{{"k{at}":1}}' for at in range(5000)) + "]").encode(),
            "malformed_document",
            id="json of objects that have nothing in common",
        ),
        pytest.param(bz2.compress(GOOD.encode()), "unknown_format", id="bzip2"),
        pytest.param(
            zipped({"a.zip": zipped({"b.zip": zipped({"c.csv": b"x"})})}), "several_members", id="zips within zips"
        ),
        pytest.param(gzip.compress(GOOD.encode()) + b"more", "corrupt_file", id="text behind the gzip data"),
        pytest.param(b"[" * 100_000, "malformed_document", id="deep json"),
        pytest.param(
            GOOD.replace("amount", "amount,extra").replace(",2,", ",2,x,").replace(",1.50,", ",1.50,x,").encode(),
            "header_mismatch",
            id="unknown column, frozen",
        ),
        pytest.param(b"id,day,amount,note\n001,soon,1,x\n", "too_many_quarantined", id="nothing good in it"),
        pytest.param(bytes(range(256)) * 20, "header_mismatch", id="binary garbage"),
    ],
)
def test_unreadable_files_are_refused_by_name(conditioned: Conditioning, raw: bytes, reason: str) -> None:
    outcome = conditioned(raw)
    assert outcome.status == "rejected"
    assert outcome.error["code"] == reason
    assert "orders.csv" in outcome.error["message"]
    assert outcome.error["remedy"]
    assert not (outcome.folder / "data.csv").exists()


@pytest.mark.parametrize(
    ("line", "code", "field"),
    [
        ("003,2017-11-08,1", "too_few_cells", ""),
        ("003,2017-11-08,1,x,y", "too_many_cells", ""),
        ("003,2017-11-08,1,x,", "too_many_cells", ""),
        ("003,08.11.2017,1,x", "bad_date", "day"),
        ("003,2017-11-08,one,x", "bad_number", "amount"),
        ('003,2017-11-08,"1,5",x', "bad_number", "amount"),
        (",2017-11-08,1,x", "missing_value", "id"),
        ("003,2017-11-08,1,a\0b", "control_character", "note"),
        ('003,2017-11-08,1,"a\nb"', "newline_in_cell", "note"),
        ("003,2017-11-08,1,=cmd|' /C calc'!A0", "formula_injection", "note"),
        (f"003,2017-11-08,1,{'x' * (10 << 20)}", "record_too_long", ""),
    ],
)
def test_a_bad_record_is_quarantined_alone(conditioned: Conditioning, line: str, code: str, field: str) -> None:
    outcome = conditioned((GOOD + line + "\n004,2017-11-09,4,last\n").encode())
    assert outcome.status == "partial"
    assert outcome.codes() == {code: 1}
    assert outcome.rows() == [*GOOD_ROWS, ["004", "2017-11-09", "4", "last"]]
    quarantined = outcome.lines("quarantine.csv")[1]
    assert quarantined.startswith(f"3,{code},{field},")
    assert len(quarantined) < 20_000
    example = outcome.document["reasons"][0]["examples"][0]
    assert (example["row"], example["field"]) == (3, field)


def test_a_quote_inside_an_unquoted_cell_is_text(conditioned: Conditioning) -> None:
    outcome = conditioned((HEADER + '001,2017-11-06,1,5" pipe\n002,2017-11-07,2,plain\n').encode())
    assert outcome.rows() == [["001", "2017-11-06", "1", '5" pipe'], ["002", "2017-11-07", "2", "plain"]]


def test_text_of_mixed_encodings_is_decoded_cell_by_cell(conditioned: Conditioning) -> None:
    raw = HEADER.encode() + "001,,,Käse\n".encode() + "002,,,Käse\n".encode("cp1252") + b"003,,,\x81\n"
    outcome = conditioned(raw)
    assert outcome.rows() == [["001", "", "", "Käse"], ["002", "", "", "Käse"]]
    assert outcome.codes() == {"undecodable_text": 1}
    assert any("Windows-1252" in warning for warning in outcome.document["warnings"])


def test_a_declared_encoding_is_the_only_one(conditioned: Conditioning) -> None:
    contract = {"schema": ORDERS, "encoding": "utf-8", "dialect": {"delimiter": ","}}
    outcome = conditioned(HEADER.encode() + "001,,,Käse\n002,,,x\n".encode("cp1252"), contract)
    assert outcome.codes() == {"undecodable_text": 1}
    japanese = conditioned((HEADER + "001,,,寿司\n").encode("shift_jis"), {**contract, "encoding": "shift_jis"})
    assert japanese.rows() == [["001", "", "", "寿司"]]
    assert conditioned(b"\x81", {**contract, "encoding": "shift_jis"}).error["code"] == "undecodable_file"


def test_a_declared_delimiter_that_the_file_does_not_use_is_named(conditioned: Conditioning) -> None:
    outcome = conditioned(GOOD.replace(",", ";").encode(), {"schema": ORDERS, "dialect": {"delimiter": ","}})
    assert outcome.error["code"] == "header_mismatch"
    assert "';'" in outcome.error["remedy"]


def test_a_missing_sheet_is_named_beside_those_that_exist(conditioned: Conditioning) -> None:
    outcome = conditioned(xlsx({"Info": [["x"]]}), {"schema": ORDERS, "dialect": {"sheetName": "Orders"}})
    assert outcome.error["code"] == "wrong_sheet"
    assert "Info" in outcome.error["message"]


def test_an_encrypted_zip_is_refused(conditioned: Conditioning) -> None:
    raw = bytearray(zipped({"orders.csv": GOOD.encode()}))
    raw[6] |= 1  # the general purpose flag in the local header, and in the directory
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    assert conditioned(bytes(raw)).error["code"] == "encrypted_file"


def test_unknown_columns_evolve_or_are_left_out(conditioned: Conditioning) -> None:
    raw = b"id,day,amount,note,colour\n001,2017-11-06,1.5,first,red\n"
    evolved = conditioned(raw, {**ORDERS, "unknownColumns": "evolve"})
    assert evolved.lines()[0] == "id,day,amount,note,colour,source_file,source_row"
    assert evolved.rows() == [["001", "2017-11-06", "1.5", "first", "red"]]
    left_out = conditioned(raw, {**ORDERS, "unknownColumns": "discard"})
    assert left_out.rows() == [["001", "2017-11-06", "1.5", "first"]]
    assert any("colour" in warning for warning in left_out.document["warnings"])


@pytest.mark.parametrize("name", ["colour,colour", "source_row", "=cmd", '"a\tb"'])
def test_unknown_columns_evolve_only_under_names_that_data_may_have(conditioned: Conditioning, name: str) -> None:
    raw = f"id,day,amount,note,{name}\n001,2017-11-06,1.5,first,red{',red' * name.count(',')}\n".encode()
    error = conditioned(raw, {**ORDERS, "unknownColumns": "evolve"}).error
    assert error["code"] in ("duplicate_header", "header_mismatch")
    assert error["row"] == 1
    assert error["field"] in name


def test_a_thousandfold_gzip_never_fills_memory(conditioned: Conditioning) -> None:
    compressor = zlib.compressobj(9, wbits=31)
    raw = compressor.compress(HEADER.encode())
    raw += b"".join(compressor.compress(b"001,,,x\n" * (1 << 17)) for _ in range(400)) + compressor.flush()
    assert conditioned(raw).error["code"] == "decompression_bomb"


def test_no_line_end_for_megabytes_is_refused(conditioned: Conditioning) -> None:
    raw = GOOD.encode() + b"x" * (40 << 20)
    outcome = conditioned(raw)
    assert outcome.error["code"] == "record_too_long"
    # The refusal comes while a further piece is being read: the hash is that of the whole file all the same.
    assert outcome.document["input"]["sha256"] == hashlib.sha256(raw).hexdigest()


def test_what_is_written_beside_the_work_keeps_its_order_and_fails_loudly() -> None:
    written: list[bytes] = []
    with behind(written.append) as write:
        for number in range(100):
            write(b"%d" % number)
    assert written == [b"%d" % number for number in range(100)]

    def refuse(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"), behind(refuse) as write:
        write(b"lost")


def test_fixed_width_text_is_read_by_its_columns(conditioned: Conditioning) -> None:
    columns = [
        {"name": "id", "start": 1, "end": 3},
        {"name": "day", "start": 4, "end": 13},
        {"name": "amount", "start": 14, "end": 19},
        {"name": "note", "start": 20, "end": 29},
    ]
    raw = b"0012017-11-06  1.50first     \n0022017-11-07     2second\n003\n"
    outcome = conditioned(raw, {"schema": ORDERS, "dialect": {"columns": columns}})
    assert outcome.rows() == GOOD_ROWS
    assert outcome.codes() == {"too_few_cells": 1}


def test_a_file_without_header_is_read_when_its_values_prove_it(conditioned: Conditioning) -> None:
    outcome = conditioned(GOOD.removeprefix(HEADER).encode())
    assert outcome.rows() == GOOD_ROWS
    assert "no header" in outcome.document["warnings"][-1]


def test_duplicates_name_the_row_that_came_first(conditioned: Conditioning) -> None:
    outcome = conditioned((GOOD + "001,2017-11-06,1.5,first\n002,2017-11-07,3,other\n").encode())
    assert outcome.status == "partial"
    assert outcome.rows() == GOOD_ROWS
    assert [line.split(",")[:3] for line in outcome.lines("duplicates.csv")[1:]] == [
        ["3", "1", "true"],
        ["4", "2", "false"],
    ]
    assert outcome.document["counts"]["conflicting_duplicates"] == 1


def test_a_trailer_that_disagrees_refuses_the_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from conditioning.contract import parse_contract
    from conditioning.dialect import Delimited
    from conditioning.headers import identity_map
    from conditioning.local_run import Rules, condition_file

    contract = parse_contract(ORDERS)
    rules = Rules(contract, (Delimited("d", trailer="TRL"),), {"d": identity_map(contract)}, "1")
    path = tmp_path / "orders.csv"
    for count, status in ((2, "accepted"), (3, "rejected")):
        path.write_text(GOOD + f"TRL,{count}\n")
        assert condition_file(path, rules, tmp_path / "out")["status"] == status
