"""What operators see and do after conditioning: quarantine and its correction, quality, the data gate."""

from __future__ import annotations

import pytest

from conditioning.gate import data_gate
from conditioning.quality import misplaced_files, quality_of, sources_overview
from conditioning.quarantine import RedriveRequest, quarantined_rows, redrive
from conditioning.service import current_pointer
from domain.errors import BadRequest, NotFound
from domain.sales_weeks import SalesWeek
from tests.conditioning.conftest import Services
from tests.conditioning.test_service import BAD, HEADER, LINES, WEEK, condition, drop

STORES = "STORE_NBR,REGION,FORMAT,OPENED\nS00001,r01,large,2015-01-01\n"
PRODUCTS = "ITEM_CD,ITEM_NAME,DEPARTMENT,CATEGORY,BRAND,PACK\nP00001,Chips,SNACKS,Salty,Crisply,12\n"


def test_quarantine_is_paged_and_a_correction_is_driven_again(services: Services) -> None:
    drop(services, HEADER + LINES + BAD + BAD.replace("P00003", "P00004"))
    condition(services)
    page = quarantined_rows(services, "deliveries", SalesWeek.parse(WEEK), 1, 1)
    assert (page["total"], len(page["rows"])) == (2, 1)
    assert page["rows"][0]["source_row"] == 4
    assert page["rows"][0]["raw_text"] == BAD.replace("P00003", "P00004").strip()
    fixed = {
        "document_id": "D1",
        "store_id": "S00001",
        "product_id": "P00003",
        "delivery_date": "2017-11-10",
        "units": 4,
    }
    request = RedriveRequest.from_dict(
        {"source": "deliveries", "sales_week": WEEK, "rows": [fixed], "correlation_id": "c-2"}
    )
    before = current_pointer(services.lake, "deliveries", SalesWeek.parse(WEEK))
    answer = redrive(services, request)
    assert answer["counts"]["conditioned"] == 3
    pointer = current_pointer(services.lake, "deliveries", SalesWeek.parse(WEEK))
    assert pointer is not None and before is not None
    assert services.lake.read_json("conditioned", pointer["manifest_path"])[0]["parent"] == before["data_version"]
    assert condition(services)["status"] == "unchanged"
    with pytest.raises(BadRequest, match="is no column of deliveries"):
        RedriveRequest.from_dict({"source": "deliveries", "sales_week": WEEK, "rows": [{"colour": "red"}]})


def test_redriving_without_rows_conditions_the_raw_file_again(services: Services) -> None:
    drop(services, HEADER + LINES + BAD)
    condition(services)
    answer = redrive(
        services, RedriveRequest.from_dict({"source": "deliveries", "sales_week": WEEK, "correlation_id": "c-3"})
    )
    assert answer["counts"]["quarantined"] == 1
    with pytest.raises(NotFound):
        redrive(
            services,
            RedriveRequest.from_dict({"source": "deliveries", "sales_week": "2017-W01", "correlation_id": "c-3"}),
        )


def test_quality_shows_every_week_and_the_gaps(services: Services) -> None:
    drop(services, HEADER + LINES + BAD)
    drop(services, b"", "deliveries/2017-W43/dsd.txt")
    drop(services, HEADER + LINES, "deliveries/nowhere.txt")
    condition(services)
    weeks = quality_of(services, "deliveries")
    assert [(week["sales_week"], week["status"]) for week in weeks] == [
        ("2017-W43", "rejected"),
        ("2017-W44", "missing"),
        ("2017-W45", "partial"),
    ]
    assert weeks[2]["columns"]["units"] == {"nulls": 0, "min": "3", "max": "4", "distinct": 2}
    assert weeks == quality_of(services, "deliveries")  # the second time from memory
    drop(services, HEADER + LINES)
    condition(services)
    corrected = quality_of(services, "deliveries")[2]
    assert (corrected["status"], corrected["quarantined"], corrected["versions"]) == ("accepted", 0, 2)
    assert misplaced_files(services, "deliveries") == ["deliveries/nowhere.txt"]
    overview = {item["name"]: item for item in sources_overview(services)}
    assert overview["deliveries"]["latest_week"] == WEEK
    assert overview["deliveries"]["owner"] == "logistics"


def test_the_gate_opens_on_good_data_and_names_what_is_missing(services: Services) -> None:
    week = SalesWeek.parse("2017-W46")
    closed = data_gate(services.lake, services.scenario, week)
    assert not closed["open"]
    assert [reason.split(":")[0] for reason in closed["reasons"]] == ["deliveries", "stores", "products"]
    drop(services, HEADER + LINES)
    drop(services, STORES, "stores/2017-W40/stores.csv")
    drop(services, PRODUCTS, "products/2017-W40/products.csv")
    for source in ("deliveries", "stores", "products"):
        condition(services, source)
    gate = data_gate(services.lake, services.scenario, week)
    assert gate["open"], gate["reasons"]
    assert gate["orphans"]["products"]["examples"] == ["P00002"]
    assert gate["sources"]["deliveries"]["rows"] == 2
    assert not data_gate(services.lake, services.scenario, week.plus(1))["open"]


def test_the_gate_shuts_on_too_many_quarantined_records(services: Services) -> None:
    drop(services, HEADER + LINES + BAD)
    drop(services, STORES, "stores/2017-W40/stores.csv")
    drop(services, PRODUCTS, "products/2017-W40/products.csv")
    for source in ("deliveries", "stores", "products"):
        condition(services, source)
    gate = data_gate(services.lake, services.scenario, SalesWeek.parse("2017-W46"))
    assert gate["reasons"] == ["deliveries: 33.3% of the records of 2017-W45 are quarantined; 5.0% are allowed"]
