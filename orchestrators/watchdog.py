"""The hourly look for what goes wrong silently: a week that nobody ran, a run that hangs, models that age or got bad.

It reads the ledger, the registry and the published weeks, and says what it found as events for the alert rules. Its
own silence is an alert, so it also says that it looked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from domain import lake_paths
from domain.errors import ShelfcastError
from domain.job_items import is_in_flight
from domain.job_states import Phase
from domain.runs import RunStatus
from domain.sales_weeks import SalesWeek
from orchestrators import job_plans
from orchestrators.ledger import Document, RunLedger
from orchestrators.publishing import published_bytes
from orchestrators.reading import model_rows
from orchestrators.registry_names import PRODUCTION
from orchestrators.schedule import next_week
from orchestrators.services import RunServices

SLACK = timedelta(hours=6)  # a run may take so much longer than the deadlines of its jobs
BACKLOG_AFTER = timedelta(hours=1)  # that a job waits before somebody should know
DRIFT_FACTOR = 2.0  # forecasts beyond this factor of what was sold lately, either way
RUNS_LOOKED_AT = 30
LOSING_WEEKS = 2  # a model that loses against the history average so often in a row should go
PENDING_TOO_LONG, RUNNING_TOO_LONG = timedelta(minutes=15), timedelta(hours=24)
ABOVE_TARGET, WORSE_THAN_BASELINE = "above_target", "worse_than_baseline"  # the alert rules ask for these words


@dataclass(frozen=True)
class Finding:
    """One thing that a person should know; `event` is a name of adapters/telemetry_events.py."""

    event: str
    dimensions: dict[str, Any] = field(default_factory=dict)
    measures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Instance:
    """One orchestration as the task hub shows it."""

    instance_id: str
    is_pending: bool
    created_at: datetime


def look_around(services: RunServices, instances: Iterable[Instance] = ()) -> dict[str, Any]:
    """Emit every finding and one `watchdog` event; return {checked_at, findings, running}.

    `instances` are the task hub's unfinished orchestrations. A check that breaks is itself reported and does not stop
    the others. `running` are the runs that the ledger shows as running: the caller compares them with the task hub.
    """
    began, now = time.monotonic(), services.clock.now()
    checked_at = now.isoformat(timespec="seconds")
    running = [run for run in RunLedger(services.lake).runs(RUNS_LOOKED_AT) if not RunStatus(run["status"]).ended]
    checks: tuple[Callable[[], Iterable[Finding]], ...] = (
        lambda: _missing_week(services, now), lambda: _hanging_runs(services, running, now),
        lambda: _models(services), lambda: _drift(services), lambda: _backlog(services, running, now),
        lambda: _task_hub(instances, now),
    )
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check()
        except ShelfcastError as error:
            services.telemetry.exception(error, {"checked_at": checked_at})
    for finding in findings:
        services.telemetry.event(finding.event, {"checked_at": checked_at, **finding.dimensions}, finding.measures)
    measures = {"findings": float(len(findings)), "seconds": round(time.monotonic() - began, 3)}
    services.telemetry.event("watchdog", {"checked_at": checked_at}, measures)
    services.telemetry.flush()
    return {
        "checked_at": checked_at, "findings": [{"event": f.event, **f.dimensions} for f in findings],
        "running": [run["run_id"] for run in running],
    }


def _missing_week(services: RunServices, now: datetime) -> Iterable[Finding]:
    due = next_week(services.lake)
    if due is not None and due.has_arrived and now > due.due_at:
        yield Finding(
            "run_overdue",
            {"overdue_kind": "not_published", "due_week": str(due.sales_week), "due_at": due.due_at.isoformat()},
            {"hours_late": round((now - due.due_at).total_seconds() / 3600, 2)},
        )


def _hanging_runs(services: RunServices, running: list[Document], now: datetime) -> Iterable[Finding]:
    settings = services.settings
    allowed = timedelta(minutes=2 * settings.train_deadline_minutes + settings.score_deadline_minutes) + SLACK
    for run in running:
        due_at = datetime.fromisoformat(run["started_at"]) + allowed
        if now > due_at:
            yield Finding(
                "run_overdue",
                {"overdue_kind": "running", "due_week": run["sales_week"], "run_id": run["run_id"],
                 "due_at": due_at.isoformat(), "correlation_id": run["correlation_id"]},
                {"hours_late": round((now - due_at).total_seconds() / 3600, 2)},
            )


def _models(services: RunServices) -> Iterable[Finding]:
    target = services.scenario.mape_target
    for row in model_rows(services)["models"]:
        if row["stage"] != PRODUCTION or row.get("kind") == "baseline":
            continue
        about = {"segment": row["segment"], "region": row["segment"].split("-")[0], "model_version": row["version"]}
        if row["stale"]:
            yield Finding("model_stale", about, {"model_age_days": float(row["age_days"])})
        if row.get("mape") is not None and row["mape"] > target:
            yield Finding("mape_high", {**about, "cause": ABOVE_TARGET}, _measures(row, ("mape", "baseline_mape")))
        realised = row["realised"]
        if realised and realised["weeks"] >= LOSING_WEEKS:
            yield Finding(
                "mape_high", {**about, "cause": WORSE_THAN_BASELINE},
                _measures(realised, ("mape", "baseline_mape", "weeks")),
            )


def _measures(row: Document, names: tuple[str, ...]) -> dict[str, float]:
    return {name: float(row[name]) for name in names if row.get(name) is not None}


def _drift(services: RunServices) -> Iterable[Finding]:
    """Compare the newest published week with what was sold lately, segment by segment."""
    latest = next((run for run in RunLedger(services.lake).runs(RUNS_LOOKED_AT) if run.get("publish")), None)
    if latest is None:
        return
    container, folder = lake_paths.parse_datastore_uri(latest["folder"])
    recent = services.lake.read_json(container, folder + "manifest.json")[0]["recent_units"]
    data, _ = published_bytes(services.lake, SalesWeek.parse(latest["sales_week"]))
    lines = data.decode().splitlines()
    columns = {name: position for position, name in enumerate(lines[0].split(","))}
    units: dict[str, float] = {}
    for line in lines[1:]:
        cells = line.split(",")
        key = cells[columns["segment"]]
        units[key] = units.get(key, 0.0) + float(cells[columns["units"]])
    for key, total in sorted(units.items()):
        lately = float(recent.get(key, 0.0))
        if lately > 0 and not 1 / DRIFT_FACTOR <= total / lately <= DRIFT_FACTOR:
            yield Finding(
                "drift",
                {"run_id": latest["run_id"], "segment": key, "region": key.split("-")[0], "feature": "forecast_units",
                 "measure": "ratio to the last four weeks", "breached": True},
                {"value": round(total / lately, 4), "threshold": DRIFT_FACTOR},
            )


def _backlog(services: RunServices, running: list[Document], now: datetime) -> Iterable[Finding]:
    """Jobs that the platform does not take, or takes and does not start."""
    ledger = RunLedger(services.lake)
    for run in running:
        for phase in job_plans.STEP_OF_PHASE:
            items = (ledger.jobs(run["run_id"], phase) or {"items": {}})["items"].values()
            blocked = [item["blocked_since"] for item in items if item["blocked_since"] and not item["submitted_at"]]
            queued = [
                item["submitted_at"] for item in items if is_in_flight(item) and item["phase"] == Phase.WAITING.value
            ]
            for cause, since in (("the platform does not take jobs", blocked), ("jobs wait for a node", queued)):
                if since and now - datetime.fromisoformat(min(since)) > BACKLOG_AFTER:
                    yield Finding(
                        "queue_backlog", {"queue": f"jobs-{phase}", "cause": cause, "instance_id": run["run_id"]},
                        {"age_minutes": round((now - datetime.fromisoformat(min(since))).total_seconds() / 60, 1),
                         "length": float(len(since))},
                    )


def _task_hub(instances: Iterable[Instance], now: datetime) -> Iterable[Finding]:
    """Orchestrations that nobody starts, or that run for a day: the oldest of each, and how many."""
    ages = [(now - instance.created_at, instance) for instance in instances]
    for cause, is_pending, longest in (
        ("orchestrations wait to start", True, PENDING_TOO_LONG),
        ("orchestrations run for a day", False, RUNNING_TOO_LONG),
    ):
        stuck = [(age, one.instance_id) for age, one in ages if one.is_pending is is_pending and age > longest]
        if stuck:
            age, instance_id = max(stuck)
            yield Finding(
                "queue_backlog", {"queue": "orchestrations", "cause": cause, "instance_id": instance_id},
                {"age_minutes": round(age.total_seconds() / 60, 1), "length": float(len(stuck))},
            )
