"""The factory's pipelines against the real functions, through a proxy that loses requests, answers and time."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from devhost.adf.factory import Factory
from devhost.adf.runner import Options, PipelineRun, Runner, run_pipeline
from devhost.adf.spans import instant
from devhost.adf.triggers.blob_events import BlobEvent, BlobWatcher
from devhost.adf.triggers.service import deliver, fire_schedule
from domain import lake_paths
from domain.sales_weeks import SalesWeek
from orchestrators.webhook import GAP_SECONDS
from samples.raw_files import RawFile
from tests.adf.faulty_proxy import Fault, FaultyProxy
from tests.adf.real_app import ROOT, SOURCES, RealApp, deliveries, history, our_factory
from tests.adf.waiting import wait_until

WEEK = "2017-W45"
WEEKLY = f"weekly-{WEEK}-a1"
pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
RETRY_AFTER = 5  # seconds that the wait route asks for


@dataclass
class Bench:
    """The real functions with a year's autumn landed, behind the proxy, and the factory that calls them."""

    app: RealApp
    proxy: FaultyProxy
    factory: Factory

    def run(self, pipeline: str, **parameters: Any) -> PipelineRun:
        return self.run_with({}, pipeline, **parameters)

    def run_with(self, options: dict[str, Any], pipeline: str, **parameters: Any) -> PipelineRun:
        settings = Options(**{"url": self.proxy.url, "wait_scale": 100.0, **options})
        return run_pipeline(self.factory, pipeline, parameters, options=settings)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("real")
    with RealApp(folder, without_arrivals=True) as app, FaultyProxy(app.host.url) as proxy:
        app.land(history("2017-W44"))
        yield Bench(app, proxy, Factory.load(our_factory(folder / "adf")))


@pytest.fixture(scope="module")
def weekly(bench: Bench) -> PipelineRun:
    """The week's forecast, as its schedule starts it on Monday morning."""
    options = Options(url=bench.proxy.url, wait_scale=100)
    at = instant("2017-11-06T12:00:00Z")
    (ended,) = asyncio.run(fire_schedule(bench.factory, "tr_weekly", options, at=at))
    return ended


# ---- the weekly, event and callback pipelines


def test_the_weekly_pipeline_publishes_the_week_under_one_correlation_id(bench: Bench, weekly: PipelineRun) -> None:
    assert weekly.status == "Succeeded", weekly.message
    assert weekly.return_value == {"run_id": WEEKLY, "status": "succeeded", "message": "done", "failed_sources": []}
    run = bench.app.get(f"runs/{WEEKLY}")
    assert run["correlation_id"] == weekly.run_id
    assert len(bench.app.published([WEEK])[WEEK].splitlines()) - 1 == 20
    assert bench.app.get(f"forecasts/{WEEK}?limit=1")["rows"]
    correlated = {e.sent["correlation_id"] for e in bench.proxy.exchanges if e.method == "POST"}
    assert correlated == {weekly.run_id}


def test_the_weekly_pipeline_again_does_nothing_twice(bench: Bench, weekly: PipelineRun) -> None:
    jobs, publishes = bench.app.jobs(), bench.app.publishes()
    again = bench.run("pl_forecast_weekly", run_week=WEEK)
    assert again.return_value == weekly.return_value
    assert (bench.app.jobs(), bench.app.publishes()) == (jobs, publishes)


def test_a_file_that_arrives_is_conditioned_by_its_event(bench: Bench, weekly: PipelineRun) -> None:
    watcher = BlobWatcher(bench.app.connection, None)
    watcher.changes({lake_paths.LANDING})
    bench.app.land([deliveries(SalesWeek.parse(WEEK))])
    (event,) = watcher.changes({lake_paths.LANDING})
    about = "/admin/functions/condition_deliveries_arrived"
    _, function, _ = bench.app.host.call("GET", about, None, master_key(bench))
    assert function["isDisabled"], "or the host would condition the file itself"
    (ended,) = asyncio.run(deliver_all(bench, [event]))
    assert ended.status == "Succeeded", ended.message
    weeks = {week["sales_week"]: week for week in bench.app.get("quality/deliveries")["weeks"]}
    assert weeks[WEEK]["status"] == "accepted"


