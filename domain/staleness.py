"""When a model is stale: trained more than 60 days before the scoring (R120), measured at scoring."""

from __future__ import annotations

from datetime import date


def age_days(trained_on: date, scored_on: date) -> int:
    """Return whole days between the last day of training data and the scoring."""
    return (scored_on - trained_on).days


def is_stale(trained_on: date, scored_on: date, stale_after_days: int) -> bool:
    """Return whether the model is too old: exactly `stale_after_days` is still fresh, one more is not."""
    return age_days(trained_on, scored_on) > stale_after_days
