"""What every online endpoint behind the port promises; the same tests run on the router and on Azure ML's own SDK."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

import pytest

from adapters.azureml_client import AzureMl
from adapters.endpoint_azureml import AzureMlEndpoint
from adapters.endpoint_local import Router
from adapters.endpoint_router import RouterEndpoint
from domain import activity_names as names
from domain.errors import BadRequest, NotFound, Throttled, Unavailable
from domain.ports import OnlineEndpoint
from domain.rollout import RolloutPlan
from orchestrators.rollout import show_rollout, start_rollout
from tests.adapters.platforms import until
from tests.control_plane.endpoints import ONLINE, Answer
from tests.control_plane.faults import Fault
from tests.control_plane.server import ControlPlane
from tests.orchestrators.conftest import ScriptedServices, services
from tests.orchestrators.durable_driver import Driver

__all__ = ["services"]  # a fixture of the orchestrators' tests
STORE = {"store_id": "001"}
PLAN = RolloutPlan.from_dict({"production": "blue", "candidate": "green", "reason": "test", "sample": [STORE]})


@dataclass
class Behaviour:
    """What the deployments answer: units of one product, or a status that is no answer."""

    units: dict[str, float]
    status: dict[str, int]

    def of(self, name: str) -> Answer:
        def answer(_body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            if self.status[name] != 200:
                return self.status[name], {"title": "broken"}
            return 200, {"forecasts": [{"product_id": "p", "units": self.units[name]}]}

        return answer


class World(Protocol):
    port: OnlineEndpoint
    behaviour: Behaviour

    def shares(self) -> tuple[dict[str, int], dict[str, int]]:
        """Live and mirrored shares in force."""


class RouterWorld:
    def __init__(self) -> None:
        self.behaviour = Behaviour({"blue": 4.0, "green": 5.0}, {"blue": 200, "green": 200})
        self.servers = {name: _serve(self.behaviour.of(name)) for name in ("blue", "green")}
        addresses = {name: f"http://127.0.0.1:{server.server_address[1]}" for name, server in self.servers.items()}
        self.router = Router(addresses, {"blue": 100})
        self.port = RouterEndpoint(self.router.url)

    def shares(self) -> tuple[dict[str, int], dict[str, int]]:
        return self.router.live, self.router.mirror

    def close(self) -> None:
        self.router.close()
        for server in self.servers.values():
            server.shutdown()
            server.server_close()


class AzureWorld:
    def __init__(self, plane: ControlPlane) -> None:
        self.behaviour = Behaviour({"blue": 4.0, "green": 5.0}, {"blue": 200, "green": 200})
        answers = {name: self.behaviour.of(name) for name in ("blue", "green")}
        self.endpoint = plane.endpoints.online("shelfcast-online", answers, {"blue": 100})
        self.port = azure_endpoint(plane)

    def shares(self) -> tuple[dict[str, int], dict[str, int]]:
        return self.endpoint.properties["traffic"], self.endpoint.properties["mirrorTraffic"]


def azure_endpoint(plane: ControlPlane, name: str = "shelfcast-online") -> AzureMlEndpoint:
    found = plane.environment
    return AzureMlEndpoint(AzureMl(found["AML_SUBSCRIPTION_ID"], found["AML_RESOURCE_GROUP"], found["AML_WORKSPACE"]),
                           name)


def _serve(answer: Answer) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, document = answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            text = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


@pytest.fixture(params=["router", "azureml"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "azureml":
        yield AzureWorld(request.getfixturevalue("plane"))
        return
    made = RouterWorld()
    yield made
    made.close()


@pytest.fixture
def azure(plane: ControlPlane) -> AzureWorld:
    return AzureWorld(plane)


def bring(port: OnlineEndpoint, live: Mapping[str, int], mirror: Mapping[str, int]) -> None:
    until(lambda: port.set_traffic(live, mirror))


def test_every_stage_of_a_rollout_comes_into_force_and_back(world: World) -> None:
    for stage in (*PLAN.stages, PLAN.before):
        bring(world.port, stage.live, stage.mirror)
        assert world.shares() == (stage.live, stage.mirror), stage.name
        assert world.port.set_traffic(stage.live, stage.mirror)


@pytest.mark.parametrize(("live", "mirror"), [
    ({"blue": 90}, {}), ({"blue": 50, "purple": 50}, {}), ({"blue": 100}, {"purple": 10}),
    ({"blue": 100}, {"green": 60}), ({"blue": 50, "green": 50}, {"green": 10}),
])
def test_shares_that_make_no_sense_are_refused_and_change_nothing(
    world: World, live: dict[str, int], mirror: dict[str, int]
) -> None:
    with pytest.raises(BadRequest):
        world.port.set_traffic(live, mirror)
    assert world.shares() == ({"blue": 100}, {})


def test_a_request_goes_to_the_named_deployment_or_to_the_one_that_is_due(world: World) -> None:
    assert world.port.ask(STORE, "green").units == {"p": 5.0}
    assert world.port.ask(STORE).units == {"p": 4.0}  # the name of the request before is forgotten
    assert world.port.ask(STORE, "blue").units == {"p": 4.0}
    assert world.port.ask(STORE, "purple").status == 404
    bring(world.port, {"blue": 50, "green": 50}, {})
    assert {world.port.ask(STORE).units["p"] for _ in range(8)} == {4.0, 5.0}


def test_a_broken_deployment_is_an_answer_and_no_error(world: World) -> None:
    world.behaviour.status["green"] = 500
    broken = world.port.ask(STORE, "green")
    assert (broken.status, broken.units) == (500, {})
    assert world.port.ask(STORE, "blue").status == 200


def roll_out(
    services: ScriptedServices, port: OnlineEndpoint, on_tick: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    services.online_endpoint = port
    rollout_id, _ = start_rollout(services, PLAN.to_dict())
    driver = Driver(services, services.clock, on_tick=on_tick)
    driver.start(names.ROLL_OUT, rollout_id, {"rollout_id": rollout_id, "plan": PLAN.to_dict()})
    driver.run(rollout_id)
    return show_rollout(services, rollout_id)


# -- Azure ML only ---------------------------------------------------------------------------------------------------


def test_a_change_takes_its_time_and_is_sent_once(azure: AzureWorld, plane: ControlPlane) -> None:
    plane.endpoints.takes = 0.4
    assert not azure.port.set_traffic({"blue": 90, "green": 10}, {})
    assert not azure.port.set_traffic({"blue": 90, "green": 10}, {})
    assert azure.shares() == ({"blue": 100}, {})
    bring(azure.port, {"blue": 90, "green": 10}, {})
    assert azure.endpoint.puts == 1


def test_a_change_that_failed_or_met_another_one_is_made_again(azure: AzureWorld, plane: ControlPlane) -> None:
    plane.endpoints.ends = "Failed"
    assert not azure.port.set_traffic({"green": 100}, {})
    plane.endpoints.ends = "Succeeded"
    bring(azure.port, {"green": 100}, {})
    plane.faults.add(Fault("error", method="PUT", path=f"/{ONLINE}/", status=409))
    assert not azure.port.set_traffic({"blue": 100}, {})
    bring(azure.port, {"blue": 100}, {})
    assert azure.endpoint.puts == 3


@pytest.mark.parametrize("kind", ["lost_before", "lost_after", "reset", "error", "garbled", "html"])
def test_whatever_happens_to_the_change_asking_again_ends_well(
    azure: AzureWorld, plane: ControlPlane, kind: str
) -> None:
    plane.faults.add(Fault(kind, method="PUT", path=f"/{ONLINE}/", times=4))

    def done() -> bool:
        try:
            return azure.port.set_traffic({"blue": 50, "green": 50}, {})
        except Unavailable:
            return False

    until(done)
    assert azure.shares() == ({"blue": 50, "green": 50}, {})


def test_nobody_sleeps_on_429(azure: AzureWorld, plane: ControlPlane) -> None:
    plane.faults.add(Fault("throttle", method="GET", path=f"/{ONLINE}/"))
    with pytest.raises(Throttled) as caught:
        azure.port.set_traffic({"green": 100}, {})
    assert caught.value.fields["retry_after"] == 17


def test_no_token_says_nothing_of_the_deployments(azure: AzureWorld, plane: ControlPlane) -> None:
    plane.faults.add(Fault("error", path="/identity/", status=400, times=-1))
    with pytest.raises(Unavailable):
        azure.port.ask(STORE, "green")
    plane.faults.clear()
    assert azure.port.ask(STORE, "green").status == 200


def test_an_endpoint_that_is_not_there(plane: ControlPlane) -> None:
    with pytest.raises(NotFound):
        azure_endpoint(plane, "elsewhere").set_traffic({"blue": 100}, {})


def test_a_rollout_reaches_its_end_through_every_kind_of_fault(
    azure: AzureWorld, plane: ControlPlane, services: ScriptedServices
) -> None:
    azure.behaviour.units["green"] = 4.2
    plane.endpoints.takes = 0.05
    plane.faults.random(0.2, seed=5, path="/workspaces/",
                        kinds=("lost_before", "lost_after", "reset", "throttle", "error", "garbled"))
    document = roll_out(services, azure.port)
    assert document["status"] == "completed", document["message"]
    assert azure.shares() == ({"green": 100}, {})
    assert sum(plane.faults.counts.values()) > 5


def test_a_candidate_that_breaks_is_taken_out_again(
    azure: AzureWorld, plane: ControlPlane, services: ScriptedServices
) -> None:
    def break_it() -> None:
        if azure.endpoint.properties["traffic"].get("green") == 10:
            azure.behaviour.status["green"] = 500

    azure.behaviour.units["green"] = 4.2
    document = roll_out(services, azure.port, break_it)
    assert document["status"] == "rolled_back"
    assert "10 %: green failed 1 of 1 requests (HTTP 500)" in document["message"]
    assert azure.shares() == ({"blue": 100}, {})
