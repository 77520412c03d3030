"""The lake adapter against a real Azurite: conditions, streams, errors."""

from __future__ import annotations

import io
import os

import pytest

from adapters.lake import BLOCK_BYTES, BlobLake, connect
from domain.errors import BlobConflict, BlobNotFound, IntegrityError, Unavailable


def test_write_read_and_missing(lake: BlobLake) -> None:
    etag = lake.write("runs", "a/b.json", b"{}", metadata={"status": "ok"})
    assert lake.read("runs", "a/b.json").data == b"{}"
    assert lake.read("runs", "a/b.json").etag == etag
    (info,) = lake.list("runs", "a/")
    assert (info.path, info.size, info.metadata, info.etag) == ("a/b.json", 2, {"status": "ok"}, etag)
    with pytest.raises(BlobNotFound):
        lake.read("runs", "nothing")
    assert lake.info("runs", "nothing") is None
    lake.delete("runs", "a/b.json")
    lake.delete("runs", "a/b.json")


def test_folders_are_named_without_what_is_in_them(lake: BlobLake) -> None:
    for path in ("deliveries/2017-W44/a/b.csv", "deliveries/2017-W45/a.csv", "deliveries/readme.txt", "other/x/y.csv"):
        lake.write("conditioned", path, b"1")
    assert list(lake.folders("conditioned", "deliveries/")) == ["2017-W44", "2017-W45"]
    assert {"deliveries", "other"} <= set(lake.folders("conditioned"))


def test_conditions_let_exactly_one_writer_win(lake: BlobLake) -> None:
    first = lake.write("runs", "x", b"1", if_none_match=True)
    with pytest.raises(BlobConflict):
        lake.write("runs", "x", b"2", if_none_match=True)
    second = lake.write("runs", "x", b"2", if_match=first)
    with pytest.raises(BlobConflict):
        lake.write("runs", "x", b"3", if_match=first)
    assert lake.read("runs", "x").etag == second
    assert lake.read("runs", "x").data == b"2"


def test_json_that_is_none_is_named(lake: BlobLake) -> None:
    lake.write("runs", "bad.json", b"{nope")
    with pytest.raises(IntegrityError, match=r"runs/bad\.json"):
        lake.read_json("runs", "bad.json")


def test_streamed_blob_appears_only_at_commit(lake: BlobLake) -> None:
    data = os.urandom(BLOCK_BYTES + 12345)
    with lake.open_writer("curated", "big.bin") as writer:
        for start in range(0, len(data), 700_000):
            writer.write(data[start:start + 700_000])
        assert lake.info("curated", "big.bin") is None
        writer.commit(metadata={"rows": "1"}, if_none_match=True)
    reader = lake.open_reader("curated", "big.bin")
    assert b"".join(iter(lambda: reader.read(333_333), b"")) == data
    with lake.open_writer("curated", "big.bin") as writer, pytest.raises(BlobConflict):
        writer.write(b"other")
        writer.commit(if_none_match=True)
    with lake.open_writer("curated", "abandoned.bin") as writer:
        writer.write(b"never committed")
    assert lake.info("curated", "abandoned.bin") is None
    lake.copy("curated", "big.bin", "models", "copy.bin")
    out = io.BytesIO()
    lake.download("models", "copy.bin", out)
    assert out.getvalue() == data


def test_reader_refuses_a_blob_that_was_replaced_while_read(lake: BlobLake) -> None:
    lake.write("landing", "deliveries/2017-W01/a.txt", b"x" * (BLOCK_BYTES * 2))
    reader = lake.open_reader("landing", "deliveries/2017-W01/a.txt")
    reader.read(10)
    lake.write("landing", "deliveries/2017-W01/a.txt", b"y" * (BLOCK_BYTES * 2))
    with pytest.raises(BlobConflict):
        while reader.read(BLOCK_BYTES):
            pass


def test_append_needs_the_length_that_it_saw(lake: BlobLake) -> None:
    length = lake.append("audit", "log.jsonl", b"one\n", if_length=0)
    assert lake.append("audit", "log.jsonl", b"two\n", if_length=length) == 8
    with pytest.raises(BlobConflict):
        lake.append("audit", "log.jsonl", b"late\n", if_length=length)
    with pytest.raises(BlobConflict):
        lake.append("audit", "log.jsonl", b"first again\n", if_length=0)
    assert lake.read("audit", "log.jsonl").data == b"one\ntwo\n"


def test_a_lake_that_is_not_there_is_unavailable() -> None:
    nowhere = connect(
        "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ==;BlobEndpoint=http://127.0.0.1:9/a;"
    )
    nowhere._service._config.retry_policy.total_retries = 0
    with pytest.raises(Unavailable):
        nowhere.read("runs", "x")
