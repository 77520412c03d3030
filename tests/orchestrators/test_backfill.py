"""A past week with the data as they were known then: the same bytes each time; a late file changes what came later."""

from __future__ import annotations

from typing import Any

from conditioning.curate import curate_week
from domain import activity_names as names
from domain.sales_weeks import SalesWeek
from orchestrators.ledger import RunLedger
from orchestrators.publishing import current_version
from tests.orchestrators.memory_lake import MemoryLake
from tests.orchestrators.test_operator_story import conditioned, seed
from tests.orchestrators.world import WEEK, World, make_world

BEFORE, AFTER = "2017-11-06T00:00:00Z", "2017-11-08T00:00:00Z"


def business() -> World:
    """The real curation on a lake that knows what arrived when."""
    lake = MemoryLake()
    world = make_world(lake)
    document = world.services.scenario
    world.services.scenario = type(document)(**{
        **{name: getattr(document, name) for name in document.__dataclass_fields__},
        "regions": tuple(f"r{n:02d}" for n in range(1, 15)), "store_formats": ("large", "small"),
        "history_start": SalesWeek.parse("2017-W35"),
    })
    seed(lake)
    return world


def backfill(world: World, as_of: str) -> tuple[str, bytes]:
    """Return (as-of version, published bytes) of a forced back-fill."""
    driver = world.driver()
    driver.bodies[names.CURATE_WEEK] = curate_week
    run_id = world.run("backfill", driver, as_of=as_of, force=True, reason="look back")
    run = RunLedger(world.services.lake).run(run_id)
    assert run["status"] == "succeeded", run["message"]
    version = current_version(world.services.lake, SalesWeek.parse(WEEK))["publish_version"]
    lake: Any = world.services.lake
    return run["as_of_version"], lake.read("published", f"{WEEK}/{version}/forecasts.csv").data


def test_a_late_file_changes_only_what_was_known_later() -> None:
    world = business()
    first = backfill(world, BEFORE)
    assert backfill(world, BEFORE) == first
    late = [
        {"store_id": f"{n:02d}0", "product_id": "p0", "delivery_date": "2017-10-30", "units": 99} for n in range(1, 15)
    ]
    conditioned(world.services.lake, "deliveries", "2017-W44", late, ended_at="2017-11-07T09:00:00.000+00:00")
    assert backfill(world, BEFORE) == first
    later = backfill(world, AFTER)
    assert later[0] != first[0] and later[1] != first[1]
