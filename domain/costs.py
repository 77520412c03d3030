"""What runs cost: node minutes of jobs times the price of a node (N11). One job occupies one node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

# Used only before any job of a phase was ever measured.
FIRST_GUESS_MINUTES = {"pretrain": 10.0, "train": 5.0, "score": 3.0}


def node_minutes(item: Mapping[str, Any], run_id: str) -> float:
    """Return the minutes that a job of this run occupied a node; an adopted job was paid for by another run."""
    if item["spec"]["run_id"] != run_id:
        return 0.0
    return seconds_between(item["started_at"], item["ended_at"]) / 60


def seconds_between(start: str, end: str) -> float:
    """Return the seconds between two ISO 8601 times; 0 while one is missing or if they are the wrong way round."""
    if not start or not end:
        return 0.0
    return max(round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds(), 3), 0.0)


def price(minutes: float, price_per_hour: float) -> float:
    """Return the cost of node minutes, in the price's currency."""
    return minutes / 60 * price_per_hour


def cost_of_phases(
    run_id: str, phases: Mapping[str, Iterable[Mapping[str, Any]]], price_per_hour: float
) -> dict[str, Any]:
    """Return node minutes and cost per job unit, per phase and in total; the parts add up to the total."""
    by_phase: dict[str, Any] = {}
    total = 0.0
    for phase, items in phases.items():
        minutes = {str(item["unit"]): node_minutes(item, run_id) for item in items}
        spent = sum(minutes.values())
        total += spent
        by_phase[phase] = {
            "node_minutes": round(spent, 4), "cost": round(price(spent, price_per_hour), 6),
            "units": {unit: round(value, 4) for unit, value in sorted(minutes.items()) if value},
        }
    return {"node_minutes": round(total, 4), "cost": round(price(total, price_per_hour), 6), "phases": by_phase}


def estimate(jobs: int, minutes_a_job: float, price_per_hour: float) -> float:
    """Return what `jobs` jobs are expected to cost."""
    return price(jobs * minutes_a_job, price_per_hour)
