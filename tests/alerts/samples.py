"""Rows as Application Insights would hold them: a healthy week, and for each rule the breach that it is for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
Tables = dict[str, list[dict[str, Any]]]


def event(name: str, dimensions: dict[str, str], measures: dict[str, float] | None = None, minutes: int = 20) -> Tables:
    from adapters.telemetry_events import EVENTS

    known = EVENTS[name]
    wrong = set(dimensions) - known.all_dimensions | set(measures or {}) - set(known.measures)
    assert not wrong, f"{name} has no {wrong}"
    return {
        "customEvents": [
            {
                "timestamp": (NOW - timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z"),
                "name": name,
                "customDimensions": {"event_id": known.event_id(dimensions), **dimensions},
                "customMeasurements": measures or {},
            }
        ]
    }


def joined(*parts: Tables) -> Tables:
    names = {name for part in parts for name in part}
    return {name: [row for part in parts for row in part.get(name, [])] for name in names}


def healthy() -> Tables:
    segments = [
        f"r{region:02d}-{form}-{speed}"
        for region in (1, 2)
        for form in ("large", "small")
        for speed in ("fast", "slow")
    ]
    run = {"run_id": "weekly-2026-W10-a1", "sales_week": "2026-W10", "kind": "weekly"}
    return joined(
        event("watchdog", {"checked_at": "2026-03-02T11"}, {"findings": 0}, 30),
        event("run_started", run, {}, 58),
        event("run_succeeded", run, {"seconds": 480, "gap": 0}),
        *(
            event(
                "source_conditioned",
                {
                    "source": source,
                    "sales_week": "2026-W09",
                    "data_version": "v",
                    "status": "accepted",
                    "schema_changed": "false",
                },
                {"rows": 40000, "quarantined": 120},
            )
            for source in ("deliveries", "returns", "stores")
        ),
        *(
            event(
                "model_evaluated", run | {"segment": segment, "accepted": "true"}, {"mape": 0.38, "baseline_mape": 0.6}
            )
            for segment in segments
        ),
        event("model_evaluated", run | {"segment": "r01-large-baseline", "accepted": "true"}, {"mape": 0.7}),
        *(
            event("region_scored", run | {"segment": segment}, {"units": 900, "zero_share": 0.2, "model_age_days": 60})
            for segment in segments
        ),
        *(
            event(
                "drift",
                run | {"segment": segment, "feature": "units", "breached": "false"},
                {"value": 0.04, "threshold": 0.2},
            )
            for segment in segments
        ),
        event(
            "aml_job_state",
            {"job_name": "a", "status": "Running", "quota_refused": "false", "preempted": "false"},
            {"queued_seconds": 90},
        ),
        event("week_published", run | {"publish_version": "v"}, {"rows": 60000}),
        {
            "requests": [{"timestamp": "2026-03-02T11:58:00Z", "operation_Name": "condition", "resultCode": "503"}],
            "traces": [{"timestamp": "2026-03-02T11:58:00Z", "message": "telemetry waits on disk", "severityLevel": 2}],
        },
    )


_RUN = {"run_id": "weekly-2026-W10-a1", "sales_week": "2026-W10", "kind": "weekly"}
_LOOK = {"checked_at": "2026-03-02T11"}

# For each rule what makes it fire; `quiet` says which near miss must not.
BREACHES: dict[str, tuple[Tables, Tables]] = {
    "run_failed": (
        joined(event("run_failed", _RUN | {"step": "train"}), event("run_failed", _RUN | {"step": "train"}, {}, 10)),
        event("run_failed", _RUN, {}, 61),
    ),
    "run_overdue": (
        event("run_overdue", _LOOK | {"overdue_kind": "weekly", "due_week": "2026-W10"}, {"hours_late": 3}),
        event("run_overdue", _LOOK | {"overdue_kind": "weekly", "due_week": "2026-W10"}, {"hours_late": 3}, 121),
    ),
    "model_stale": (
        event("model_stale", _LOOK | {"segment": "r03-large-fast"}, {"model_age_days": 61}),
        event("region_scored", _RUN | {"segment": "r03-large-fast"}, {"model_age_days": 60, "units": 5}),
    ),
    "model_mape_high": (
        event("model_evaluated", _RUN | {"segment": "r03-small-slow"}, {"mape": 0.60}),
        event("model_evaluated", _RUN | {"segment": "r03-small-slow"}, {"mape": 0.45}),
    ),
    "model_worse_than_baseline": (
        event(
            "mape_high",
            _LOOK | {"segment": "r03-small-slow", "cause": "worse_than_baseline"},
            {"mape": 0.4, "weeks": 2},
        ),
        event(
            "mape_high",
            _LOOK | {"segment": "r03-small-slow", "cause": "worse_than_baseline"},
            {"mape": 0.4, "weeks": 1},
        ),
    ),
    "drift": (
        event("drift", _RUN | {"segment": "r01-large-fast", "feature": "units", "breached": "true"}, {"value": 0.5}),
        event("drift", _RUN | {"segment": "r01-large-fast", "feature": "units", "breached": "false"}, {"value": 0.1}),
    ),
    "forecast_out_of_range": (
        event("region_scored", _RUN | {"segment": "r05-small-fast"}, {"units": 0, "zero_share": 1}),
        event("region_scored", _RUN | {"segment": "r05-small-fast"}, {"units": 9, "zero_share": 0.9}),
    ),
    "quarantine_share": (
        event(
            "source_conditioned",
            {"source": "promotions", "sales_week": "w", "data_version": "v", "status": "partial"},
            {"rows": 1000, "quarantined": 50},
        ),
        event(
            "source_conditioned",
            {"source": "promotions", "sales_week": "w", "data_version": "v", "status": "partial"},
            {"rows": 1000, "quarantined": 10},
        ),
    ),
    "source_schema_changed": (
        event(
            "source_conditioned",
            {"source": "weather_history", "data_version": "v", "status": "accepted", "schema_changed": "true"},
            {"rows": 10, "quarantined": 0},
        ),
        event(
            "source_conditioned",
            {"source": "weather_history", "data_version": "v", "status": "partial", "schema_changed": "false"},
            {"rows": 10, "quarantined": 0},
        ),
    ),
    "blob_poisoned": (
        event("blob_poisoned", {"source": "stores", "blob_path": "stores/2026-W09/x.csv", "etag": "1"}),
        event("blob_poisoned", {"source": "stores", "blob_path": "stores/2026-W09/x.csv", "etag": "1"}, {}, 90),
    ),
    "queue_backlog": (
        event("queue_backlog", _LOOK | {"queue": "work-items", "cause": "pending"}, {"age_minutes": 16}),
        event("queue_backlog", _LOOK | {"queue": "work-items", "cause": "pending"}, {"age_minutes": 16}, 130),
    ),
    "jobs_held_up": (
        event("aml_job_state", {"job_name": "j", "status": "Queued"}, {"queued_seconds": 1801}),
        event("aml_job_state", {"job_name": "j", "status": "Queued"}, {"queued_seconds": 1800}),
    ),
    "telemetry_dropped": (
        joined(
            {"traces": [{"timestamp": "2026-03-02T11:30:00Z", "message": "telemetry is lost: the queue is full"}]},
            event("telemetry_dropped", _LOOK | {"instance": "i", "cause": "the queue is full"}, {"dropped": 12}),
        ),
        {"traces": [{"timestamp": "2026-03-02T10:30:00Z", "message": "telemetry is lost: the queue is full"}]},
    ),
    "function_errors": (
        {"requests": [{"timestamp": "2026-03-02T11:50:00Z", "operation_Name": "runs", "resultCode": "500"}] * 6},
        {"requests": [{"timestamp": "2026-03-02T11:50:00Z", "operation_Name": "runs", "resultCode": "500"}] * 5},
    ),
}