def test_the_callback_variant_is_called_back_by_the_app(bench: Bench, weekly: PipelineRun) -> None:
    begun = time.monotonic()
    ended = bench.run("pl_run_orchestration_webhook", kind="weekly", run_week=WEEK)
    assert ended.status == "Succeeded", ended.message
    assert ended.return_value["run_id"] == WEEKLY
    assert time.monotonic() - begun < GAP_SECONDS, "a run that has ended is told at once"


# ---- failures: the pipeline's status, and a message that names cause and remedy


def test_a_week_without_a_file_of_a_required_source_closes_the_gate(bench: Bench) -> None:
    before = bench.app.run_ids()
    ended = bench.run("pl_forecast_weekly", run_week="2017-W48")
    assert ended.status == "Failed"
    assert "The data gate of 2017-W48 is closed: deliveries: 2017-W47 is missing; the latest is of" in ended.message
    assert "Bring the missing or corrected files to landing/SOURCE/WEEK/" in ended.message
    assert bench.app.run_ids() == before, "nothing was started"


def test_a_file_that_is_mostly_wrong_closes_the_gate(bench: Bench) -> None:
    week = SalesWeek.parse("2017-W47")
    good = deliveries(week, "bad.txt", keep=slice(3))
    header, *rows = gzip.decompress(good.data).splitlines(keepends=True)
    bad = b"".join([header, *rows, *(row.replace(b"2017|", b"20x7|") for row in rows)])
    bench.app.land([RawFile("deliveries", str(week), "bad.txt", bad)])
    ended = bench.run("pl_forecast_weekly", run_week="2017-W48")
    assert ended.status == "Failed"
    assert "deliveries: 50.0% of the records of 2017-W47 are quarantined; 5.0% are allowed" in ended.message
    assert "GET /api/quality/SOURCE says what was refused" in ended.message


def test_a_source_that_cannot_be_reached_is_named_and_the_week_goes_on(bench: Bench, weekly: PipelineRun) -> None:
    with bench.proxy.faulty(Fault("refuse", "POST", "/api/condition/stores", 3)):
        ended = bench.run("pl_forecast_weekly", run_week=WEEK)
        (gate,) = bench.proxy.calls("POST", "/api/gate")
    assert ended.status == "Succeeded", ended.message
    assert ended.return_value["failed_sources"] == ["stores"]
    assert gate.body["warnings"] == ["stores: conditioning failed in this run; what the lake had before counts"]


def test_a_training_that_fails_is_named_and_its_remedy_works(bench: Bench, weekly: PipelineRun) -> None:
    with bench.app.faults(train_fails=["2017-W41"]):
        ended = bench.run("pl_backfill_week", run_week="2017-W42")
    assert ended.status == "Failed"
    assert "backfill-2017-W42-a1 ended failed: train: 3 of 3 jobs failed: r01-large-baseline: " in ended.message
    assert "the disk of the node is full" in ended.message
    remedy = "POST /api/runs/backfill-2017-W42-a1/replay with a reason"
    assert remedy in ended.message
    assert "2017-W42" not in bench.app.publishes()
    replay = "/api/runs/backfill-2017-W42-a1/replay"
    status, started, _ = bench.app.host.call("POST", replay, {"reason": "a new node", "dry_run": False})
    assert (status, started["run_id"]) == (202, "backfill-2017-W42-a2")
    again = bench.run("pl_backfill_week", run_week="2017-W42")
    assert again.status == "Succeeded", again.message
    assert bench.app.publishes().count("2017-W42") == 1
    assert "backfill-2017-W42-a2-pooled" not in bench.app.jobs(), "what had succeeded was adopted"


def test_a_week_that_must_not_be_published_is_refused(bench: Bench, weekly: PipelineRun) -> None:
    with bench.app.faults(score_far_too_high=["2017-W41"]):
        ended = bench.run("pl_backfill_week", run_week="2017-W41")
    assert ended.status == "Failed"
    assert "backfill-2017-W41-a1 ended failed: scoring_gate: the scoring gate is closed: r01-large-" in ended.message
    assert "units forecast," in ended.message and "POST /api/runs/backfill-2017-W41-a1/replay" in ended.message
    status, _, _ = bench.app.host.call("GET", "/api/forecasts/2017-W41")
    assert status == 404


