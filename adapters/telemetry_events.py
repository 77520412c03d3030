"""Every business event, with the dimensions and measures that it carries: the contract of KQL, workbook and alerts.

A test compares this table with each name that a query reads. `identity` names the dimensions that make
an occurrence unique: the event id is built from them, so a replayed or repeated emission has the same id
and queries count `dcount(event_id)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

COMMON_DIMENSIONS = ("event_id", "run_id", "kind", "sales_week", "attempt", "correlation_id", "code_version")


@dataclass(frozen=True)
class EventType:
    """One kind of event. Dimensions are text that queries group by; measures are numbers that they add up."""

    name: str
    about: str
    identity: tuple[str, ...]
    dimensions: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()

    @property
    def all_dimensions(self) -> frozenset[str]:
        """Its own dimensions and the common ones."""
        return frozenset((*COMMON_DIMENSIONS, *self.identity, *self.dimensions))

    def event_id(self, dimensions: Mapping[str, Any]) -> str:
        """Return the id of this occurrence: the same facts give the same id."""
        return "/".join([self.name, *(str(dimensions.get(key, "")) for key in self.identity)])


_RUN_MEASURES = (
    "seconds", "expected", "scored", "explained", "gap", "mape", "baseline_mape", "rmse_0", "rmse_all",
    "failover_segments",
)
_RUN_DIMENSIONS = ("status", "step", "error_code", "message", "region")

_ALL = (
    EventType("run_started", "a run began", ("run_id",), ("reason", "started_by")),
    *(
        EventType(f"run_{status}", about, ("run_id",), _RUN_DIMENSIONS, _RUN_MEASURES)
        for status, about in (
            ("succeeded", "a run did all that it was for"),
            ("degraded", "a run published, but something stands in failover state"),
            ("failed", "a run failed; nothing was published"),
            ("cancelled", "an operator cancelled a run"),
        )
    ),
    EventType("run_step", "a step of a run ended", ("run_id", "step"), ("status", "message"), ("seconds",)),
    EventType(
        "source_conditioned", "one file of a source was conditioned", ("source", "sales_week", "data_version"),
        ("status", "contract_version", "schema_changed", "source_file", "message"),
        ("rows", "conditioned", "quarantined", "duplicates", "seconds", "bytes"),
    ),
    EventType("aml_job_state", "a job changed its state", ("job_name", "status"),
              ("phase", "segment", "region", "error", "quota_refused", "preempted"), ("queued_seconds", "seconds")),
    EventType(
        "model_evaluated", "a candidate model met the acceptance gate", ("run_id", "segment"),
        ("region", "store_format", "velocity", "model_version", "accepted", "reasons"),
        (
            "mape", "baseline_mape", "mape_reduction", "rmse_0", "rmse_all", "wape", "bias", "over_share",
            "under_share", "baseline_wape", "baseline_rmse_0", "baseline_rmse_all", "mape_excluded",
            "weeks_worse_than_baseline",
        ),
    ),
    EventType("region_scored", "a segment was scored", ("run_id", "segment"),
              ("region", "store_format", "velocity", "model_version", "failover", "failover_reason"),
              ("rows", "model_age_days", "units", "zero_share", "seconds")),
    EventType("drift", "production data or forecasts left the band seen in training", ("run_id", "segment", "feature"),
              ("region", "measure", "breached"), ("value", "threshold")),
    EventType("week_published", "a week's forecasts became current", ("run_id", "publish_version"), ("path",),
              ("rows", "units")),
    EventType("forecast_realised", "actuals arrived for a published week",
              ("forecast_run_id", "sales_week", "segment"), ("region",),
              ("mape", "baseline_mape", "rmse_0", "rmse_all", "wape", "bias")),
    EventType("operator_action", "somebody changed something on purpose", ("action_id",),
              ("action", "actor", "target", "reason", "dry_run")),
    EventType("run_cost", "what a run took from the cluster", ("run_id", "phase"), ("currency",),
              ("node_minutes", "amount")),
    # The watchdog looks every hour, because an alert query sees two days at most. Each look is an occurrence.
    EventType("watchdog", "the watchdog looked; its silence is an alert", ("checked_at",), (), ("findings", "seconds")),
    EventType("run_overdue", "a run is late or missing against its due time",
              ("checked_at", "overdue_kind", "due_week"), ("due_at",), ("hours_late",)),
    EventType("model_stale", "a production model is older than the limit", ("checked_at", "segment"),
              ("region", "model_version"), ("model_age_days",)),
    EventType("mape_high", "a production model is above its MAPE target, or worse than the baseline for two weeks",
              ("checked_at", "segment", "cause"), ("region", "model_version"), ("mape", "baseline_mape", "weeks")),
    EventType("queue_backlog", "work waits or hangs", ("checked_at", "queue", "cause"), ("instance_id",),
              ("age_minutes", "length")),
    EventType("blob_poisoned", "a landing file failed five times and was set aside", ("blob_path", "etag"),
              ("source", "message")),
    EventType("telemetry_dropped", "telemetry was lost: refused for good, or without room in queue, disk and memory",
              ("checked_at", "instance"), ("cause",), ("dropped",)),
)

EVENTS: Mapping[str, EventType] = {event.name: event for event in _ALL}
SPAN_DIMENSIONS = frozenset((*COMMON_DIMENSIONS, "segment", "region", "source", "step"))
GAUGES = ("jobs_in_flight", "work_items_waiting")
