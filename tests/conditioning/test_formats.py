"""The same logical rows in every format give the same content hash (R35), and each format's own traps."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from conditioning.local_run import condition_file, rules_of_source
from conditioning.registry import find_source, source_names
from domain.sales_weeks import SalesWeek
from tests.conditioning.conftest import SAMPLES
from tests.conditioning.test_bad_files import xlsx, zipped

WEEK = SalesWeek.parse("2017-W45")
ROWS = [
    ("S00001", "D1", "SNACKS", "P00001", date(2017, 11, 6), 12),
    ("S00002", "D2", "", "P00002", date(2017, 11, 7), 1012),
    ("S00003", "D3", "DAIRY", "P00003", date(2017, 11, 12), 0),
]


def conditioned(tmp_path: Path, source: str, name: str, raw: bytes, week: SalesWeek = WEEK) -> dict[str, Any]:
    path = tmp_path / name
    path.write_bytes(raw)
    document = condition_file(
        path, rules_of_source(find_source(source)), tmp_path / "out", week=week, history_start="2017-01-02"
    )
    counts = document["counts"]
    assert counts["records_read"] == counts["conditioned"] + counts["quarantined"] + counts["duplicates"]
    return document


def every_format() -> dict[str, bytes]:
    pipe = ["STORE_NBR|DLV_DOC|DEPT|ITEM_CD|DLV_DT|QTY|NET_AMT"]
    semicolon = ["Filiale;Lieferschein;Warengruppe;Artikel;Lieferdatum;Menge;Betrag"]
    comma = ['"store","document","department","item","delivered_on","units","amount"']
    fixed, sheet, standard = (
        [],
        [["Store", "Document", "Department", "Item", "Delivery date", "Units", "Net amount"]],
        [],
    )
    for store, document, department, item, day, units in ROWS:
        pipe.append(f"{store}|{document}|{department}|{item}|{day:%m/%d/%Y}|{units}|1.00")
        grouped = f"{units:,}".replace(",", ".")
        semicolon.append(f"{store};{document};{department};{item};{day:%d.%m.%Y};{grouped},0;1,00")
        comma.append(f'"{store}","{document}","{department}","{item}",{day},{units},1.00')
        fixed.append(f"{store:6}{document:18}{department:12}{item:6}{day:%Y%m%d}{units:>7}{100:09d}")
        sheet.append([store, document, department, item, day, float(units), 1.0])  # type: ignore[list-item]
        standard.append(
            {
                "document_id": document,
                "store_id": store,
                "product_id": item,
                "delivery_date": str(day),
                "units": units,
                "department": department or None,
            }
        )
    envelope = (
        "ISA*00*          *00*          *ZZ*SENDER         *ZZ*RECEIVER       *171113*0600*U*00401*000000001*0*P*>~\n"
    )
    text = "\r\n".join(pipe).encode()
    return {
        "a.txt": text,
        "a.txt.gz": gzip.compress(text),
        "b.csv": b"\xef\xbb\xbf" + "\n".join(semicolon).encode(),
        "c.zip": zipped({"c.csv": "\r\n".join(comma).encode()}),
        "d.dat": "\n".join(fixed).encode(),
        "e.json": json.dumps(standard).encode(),
        "f.xlsx": xlsx({"Info": [["x"]], "Deliveries": sheet}),
        "g.json.gz": gzip.compress(json.dumps(standard).encode()),
        "envelope": envelope.encode(),
    }


def test_the_same_rows_in_every_format_have_one_content_hash(tmp_path: Path) -> None:
    files = every_format()
    del files["envelope"]
    found = {}
    for name, raw in files.items():
        document = conditioned(tmp_path, "deliveries", name, raw)
        assert document["status"] == "accepted", (name, document.get("error"), document["reasons"])
        found[name] = document["outputs"]["data"]["content_hash"]
    assert len(set(found.values())) == 1, found


def test_the_content_hash_ignores_order_and_sees_every_change(tmp_path: Path) -> None:
    text = every_format()["a.txt"].decode()
    header, *lines = text.split("\r\n")
    base = conditioned(tmp_path, "deliveries", "a.txt", text.encode())["outputs"]["data"]["content_hash"]
    turned = "\r\n".join([header, *reversed(lines)])
    assert conditioned(tmp_path, "deliveries", "x.txt", turned.encode())["outputs"]["data"]["content_hash"] == base
    changed = text.replace("|12|", "|13|")
    assert conditioned(tmp_path, "deliveries", "a.txt", changed.encode())["outputs"]["data"]["content_hash"] != base
    doubled = "\r\n".join([header, *lines, lines[0]])
    assert conditioned(tmp_path, "deliveries", "a.txt", doubled.encode())["outputs"]["data"]["content_hash"] == base


ISA = b"ISA*00*          *00*          *ZZ*SENDER         *ZZ*RECEIVER       *171113*0600*U*00401*000000001*0*P*>~"


def x12(kind: str, body: list[str], group: str) -> bytes:
    segments = [
        f"GS*{group}*A*B*20171113*0600*1*X*004010",
        f"ST*{kind}*0001",
        *body,
        f"SE*{len(body) + 2}*0001",
        "GE*1*1",
        "IEA*1*000000001",
    ]
    return ISA + b"\n" + "".join(segment + "~\n" for segment in segments).encode()


DELIVERY = [
    "G82*D*D1*123456789*S00001*987654321*DEPOT*20171106",
    "LS*0100",
    "G83*1*12*EA**VN*P00001**1.5",
    "G83*2*3*EA**VN*P00002**1.5",
    "LE*0100",
    "G84*15*2250",
    "G86*X",
    "G85*0",
]


def test_an_894_gives_a_row_a_line(tmp_path: Path) -> None:
    document = conditioned(tmp_path, "deliveries", "a.edi", x12("894", DELIVERY, "DX"))
    assert document["status"] == "accepted"
    assert (tmp_path / "out" / "data.csv").read_text().splitlines()[1] == "D1,S00001,P00001,2017-11-06,12,,a.edi,1"


def test_an_894_whose_total_disagrees_is_quarantined_whole(tmp_path: Path) -> None:
    body = [segment.replace("G84*15", "G84*16") for segment in DELIVERY]
    document = conditioned(tmp_path, "deliveries", "a.edi", x12("894", body, "DX"))
    assert document["counts"]["by_reason"] == {"control_total": 2}


def test_a_return_among_deliveries_is_left_out_by_name(tmp_path: Path) -> None:
    body = [segment.replace("G82*D", "G82*C") for segment in DELIVERY]
    assert conditioned(tmp_path, "deliveries", "a.edi", x12("894", body, "DX"))["counts"]["by_reason"] == {
        "unknown_element": 2
    }
    returned = conditioned(tmp_path, "returns", "a.edi", x12("894", body, "DX"))
    assert returned["counts"]["conditioned"] == 2


def test_an_852_gives_what_stores_received(tmp_path: Path) -> None:
    body = [
        "XQ*H*20171106*20171112",
        "N9*DI*ACT7",
        "LIN**UP*00012345678905",
        "ZA*QR",
        "SDQ*EA*92*S00001*5*S00002*7",
        "ZA*QS",
        "SDQ*EA*92*S00001*4",
    ]
    document = conditioned(tmp_path, "deliveries", "a.edi", x12("852", body, "PD"))
    assert document["status"] == "accepted", document["reasons"]
    assert [line.split(",")[1:5] for line in (tmp_path / "out" / "data.csv").read_text().splitlines()[1:]] == [
        ["S00001", "00012345678905", "2017-11-12", "5"],
        ["S00002", "00012345678905", "2017-11-12", "7"],
    ]


@pytest.mark.parametrize(
    "cut", ["IEA*1*000000001~", "GE*1*1~\nIEA*1*000000001~", "SE*10*0001~\nGE*1*1~\nIEA*1*000000001~"]
)
def test_an_interchange_without_its_trailers_is_refused(tmp_path: Path, cut: str) -> None:
    raw = x12("894", DELIVERY, "DX").decode().replace(cut, "")
    assert conditioned(tmp_path, "deliveries", "a.edi", raw.encode())["error"]["code"] == "malformed_envelope"


def test_an_interchange_that_miscounts_its_segments_is_refused(tmp_path: Path) -> None:
    raw = x12("894", DELIVERY, "DX").replace(b"SE*10", b"SE*11")
    assert conditioned(tmp_path, "deliveries", "a.edi", raw)["error"]["code"] == "malformed_envelope"


def test_weather_in_both_ghcn_forms_is_the_same_weather(tmp_path: Path) -> None:
    station = "USSHC600110"
    days = {
        "20171106": {"TMAX": "151", "TMIN": "-22", "PRCP": "3", "SNOW": "0", "AWND": "31"},
        "20171107": {"TMAX": "100", "TMIN": "90"},
    }
    by_year = "".join(
        f"{station},{day},{element},{value},,,S,\n" for day, values in days.items() for element, value in values.items()
    )
    cells = {element: ["-9999   "] * 31 for element in ("TMAX", "TMIN", "PRCP", "SNOW", "AWND")}
    for day, values in days.items():
        for element, value in values.items():
            cells[element][int(day[6:]) - 1] = f"{value:>5}  S"
    dly = "".join(f"{station}201711{element}{''.join(line)}\n" for element, line in cells.items())
    first = conditioned(tmp_path, "weather_history", "a.csv", by_year.encode())
    data = (tmp_path / "out" / "data.csv").read_text().splitlines()
    assert data[1].startswith("60011,2017-11-06,15.1,-2.2,0.3,0.0,3.1,")
    assert data[2].startswith("60011,2017-11-07,10.0,9.0,,,,")
    second = conditioned(tmp_path, "weather_history", "a.dly", dly.encode())
    assert second["counts"] == first["counts"]
    assert first["outputs"]["data"]["content_hash"] == second["outputs"]["data"]["content_hash"]


def test_a_refused_day_of_weather_lists_every_record_that_it_was_gathered_from(tmp_path: Path) -> None:
    lines = [
        "USSHC600110,20171106,TMAX,151,,,S,",
        "USSHC600110,20171107,PRCP,3,,,S,",
        "USSHC600110,20171106,TMIN,990,,,S,",
        "USSHC600110,20171106,SNOW,0,,,S,",
    ]
    document = conditioned(tmp_path, "weather_history", "a.csv", "\n".join(lines).encode())
    assert document["counts"]["by_reason"] == {"above_maximum": 3}
    listed = list(csv.DictReader((tmp_path / "out" / "quarantine.csv").open(newline="")))
    assert [(row["source_row"], row["field"], row["raw_text"]) for row in listed] == [
        (str(number), "tmin_c", lines[number - 1]) for number in (1, 3, 4)
    ]


def test_flagged_missing_and_unknown_weather_is_quarantined(tmp_path: Path) -> None:
    lines = [
        "USSHC600110,20171106,TMAX,151,,,S,",
        "USSHC600110,20171106,TMIN,-9999,,,S,",
        "USSHC600110,20171106,PRCP,9,,X,S,",
        "USSHC600110,20171106,SNOW,5,T,,S,",
        "USW00099999,20171106,TMAX,1,,,S,",
        "USSHC600110,20171113,TMAX,1,,,S,",
        "USSHC600110,20171106,WT01,1,,,S,",
        "USSHC600110,20171106,TMAX,152,,,S,",
        "broken",
    ]
    lines += [f"USSHC6002{at}0,20171106,TMAX,151,,,S," for at in range(10)]
    document = conditioned(tmp_path, "weather_history", "a.csv", "\n".join(lines).encode())
    assert document["counts"]["by_reason"] == {
        "missing_value": 1,
        "quality_flag": 1,
        "unknown_station": 1,
        "outside_sales_week": 1,
        "unknown_element": 1,
        "fields_disagree": 1,
        "too_few_cells": 1,
    }
    assert (tmp_path / "out" / "data.csv").read_text().splitlines()[1].startswith("60011,2017-11-06,15.1,,,0.0,,")


def test_forecast_units_are_read_and_unknown_ones_refused(tmp_path: Path) -> None:
    answer = {
        "zip": "60011",
        "issued_at": "2017-11-05T12:00:00Z",
        "daily_units": {"temperature_2m_max": "°F", "precipitation_sum": "inch", "wind_speed_10m_max": "mp/h"},
        "daily": {
            "time": ["2017-11-06"],
            "temperature_2m_max": [50.0],
            "precipitation_sum": [1],
            "wind_speed_10m_max": [None],
        },
    }
    conditioned(tmp_path, "weather_forecast", "a.json", json.dumps([answer]).encode())
    assert (
        (tmp_path / "out" / "data.csv")
        .read_text()
        .splitlines()[1]
        .startswith("60011,2017-11-05,2017-11-06,10.0,,25.4,,,")
    )
    answer["daily_units"]["temperature_2m_max"] = "réaumur"  # type: ignore[index]
    refused = conditioned(tmp_path, "weather_forecast", "a.json", json.dumps([answer]).encode())
    assert refused["error"]["code"] == "malformed_document"
    assert "réaumur" in refused["error"]["message"]


def test_gridpoint_intervals_become_days(tmp_path: Path) -> None:
    rain = [
        {"validTime": "2017-11-06T18:00:00+00:00/PT6H", "value": 2},
        {"validTime": "2017-11-06T06:00:00+00:00/PT6H", "value": 1.5},
    ]
    properties = {
        "zip": "60011",
        "updateTime": "2017-11-05T11:00:00+00:00",
        "maxTemperature": {
            "uom": "wmoUnit:degC",
            "values": [{"validTime": "2017-11-06T12:00:00+00:00/PT12H", "value": 9}],
        },
        "quantitativePrecipitation": {"uom": "wmoUnit:mm", "values": rain},
        "windSpeed": {
            "uom": "wmoUnit:km_h-1",
            "values": [{"validTime": "2017-11-06T12:00:00+00:00/PT3H", "value": 36}],
        },
    }
    conditioned(tmp_path, "weather_forecast", "a.json", json.dumps({"features": [{"properties": properties}]}).encode())
    assert (
        (tmp_path / "out" / "data.csv")
        .read_text()
        .splitlines()[1]
        .startswith("60011,2017-11-05,2017-11-06,9.0,,3.5,,10.0,")
    )


def test_census_jam_values_are_missing(tmp_path: Path) -> None:
    rows = [
        ["HOUSEHOLDS_E", "MEDIAN_INCOME_E", "MEDIAN_AGE_E", "HOUSEHOLD_SIZE_E", "COVERAGE_SHARE_E", "store"],
        ["910", "-666666666", "37.9", "2.53", "0.46", "S00024"],
    ]
    conditioned(tmp_path, "shoppers", "a.json", json.dumps(rows).encode())
    assert (tmp_path / "out" / "data.csv").read_text().splitlines()[1].startswith("S00024,910,,37.9,2.53,0.4600,")


def test_events_repeat_end_and_are_cancelled(tmp_path: Path) -> None:
    def event(*lines: str) -> str:
        return "\r\n".join(["BEGIN:VEVENT", *lines, "END:VEVENT", ""])

    calendar = (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\n"
        + event(
            "UID:a",
            "SUMMARY:Long \r\n weekend\\, all",
            "DTSTART;VALUE=DATE:20171110",
            "DTEND;VALUE=DATE:20171113",
            "CATEGORIES:CAMPAIGN",
            "LOCATION:r08",
        )
        + event(
            "UID:b", "SUMMARY:Market", "DTSTART;VALUE=DATE:20171106", "RRULE:FREQ=WEEKLY;COUNT=3", "CATEGORIES:SPORT"
        )
        + event(
            "UID:c",
            "SUMMARY:Parade",
            "DTSTART;VALUE=DATE:20171106",
            "STATUS:CANCELLED",
        )
        + event("UID:d", "SUMMARY:Every second for ever", "DTSTART:20171106T000000Z", "RRULE:FREQ=SECONDLY")
        + "END:VCALENDAR\r\n"
    )
    document = conditioned(tmp_path, "special_events", "a.ics", calendar.encode())
    assert document["counts"]["by_reason"] == {"excluded_value": 1, "bad_date": 1}
    assert (document["counts"]["conditioned"], document["outputs"]["data"]["rows"]) == (2, 4)
    lines = (tmp_path / "out" / "data.csv").read_text().splitlines()
    assert lines[1].startswith('a,"Long weekend, all",campaign,2017-11-10,2017-11-12,r08,')
    assert [line.split(",")[3] for line in lines[2:]] == ["2017-11-06", "2017-11-13", "2017-11-20"]


FAULTS = {
    "deliveries": {
        "bad_date": "bad_date",
        "missing_product": "missing_value",
        "negative_units": "below_minimum",
        "excluded_department": "excluded_value",
    },
}


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("deliveries/*/*")), ids=lambda path: path.name)
def test_the_sample_s_faults_are_found_and_nothing_else(path: Path, tmp_path: Path) -> None:
    expected = json.loads((SAMPLES / "expected.json").read_text())["deliveries"][path.parts[-2]]
    week = SalesWeek.parse(path.parts[-2])
    document = condition_file(
        path, rules_of_source(find_source("deliveries")), tmp_path, week=week, history_start="2017-01-02"
    )
    assert document["counts"]["records_read"] == expected["records"]
    assert document["counts"]["duplicates"] == expected["faults"]["duplicate"]
    assert document["counts"]["by_reason"] == {
        FAULTS["deliveries"][name]: number
        for name, number in expected["faults"].items()
        if name in FAULTS["deliveries"]
    }


@pytest.mark.parametrize("source", source_names())
def test_every_sample_file_of_a_source_is_conditioned(source: str, tmp_path: Path) -> None:
    paths = sorted(SAMPLES.glob(f"{source}/*/*"))
    assert paths
    for path in {("".join(path.suffixes), path.name.split("_")[0]): path for path in paths}.values():
        week = SalesWeek.parse(path.parts[-2])
        document = condition_file(
            path, rules_of_source(find_source(source)), tmp_path, week=week, history_start="2017-01-02"
        )
        assert document["status"] in ("accepted", "partial"), document.get("error")
        assert document["quality"]["quarantined_share"] < 0.06


def test_public_holidays_are_special_events(tmp_path: Path) -> None:
    from conditioning.public_holidays import main

    path = tmp_path / "holidays.csv"
    assert main(["--years", "2017", "--region", "r01=NY", "--region", "r02=TX", "--out", str(path)]) == 0
    document = conditioned(tmp_path, "special_events", path.name, path.read_bytes())
    assert document["status"] == "accepted"
    data = (tmp_path / "out" / "data.csv").read_text()
    assert "Thanksgiving Day,public_holiday,2017-11-23,2017-11-23,r01" in data
    assert "San Jacinto Day" not in data.split("r02")[0]


def test_a_record_that_is_left_out_on_purpose_is_not_bad_for_another_reason(tmp_path: Path) -> None:
    lines = every_format()["a.txt"].decode() + "\r\nS00001|D9|FUEL||11/06/2017|99999999|1.00"
    document = conditioned(tmp_path, "deliveries", "a.txt", lines.encode())
    assert document["counts"]["by_reason"] == {"excluded_value": 1}
    assert document["status"] == "accepted"