def test_two_bad_answers_and_then_a_good_one_are_nobodys_business(bench: Bench, weekly: PipelineRun) -> None:
    routes = [("POST", "/api/condition/deliveries"), ("POST", "/api/runs"), ("GET", "/api/runs/backfill-2017-W40-a1")]
    jobs = set(bench.app.jobs())
    with bench.proxy.faulty(*(Fault(kind, *route, 1) for kind in ("lose", "refuse") for route in routes)):
        ended = bench.run("pl_backfill_week", run_week="2017-W40")
        asked = {route: [e.status for e in bench.proxy.calls(*route)][:3] for route in routes}
    assert ended.status == "Succeeded", ended.message
    assert asked == {routes[0]: [500, 503, 200], routes[1]: [500, 503, 202], routes[2]: asked[routes[2]]}
    assert asked[routes[2]][:2] == [500, 503]
    assert [run for run in bench.app.run_ids() if "W40" in run] == ["backfill-2017-W40-a1"], "a lost answer starts one"
    assert len(set(bench.app.jobs()) - jobs) == 5
    assert bench.app.publishes().count("2017-W40") == 1


def test_a_function_that_takes_longer_than_230_seconds_is_named_and_a_later_run_finds_its_work(bench: Bench) -> None:
    week = "2017-W43"
    bench.app.land([deliveries(SalesWeek.parse(week), f"corrected_{week}.txt.gz")])
    with bench.proxy.faulty(Fault("hang", "POST", "/api/condition/deliveries", 3)):
        ended = bench.run_with({"limit_scale": 460.0}, "pl_condition_source", source="deliveries", run_week=week)
        wait_until(lambda: len(bench.proxy.calls("POST", "/api/condition/deliveries")) == 3)  # the last one goes on
    assert ended.status == "Failed"
    assert "'condition/deliveries' failed with status-'GatewayTimeout'" in ended.message
    assert "no answer within 230 seconds" in ended.message
    again = bench.run("pl_condition_source", source="deliveries", run_week=week)
    assert again.return_value["status"] == "unchanged", "the function had gone on without its caller"


def test_a_run_that_lasts_longer_than_230_seconds_is_one_wait(bench: Bench, weekly: PipelineRun) -> None:
    looks = 230 // RETRY_AFTER + 2
    go = bench.app.folder / "go"

    def release() -> None:
        deadline = time.monotonic() + 120
        while len(bench.proxy.calls("GET", "/api/runs/")) < looks and time.monotonic() < deadline:
            time.sleep(0.05)
        go.touch()

    with bench.app.faults(train_waits_for=str(go)), bench.proxy.faulty():
        releasing = threading.Thread(target=release)
        releasing.start()
        ended = bench.run_with({"wait_scale": 500.0}, "pl_run_orchestration", kind="backfill", run_week="2017-W39")
        releasing.join()
        asked = [e for e in bench.proxy.calls("GET", "/api/runs/") if e.path.endswith("/wait")]
    assert ended.status == "Succeeded", ended.message
    assert all(e.status == 202 for e in asked[:-1]) and asked[-1].status == 200
    assert (len(asked) - 1) * RETRY_AFTER > 230
    assert len([a for a in ended.activities if a.activity_name == "Wait for run"]) == 1


# ---- storage events


async def deliver_all(bench: Bench, events: list[BlobEvent]) -> list[PipelineRun]:
    async with Runner(bench.factory, Options(url=bench.proxy.url, wait_scale=100)) as runner:
        found = await asyncio.gather(*(deliver(runner, event) for event in events))
    return [run for runs in found for run in runs]


