"""Online and batch endpoints of the workspace: deployments, traffic that takes its time, scoring by name or by share.

A deployment is a function here. Rules are the service's: shares sum to 100, one deployment is mirrored, with at most
half of the requests and no live ones, one change of an endpoint at a time, a batch endpoint has one default.
"""

from __future__ import annotations

import copy
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.control_plane.workspace import SUBSCRIPTION, Job, Refused, Workspace

Answer = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]
ONLINE, BATCH = "onlineEndpoints", "batchEndpoints"


@dataclass
class Endpoint:
    """One endpoint; `properties` are in force, `wanted` come into force after `takes` seconds."""

    name: str
    kind: str
    properties: dict[str, Any]
    deployments: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    wanted: dict[str, Any] | None = None
    settled_at: float = 0.0
    ends: str = "Succeeded"
    puts: int = 0


@dataclass
class Endpoints:
    """All endpoints of a workspace. `takes` is how long a change lasts, `ends` how the next ones end."""

    workspace: Workspace
    takes: float = 0.0
    ends: str = "Succeeded"
    audience: str = ""
    on_invoke: Callable[[str, str, str], str] = lambda _deployment, _data, _out: "Completed"
    known: dict[tuple[str, str], Endpoint] = field(default_factory=dict)
    jobs_by_repeat_id: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._turns = itertools.count()

    def online(self, name: str, answers: dict[str, Answer], live: dict[str, int]) -> Endpoint:
        """Make an online endpoint with its deployments."""
        base = self.workspace.base_url
        made = Endpoint(name, ONLINE, {
            "authMode": "AADToken", "traffic": live, "mirrorTraffic": {}, "publicNetworkAccess": "Disabled",
            "scoringUri": f"{base}/scoring/{ONLINE}/{name}/score", "properties": {}, "provisioningState": "Succeeded",
        }, answers=answers)
        made.deployments = {deployment: _online_deployment() for deployment in answers}
        self.known[ONLINE, name] = made
        return made

    def batch(self, name: str) -> Endpoint:
        """Make a batch endpoint without deployments."""
        made = Endpoint(name, BATCH, {
            "authMode": "AADToken", "defaults": {"deploymentName": ""}, "properties": {},
            "scoringUri": f"{self.workspace.base_url}/scoring/{BATCH}/{name}/jobs", "provisioningState": "Succeeded",
        })
        self.known[BATCH, name] = made
        return made

    # -- management ------------------------------------------------------------------------------------------------

    def manage(self, method: str, parts: list[str], body: Any) -> tuple[int, Any, dict[str, str]]:
        """Answer a request below the workspace; parts begin with the kind."""
        with self._lock:
            match method, parts:
                case "GET", [kind, name]:
                    return 200, self._document(self._settled(kind, name)), {}
                case "PUT", [kind, name]:
                    return self._put(self._settled(kind, name), body["properties"])
                case "GET", [kind, name, "deployments"]:
                    endpoint = self._settled(kind, name)
                    return 200, {"value": [self._deployment(endpoint, own) for own in endpoint.deployments]}, {}
                case "GET", [kind, name, "deployments", own]:
                    return 200, self._deployment(self._settled(kind, name), own), {}
                case "PUT", [kind, name, "deployments", own]:
                    return self._deploy(self._settled(kind, name), own, body["properties"])
        raise Refused(404, "ResourceNotFound", f"{method} {'/'.join(parts)} is not served")

    def operation(self, kind: str, name: str) -> dict[str, Any]:
        """Return the state of the change of an endpoint that is under way or was last."""
        with self._lock:
            endpoint = self._settled(kind, name)
            return {"status": "InProgress" if endpoint.wanted else endpoint.properties["provisioningState"]}

    def _settled(self, kind: str, name: str) -> Endpoint:
        endpoint = self.known.get((kind, name))
        if endpoint is None:
            raise Refused(404, "ResourceNotFound", f"{kind}/{name} was not found")
        if endpoint.wanted is not None and time.monotonic() >= endpoint.settled_at:
            if endpoint.ends == "Succeeded":
                endpoint.properties |= endpoint.wanted
            endpoint.properties["provisioningState"], endpoint.wanted = endpoint.ends, None
        return endpoint

    def _put(self, endpoint: Endpoint, properties: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        if endpoint.wanted is not None:
            raise Refused(409, "Conflict", "Already running method PUT: the endpoint is being updated")
        if endpoint.kind == ONLINE:
            live, mirror = properties.get("traffic") or {}, properties.get("mirrorTraffic") or {}
            _check_traffic(endpoint, live, mirror)
            endpoint.wanted = {"traffic": live, "mirrorTraffic": mirror}
        else:
            name = (properties.get("defaults") or {}).get("deploymentName")
            if name and name not in endpoint.deployments:
                raise Refused(400, "UserError", f"the default {name} is not a deployment of the endpoint")
            endpoint.wanted = {"defaults": {"deploymentName": name}}
        endpoint.puts += 1
        endpoint.ends, endpoint.settled_at = self.ends, time.monotonic() + self.takes
        endpoint.properties["provisioningState"] = "Updating"
        return 200, self._document(endpoint), self._operation_headers(endpoint)

    def _operation_headers(self, endpoint: Endpoint) -> dict[str, str]:
        url = f"{self.workspace.base_url}/endpointoperations/{endpoint.kind}/{endpoint.name}"
        return {"Azure-AsyncOperation": url, "Retry-After": "1"}

    def _deploy(self, endpoint: Endpoint, own: str, properties: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        there = endpoint.deployments.get(own)
        if there is not None and there["until"] > time.monotonic():
            raise Refused(409, "Conflict", "Already running method PUT: the deployment is being created")
        model = properties["model"]["assetId"].rsplit("/models/", 1)[1].replace("/versions/", ":")
        name, version = model.split(":")
        self.workspace.get_model(name, version)
        endpoint.deployments[own] = {
            **copy.deepcopy(properties), "until": time.monotonic() + self.takes, "ends": self.ends,
            "puts": (there or {}).get("puts", 0) + 1,
        }
        return 201, self._deployment(endpoint, own), self._operation_headers(endpoint)

    def _document(self, endpoint: Endpoint) -> dict[str, Any]:
        return {
            "id": f"{self.workspace.path}/{endpoint.kind}/{endpoint.name}", "name": endpoint.name,
            "location": "westeurope", "tags": {}, "properties": copy.deepcopy(endpoint.properties),
            "identity": {"type": "SystemAssigned", "principalId": SUBSCRIPTION, "tenantId": SUBSCRIPTION},
            "systemData": _SYSTEM_DATA,
        }

    def _deployment(self, endpoint: Endpoint, own: str) -> dict[str, Any]:
        found = endpoint.deployments.get(own)
        if found is None:
            raise Refused(404, "ResourceNotFound", f"{endpoint.name} has no deployment {own}")
        properties = {key: value for key, value in found.items() if key not in ("until", "ends", "puts")}
        properties["provisioningState"] = "Creating" if found["until"] > time.monotonic() else found["ends"]
        return {
            "id": f"{self.workspace.path}/{endpoint.kind}/{endpoint.name}/deployments/{own}", "name": own,
            "location": "westeurope", "tags": {}, "properties": properties, "systemData": _SYSTEM_DATA,
            "sku": {"name": "Default", "capacity": 1},
        }

    # -- data plane ------------------------------------------------------------------------------------------------

    def score(self, kind: str, name: str, headers: dict[str, str], body: Any) -> tuple[int, dict[str, Any]]:
        """Answer a request at the endpoint's address; the deployment is named or due."""
        if headers["audience"] != self.audience:
            return 401, {"error": {"code": "Unauthorized", "message": f"the token is for {headers['audience']}"}}
        with self._lock:
            endpoint = self._settled(kind, name)
            named = headers.get("azureml-model-deployment", "")
            if kind == BATCH:
                return self._invoke(endpoint, named or endpoint.properties["defaults"]["deploymentName"],
                                    headers.get("repeatability_request-id", ""), body)
            turn = next(self._turns) * 37 % 100
            live = [own for own, share in endpoint.properties["traffic"].items() for _ in range(share)]
            due = named or live[turn]
            if due not in endpoint.answers:
                return 404, {"error": {"code": "NotFound", "message": f"no deployment {due}"}}
        return endpoint.answers[due](body)

    def _invoke(self, endpoint: Endpoint, due: str, repeat_id: str, body: Any) -> tuple[int, dict[str, Any]]:
        if due not in endpoint.deployments:
            raise Refused(404, "NotFound", f"no deployment {due!r}")
        job = self.jobs_by_repeat_id.get(repeat_id)
        if job is None:
            job = f"batchjob-{len(self.workspace.jobs):08d}"
            (data,), (out,) = body["properties"]["inputData"].values(), body["properties"]["outputData"].values()
            ended = self.on_invoke(due, data["uri"], out["uri"])
            self.workspace.jobs[job] = Job(job, {"jobType": "Pipeline", "tags": {}, "properties": {}},
                                           self.workspace.clock(), [(0.0, "Running"), (0.2, ended)])
            if repeat_id:
                self.jobs_by_repeat_id[repeat_id] = job
        return 201, {"id": f"{self.workspace.path}/jobs/{job}", "name": job, "properties": {"status": "Preparing"}}


_SYSTEM_DATA = {
    "createdAt": "2026-01-05T06:00:00Z", "createdBy": "tests", "createdByType": "Application",
    "lastModifiedAt": "2026-01-05T06:00:00Z",
}


def _online_deployment() -> dict[str, Any]:
    probe = {"failureThreshold": 5, "initialDelay": "PT10S", "period": "PT10S", "timeout": "PT2S"}
    return {
        "endpointComputeType": "Managed", "instanceType": "Standard_DS3_v2", "properties": {}, "model": "m",
        "scaleSettings": {"scaleType": "Default"}, "livenessProbe": probe, "readinessProbe": probe,
        "requestSettings": {"requestTimeout": "PT5S", "maxConcurrentRequestsPerInstance": 4}, "until": 0.0,
        "ends": "Succeeded",
    }


def _check_traffic(endpoint: Endpoint, live: dict[str, int], mirror: dict[str, int]) -> None:
    unknown = sorted((set(live) | set(mirror)) - set(endpoint.deployments))
    if unknown:
        raise Refused(400, "BadArgument", f"deployments {unknown} do not exist")
    if sum(live.values()) not in (0, 100) or min(live.values(), default=0) < 0:
        raise Refused(400, "BadArgument", "the sum of traffic must be 0 or 100")
    if len(mirror) > 1 or any(not 0 < share <= 50 or live.get(name) for name, share in mirror.items()):
        raise Refused(400, "BadArgument", "mirror traffic goes to one deployment without live traffic, at most 50")
