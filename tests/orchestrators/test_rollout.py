"""A rollout on two real deployments behind the router: it takes over step by step, or goes back and says why."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from adapters.endpoint_local import Router
from adapters.endpoint_router import RouterEndpoint
from domain import activity_names as names
from domain.errors import BadRequest, Conflict, NotFound, Unavailable
from domain.rollout import Probe, RolloutPlan, stop_reasons
from ml_jobs.forecasting import model_files
from ml_jobs.forecasting.panel import read_panel
from ml_jobs.forecasting.scheme import Segments
from ml_jobs.forecasting.serving import write_features
from orchestrators.audit import read_audit
from orchestrators.rollout import cancel_rollout, show_rollout, start_rollout
from tests.ml_jobs.conftest import TrainedFolder, data, trained
from tests.ml_jobs.inference_server import inference_server
from tests.ml_jobs.small_folder import CUTOFF, STORES
from tests.orchestrators.conftest import ScriptedServices
from tests.orchestrators.durable_driver import Driver

__all__ = ["data", "trained"]  # fixtures of the models' tests
WISH = {"production": "blue", "candidate": "green", "reason": "models of 2017-W40",
        "sample": [{"store_id": store} for store in STORES]}
PATIENT = WISH | {"max_slowdown": 100.0}  # how quick a busy machine answers is not what these tests are about


@pytest.fixture(scope="module")
def servers(trained: TrainedFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Three inference servers with our scoring script: blue, green with the same models, broken with a wrong one."""
    folder = tmp_path_factory.mktemp("deployments")
    panel = read_panel(trained.data, CUTOFF)
    for name in ("blue", "green", "broken"):
        shutil.copytree(trained.models, folder / name)
    for place in (folder / "broken").glob("*/MLmodel"):
        model = model_files.load(place.parent)
        if model.ensemble is not None:
            members = model.ensemble.members
            lasso = replace(members.lasso, intercept=members.lasso.intercept + 2.0)
            model_files.save(replace(model, ensemble=replace(model.ensemble, net_weight=0.0,
                                                             members=replace(members, lasso=lasso))), place.parent)
    for name in ("blue", "green", "broken"):
        write_features(panel, Segments.of(panel), folder / name, folder / name / "features.npz")
    with (inference_server(folder / "blue") as blue, inference_server(folder / "green") as green,
          inference_server(folder / "broken") as broken):
        yield {"blue": blue, "green": green, "broken": broken}


@pytest.fixture
def router(servers: dict[str, str], services: ScriptedServices) -> Iterator[Router]:
    made = Router({"blue": servers["blue"], "green": servers["green"]}, {"blue": 100})
    services.online_endpoint = RouterEndpoint(made.url)
    yield made
    made.close()


def roll_out(services: ScriptedServices, on_tick: Any = lambda: None, **wish: Any) -> tuple[dict[str, Any], Driver]:
    rollout_id, is_running = start_rollout(services, PATIENT | wish)
    assert is_running
    driver = Driver(services, services.clock, on_tick=on_tick)
    plan = show_rollout(services, rollout_id)["plan"]
    driver.start(names.ROLL_OUT, rollout_id, {"rollout_id": rollout_id, "plan": plan})
    ended = driver.run(rollout_id)
    document = show_rollout(services, rollout_id)
    assert ended.result["status"] == document["status"]
    return document, driver


@pytest.mark.long
def test_a_good_candidate_takes_over_step_by_step(services: ScriptedServices, router: Router) -> None:
    seen = []
    document, _ = roll_out(services, lambda: seen.append((router.live, router.mirror)))
    assert document["status"] == "completed"
    assert [stage["stage"] for stage in document["stages"]] == ["test", "mirror 10 %", "10 %", "50 %", "100 %"]
    assert seen == [({"blue": 100}, {"green": 10}), ({"blue": 90, "green": 10}, {}), ({"blue": 50, "green": 50}, {}),
                    ({"green": 100}, {})]
    assert router.live == {"green": 100}
    units = {stage["candidate"]["units"] for stage in document["stages"]}
    assert units == {document["stages"][0]["production"]["units"]}
    assert document["stages"][-1]["endpoint"] == {**document["stages"][-1]["endpoint"], "requests": 6, "failed": 0}
    assert [entry["action"] for entry in read_audit(services.lake)] == ["rollout_completed", "rollout_started"]


@pytest.mark.long
def test_a_candidate_with_wrong_forecasts_never_gets_traffic(
    services: ScriptedServices, router: Router, servers: dict[str, str]
) -> None:
    router.deployments["green"] = servers["broken"]
    document, _ = roll_out(services)
    assert document["status"] == "rolled_back"
    assert [stage["stage"] for stage in document["stages"]] == ["test"]
    assert "green forecasts +" in document["message"]
    assert "more than 25% away from blue" in document["message"]
    assert router.live == {"blue": 100}
    assert "green 200" not in router.counts