def lake_state(app: RealApp) -> dict[str, bytes]:
    """What readers of the conditioned zone see: which version of each week is current, and its bytes."""
    lake, found = app.lake, {}
    for blob in lake.list(lake_paths.CONDITIONED):
        if blob.path.endswith("/current.json"):
            version = lake.read_json(lake_paths.CONDITIONED, blob.path)[0]["data_version"]
            data = f"{blob.path.rpartition('/')[0]}/{version}.csv"
            found[data] = lake.read(lake_paths.CONDITIONED, data).data
    return found


def test_events_twice_out_of_order_and_a_fifth_never_end_in_the_same_lake_after_the_sweep(bench: Bench) -> None:
    week = SalesWeek.parse("2017-W36")
    bench.app.land([deliveries(week, f"again_{week}.txt.gz", keep=slice(4, None))])  # supersedes an earlier file
    watcher = BlobWatcher(bench.app.connection, None)
    watcher._known = {}  # a trigger that was started before the first file arrived
    events = watcher.changes({lake_paths.LANDING})
    rolls = random.Random(11)
    faulty = [event for event in events if rolls.random() > 0.2]
    assert len(faulty) < len(events)
    faulty += [event for event in faulty if rolls.random() < 0.5]
    rolls.shuffle(faulty)

    def end_state(delivered: list[BlobEvent]) -> tuple[dict[str, bytes], int]:
        for container in (lake_paths.CONDITIONED, lake_paths.QUARANTINE):
            for blob in bench.app.lake.list(container):
                bench.app.lake.delete(container, blob.path)
        runs = asyncio.run(deliver_all(bench, delivered))
        assert {run.status for run in runs} == {"Succeeded"} and len(runs) == len(delivered)
        before = len(lake_state(bench.app))
        status, *_ = bench.app.host.call("POST", "/admin/functions/condition_missed_files", {}, master_key(bench))
        assert status == 202
        return wait_for_weeks(bench, {(e.name.split("/")[0], e.name.split("/")[1]) for e in events}), before

    undisturbed, complete = end_state(events)
    healed, incomplete = end_state(faulty)
    assert incomplete < complete, "the sweep had something to do"
    assert healed == undisturbed


def master_key(bench: Bench) -> dict[str, str]:
    keys = json.loads((bench.app.folder / "data" / "keys.json").read_text("utf-8"))
    return {"x-functions-key": keys["master"]}


def wait_for_weeks(bench: Bench, wanted: set[tuple[str, str]]) -> dict[str, bytes]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        state = lake_state(bench.app)
        if {tuple(path.split("/")[:2]) for path in state} == wanted:
            return state
        time.sleep(0.1)
    raise AssertionError(f"the sweep left out {wanted - {tuple(path.split('/')[:2]) for path in state}}")


# ---- what was answered is what the OpenAPI document says


def template_of(path: str, templates: Iterable[str]) -> str:
    """The path of the document that a called one is of; a literal one goes before one with a parameter."""
    parts = path.split("/")
    found = [
        template
        for template in templates
        if len(template.split("/")) == len(parts)
        and all(t.startswith("{") or t == part for t, part in zip(template.split("/"), parts, strict=True))
    ]
    assert found, f"{path} is not in the document"
    return min(found, key=lambda template: template.count("{"))


def test_every_answer_was_as_the_openapi_document_says(bench: Bench, weekly: PipelineRun) -> None:
    document = json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8"))
    seen = set()
    for exchange in bench.proxy.exchanges:
        if exchange.fault in ("refuse", "lose"):
            continue
        template = template_of(exchange.path.removeprefix("/api"), document["paths"])
        seen.add((exchange.method, template))
        answer = document["paths"][template][exchange.method.lower()]["responses"][str(exchange.status)]
        schema = answer["content"]["application/json"]["schema"] | {"components": document["components"]}
        Draft202012Validator(schema).validate(exchange.body)
    assert seen >= {
        ("POST", "/condition/{source}"), ("POST", "/gate/{sales_week}"), ("POST", "/runs"),
        ("GET", "/runs/{run_id}/wait"),
    }  # fmt: skip
    assert {e.sent["sales_week"] for e in bench.proxy.exchanges if e.path == "/api/runs"} >= {WEEK}
    assert set(SOURCES) <= {e.path.rpartition("/")[2] for e in bench.proxy.exchanges if "/condition/" in e.path}
