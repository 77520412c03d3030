"""The routes that the factory calls, with faults on request."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections import Counter
from typing import Any

from tests.adf.fake_app import Asked, FakeApp, Reply


class ForecastApp(FakeApp):
    """Conditions, gates and runs in memory; a run ends after `polls` looks at its wait route."""

    def __init__(
        self,
        *,
        status: str = "succeeded",
        message: str = "published",
        reasons: tuple[str, ...] = (),
        dead: tuple[str, ...] = (),
        polls: int = 3,
        failing: dict[str, int] | None = None,
        slow: dict[str, float] | None = None,
    ) -> None:
        super().__init__(self._route)
        self.status, self.message, self.reasons, self.dead, self.polls = status, message, reasons, dead, polls
        self.failing = Counter(failing or {})
        self.slow = slow or {}
        self.started: dict[str, dict[str, Any]] = {}
        self.looked: Counter[str] = Counter()
        self.conditioned: set[str] = set()  # files, each counted once however often it is asked for
        self._lock = threading.Lock()

    def _route(self, asked: Asked) -> Reply:
        parts = asked.path.removeprefix("/api/").split("/")
        time.sleep(self.slow.get(parts[0], 0.0))
        with self._lock:
            if self.failing[parts[0]] > 0:
                self.failing[parts[0]] -= 1
                return Reply(500, {"title": "storage is busy"})
        match asked.method, parts:
            case "POST", ["condition", source]:
                return self._condition(source, asked.body)
            case "POST", ["gate", week]:
                gate = {"sales_week": week, "open": not self.reasons, "reasons": list(self.reasons)}
                return Reply(200, gate | {"remedy": "Bring the files" if self.reasons else ""})
            case "POST", ["runs"]:
                return self._start(asked.body)
            case "POST", ["runs", "webhook"]:
                answer = self._start(asked.body)
                threading.Thread(target=self._call_back, args=(asked.body, answer.body["run_id"])).start()
                return answer
            case "GET", ["runs", run_id, "wait"]:
                return self._wait(run_id)
        return Reply(404, {"title": "no such route"})

    def _condition(self, source: str, body: dict[str, Any]) -> Reply:
        if source in self.dead:
            return Reply(503, {"title": f"{source} cannot be reached"})
        if body.get("blob_path"):
            with self._lock:
                self.conditioned.add(body["blob_path"])
        counts = {"records_read": 10, "conditioned": 9, "quarantined": 1, "duplicates": 0}
        return Reply(200, {"source": source, "sales_week": body["sales_week"], "status": "accepted", "counts": counts})

    def _start(self, body: dict[str, Any]) -> Reply:
        run_id = f"{body['kind']}-{body['sales_week']}-a1"
        self.started.setdefault(run_id, body)
        wait_url = f"{self.url}/api/runs/{run_id}/wait"
        return Reply(202, {"run_id": run_id, "wait_url": wait_url}, {"Location": f"/api/runs/{run_id}"})

    def _wait(self, run_id: str) -> Reply:
        with self._lock:
            self.looked[run_id] += 1
            ended = self.looked[run_id] > self.polls
        if not ended:
            return Reply(202, {}, {"Location": f"/api/runs/{run_id}/wait", "Retry-After": "30"})
        return Reply(200, {"run_id": run_id, "status": self.status, "message": self.message, "remedy": "Replay it"})

    def _call_back(self, body: dict[str, Any], run_id: str) -> None:
        time.sleep(0.05)
        told: dict[str, Any] = {
            "Output": {"run_id": run_id, "status": self.status, "message": self.message},
            "StatusCode": "200",
        }
        if self.status not in ("succeeded", "degraded"):
            told |= {"StatusCode": "500", "Error": {"ErrorCode": f"run_{self.status}", "Message": self.message}}
        request = urllib.request.Request(
            body["callBackUri"], json.dumps(told).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=10):
            pass