@pytest.mark.long
@pytest.mark.parametrize(("percent", "reason"), [(10, "green failed 6 of 6 requests (HTTP 502)"), (50, "green failed")])
def test_a_candidate_that_breaks_under_traffic_is_rolled_back(
    services: ScriptedServices, router: Router, percent: int, reason: str
) -> None:
    def break_it() -> None:
        if router.live.get("green") == percent:
            router.deployments["green"] = "http://127.0.0.1:9"

    document, _ = roll_out(services, break_it)
    assert document["status"] == "rolled_back"
    assert document["stages"][-1]["stage"] == f"{percent} %"
    assert reason in document["message"]
    assert router.live == {"blue": 100}
    assert read_audit(services.lake)[0]["details"]["message"] == document["message"]


@pytest.mark.long
def test_an_operator_can_stop_it(services: ScriptedServices, router: Router) -> None:
    def cancel() -> None:
        if router.live.get("green") == 50:
            (rollout_id,) = [blob.path.split("/")[1].removesuffix(".json")
                             for blob in services.lake.list("runs", "rollouts/")]
            cancel_rollout(services, rollout_id, "ada", "complaints")

    document, _ = roll_out(services, cancel)
    assert document["status"] == "rolled_back"
    assert document["message"] == "50 %: cancelled by ada: complaints"
    assert router.live == {"blue": 100}
    with pytest.raises(Conflict, match="has ended"):
        cancel_rollout(services, document["rollout_id"], "ada", "again")
    assert start_rollout(services, PATIENT) == (document["rollout_id"], False)


class SlowPlatform:
    """An endpoint as a cloud has it: a change takes several looks, and some looks fail."""

    def __init__(self) -> None:
        self.live: dict[str, int] = {"blue": 100}
        self.looks = 0

    def set_traffic(self, live: dict[str, int], mirror: dict[str, int]) -> bool:
        self.looks += 1
        if self.looks % 40 == 7:
            raise Unavailable("try again")
        if self.looks % 40:
            return False
        self.live = dict(live)
        return True

    def ask(self, body: dict[str, Any], deployment: str = "") -> Probe:
        return Probe(200, 5.0, {"p": 1.0})


def test_a_slow_platform_is_waited_for_without_end_of_history(services: ScriptedServices) -> None:
    services.online_endpoint = platform = SlowPlatform()
    document, driver = roll_out(services)
    assert document["status"] == "completed"
    assert platform.live == {"green": 100}
    assert driver.longest_history < 500
    assert [stage["stage"] for stage in document["stages"]] == ["test", "mirror 10 %", "10 %", "50 %", "100 %"]


def test_one_rollout_at_a_time_and_only_with_an_endpoint(services: ScriptedServices) -> None:
    services.online_endpoint = SlowPlatform()
    first, _ = start_rollout(services, WISH)
    assert start_rollout(services, WISH) == (first, True)
    with pytest.raises(Conflict, match="is running"):
        start_rollout(services, WISH | {"reason": "another"})
    with pytest.raises(NotFound):
        show_rollout(services, "rollout-green-0")


@pytest.mark.parametrize("wrong", [
    {"candidate": "blue"}, {"candidate": ""}, {"sample": []}, {"sample": [1]}, {"reason": " "}, {"steps": [10]},
    {"steps": [50, 10, 100]}, {"mirror_percent": 60}, {"soak_seconds": -1}, {"max_shift": "much"},
])
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as caught:
        RolloutPlan.from_dict(WISH | wrong)
    assert caught.value.fields["field"] in wrong


PLAN = RolloutPlan.from_dict(WISH)
GOOD = Probe(200, 20.0, {"a": 4.0, "b": 6.0})


@pytest.mark.parametrize(("new", "reason"), [
    (GOOD, ""),
    (Probe(500, 1.0, {}), "green failed 1 of 1 requests (HTTP 500)"),
    (Probe(0, 1.0, {}), "no answer"),
    (Probe(200, 20.0, {"a": 10.0}), "other products"),
    (Probe(200, 20.0, {"a": -1.0, "b": 11.0}), "negative or infinite"),
    (Probe(200, 20.0, {"a": float("nan"), "b": 1.0}), "negative or infinite"),
    (Probe(200, 20.0, {"a": 4.0, "b": 9.0}), "+30% units"),
    (Probe(200, 120.0, GOOD.units), "slowest twentieth"),
    (Probe(200, 90.0, GOOD.units), ""),
])
def test_what_stops_a_rollout(new: Probe, reason: str) -> None:
    reasons = stop_reasons(PLAN, [GOOD], [new])
    assert (reason in "; ".join(reasons)) if reason else not reasons


def test_production_that_answers_nothing_is_no_yardstick() -> None:
    assert "blue answers none" in stop_reasons(PLAN, [Probe(500, 1.0, {})], [GOOD])[0]
    assert "the endpoint failed 1 of 1" in stop_reasons(PLAN, [GOOD], [GOOD], [Probe(503, 1.0, {})])[0]


def test_a_router_that_is_gone_is_a_matter_of_time() -> None:
    with pytest.raises(Unavailable):
        RouterEndpoint("http://127.0.0.1:9").set_traffic({"blue": 100}, {})
