"""The writers that both sample sets share: bytes that depend on the content only, calendars that others can read."""

from __future__ import annotations

import gzip
import io
import time
import zipfile
from datetime import date
from pathlib import Path

import icalendar
from hypothesis import given
from hypothesis import strategies as st
from python_calamine import load_workbook

from samples.calendar_files import CalendarEvent, calendar_bytes
from samples.local_testing.spreadsheets import workbook_bytes
from samples.raw_files import RawFile, gzipped, zipped


@given(st.binary(max_size=2000))
def test_gzip_and_zip_give_back_what_went_in(data: bytes) -> None:
    assert gzip.decompress(gzipped(data)) == data
    with zipfile.ZipFile(io.BytesIO(zipped({"a.csv": data}))) as archive:
        assert archive.namelist() == ["a.csv"]
        assert archive.read("a.csv") == data


def test_the_clock_leaves_no_trace() -> None:
    def build() -> tuple[bytes, bytes, bytes]:
        return gzipped(b"x"), zipped({"x": b"x"}), workbook_bytes({"Sheet": [["a", 1, date(2017, 1, 2)]]})

    before = build()
    time.sleep(2.1)  # a zip's clock has a step of two seconds
    assert build() == before


def test_workbook_cells_keep_their_types() -> None:
    data = workbook_bytes({"Info": [["text"]], "Data": [["id", "day"], ["S00123", date(2017, 11, 6)], [None, 2.5]]})
    book = load_workbook(io.BytesIO(data))
    assert book.sheet_names == ["Info", "Data"]
    assert book.get_sheet_by_name("Data").to_python() == [["id", "day"], ["S00123", date(2017, 11, 6)], ["", 2.5]]


@given(name=st.text(alphabet=st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=300))
def test_event_names_survive_escaping_and_folding(name: str) -> None:
    data = calendar_bytes([CalendarEvent("E1", name, "sport", date(2017, 5, 1), date(2017, 5, 3), "r01")])
    assert max(map(len, data.split(b"\r\n"))) <= 75
    (event,) = icalendar.Calendar.from_ical(data).walk("VEVENT")
    assert str(event["SUMMARY"]).strip() == name.strip()
    assert event["DTEND"].dt == date(2017, 5, 4)  # the day after the last


def test_a_raw_file_lands_under_source_and_week(tmp_path: Path) -> None:
    raw = RawFile("stores", "2017-W41", "stores.csv", b"x")
    assert raw.write(tmp_path) == tmp_path / "stores" / "2017-W41" / "stores.csv"
    assert (tmp_path / raw.path).read_bytes() == b"x"
