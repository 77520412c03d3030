"""The life of one job as the ledger keeps it: what a look, a deadline or a cancellation does to its entry. Pure.

planned -> waiting -> running -> succeeded | failed | cancelled; back to planned if the platform lost the job, and to
waiting if a low-priority node was taken away. Every way ends, by a deadline if by nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from domain.job_states import JobStatus, Phase, is_known, phase_of, tells_nothing

Item = dict[str, Any]

GRACE = timedelta(minutes=2)  # a job just submitted may not be readable yet
TIMES_SLACK = timedelta(hours=1)
CANCEL_GRACE = timedelta(minutes=10)  # a cancellation is a wish that takes a while to come true
LOST_AFTER = timedelta(minutes=10)  # a submitted job that the platform still does not know was lost: submit again
MAX_LOST = 3
MAX_PREEMPTED = 5  # a job that loses its node more often would never end
REFUSED_AFTER = timedelta(minutes=10)  # what a deployment has just granted or registered is not known everywhere yet
GIVE_UP_AFTER = timedelta(hours=24)  # beyond the deadline, of a platform that cannot be reached


def has_ended(item: Mapping[str, Any]) -> bool:
    """Whether nothing more will happen to the job."""
    return Phase(item["phase"]).ended


def is_in_flight(item: Mapping[str, Any]) -> bool:
    """Whether the job was submitted and has not ended."""
    return bool(item["submitted_at"]) and not has_ended(item)


def submitted(item: Item, now: datetime) -> None:
    """Note that the platform took the job."""
    if not item["submitted_at"]:
        item.update({"phase": Phase.WAITING.value, "status": "Submitted", "submitted_at": _text(now),
                     "blocked_since": "", "error": ""})


def blocked(item: Item, why: str, now: datetime) -> None:
    """Note that the platform could not take the job now; one that it does not take for a day fails."""
    item["blocked_since"] = item["blocked_since"] or _text(now)
    item["error"] = f"not submitted yet: {why}"
    if now - datetime.fromisoformat(item["blocked_since"]) > GIVE_UP_AFTER:
        rejected(item, f"could not be submitted for {GIVE_UP_AFTER.total_seconds() / 3600:g} hours: {why}", now)


def may_pass(item: Mapping[str, Any], status: int, now: datetime) -> bool:
    """Whether a refusal with this HTTP status (no role, something unknown) may pass by itself within minutes."""
    since = datetime.fromisoformat(item["blocked_since"]) if item["blocked_since"] else now
    return status in (403, 404) and now - since < REFUSED_AFTER


def rejected(item: Item, why: str, now: datetime) -> None:
    """Note that the platform refused the job for good."""
    item.update({"phase": Phase.FAILED.value, "error": why, "ended_at": _text(now)})


def observe(item: Item, status: JobStatus | None, now: datetime) -> None:
    """Copy one look at a submitted job into its entry; None means that the platform does not know the job.

    A word that tells nothing leaves the phase as it was. A running job that is seen waiting lost its node (a retry, no
    failure), but once may be a stale answer: it counts when the next look sees it, too.
    """
    if status is None:
        _missing(item, now)
        return
    if not status.status:
        return  # nobody asked about it this time
    if tells_nothing(status.status):
        item.update({"status": status.status, "lost": 0})
        if not is_known(status.status) and not item["cancel_requested_at"]:
            item["error"] = f"unknown status {status.status!r}: waiting on"
        return
    phase = status.phase
    if item["adopted_from"] and item["instead_of"] and not item["cancel_requested_at"] and (
        phase in (Phase.FAILED, Phase.CANCELLED)
    ):
        _replace_adopted(item, status)
        return
    preempted = _preempted(item, status)
    if phase is Phase.WAITING and item["phase"] == Phase.RUNNING.value and preempted == item["preempted"]:
        item.update({"status": status.status, "lost": 0})
        return
    if preempted > item["preempted"]:
        item["queued_since"] = _text(now)
    seen_running = item["running_since"]
    if phase is not Phase.RUNNING or preempted > item["preempted"]:
        item["running_since"] = ""
    if phase is Phase.RUNNING:
        item["running_since"] = item["running_since"] or _text(now)
    if phase is Phase.CANCELLED and "deadline" in item["error"]:
        phase = Phase.FAILED
    started, ended = _utc(status.started_at), _utc(status.ended_at)
    item.update({"status": status.status, "preempted": preempted, "lost": 0,
                 "started_at": started or item["started_at"] or item["running_since"]})
    if phase.ended:
        # The platform's own times, or what our looks saw; never one of each, clocks differ.
        own = (started, ended) if _may_be(started, ended, item, now) else (
            seen_running or item["submitted_at"], _text(now))
        item["started_at"], item["ended_at"] = own
    item.update({"phase": phase.value, "error": _error(item, status, phase)})


def _may_be(started: str, ended: str, item: Mapping[str, Any], now: datetime) -> bool:
    """Whether a platform's times can be true: a job does not last for longer than since it was submitted."""
    if not (started and ended):
        return False
    lasted = datetime.fromisoformat(ended) - datetime.fromisoformat(started)
    return timedelta(0) <= lasted <= now - datetime.fromisoformat(item["submitted_at"]) + TIMES_SLACK


def _preempted(item: Item, status: JobStatus) -> int:
    """Return how often the job has lost its node, by the platform's own count or by two looks in a row."""
    has_waited = status.phase is Phase.WAITING and phase_of(item["status"]) is Phase.WAITING
    own = item["preempted"] + int(has_waited and item["phase"] == Phase.RUNNING.value)
    return int(max(status.preempted, own))


def _error(item: Item, status: JobStatus, phase: Phase) -> str:
    """What a person should read beside the job; the reason of a cancellation is kept."""
    if phase is Phase.SUCCEEDED:
        return ""
    if status.error and not item["cancel_requested_at"]:
        return status.error
    return item["error"] if item["cancel_requested_at"] or phase.ended else ""


def _missing(item: Item, now: datetime) -> None:
    age = now - datetime.fromisoformat(item["submitted_at"])
    if age > LOST_AFTER and not item["cancel_requested_at"]:
        item["lost"] += 1
        if item["lost"] > MAX_LOST:
            rejected(item, f"the platform lost the job {item['lost']} times", now)
            return
        item.update({"submitted_at": "", "phase": Phase.PLANNED.value, "running_since": "", "queued_since": "",
                     "error": "the platform lost the job; it is submitted again under its name"})
    elif age > GRACE and not item["cancel_requested_at"]:
        item["error"] = "the platform does not know the job (yet)"


def _replace_adopted(item: Item, status: JobStatus) -> None:
    """A job of an earlier attempt that was still running has failed: this attempt's own job takes its place."""
    before = f"{item['name']} of {item['adopted_from']} ended as {status.status}; replaced by a job of this attempt"
    item.update(item["instead_of"] | {"instead_of": None, "error": before})


def enforce(item: Item, now: datetime, deadline: timedelta, *, cancelling: bool) -> None:
    """Cancel what an operator or the deadline wants cancelled; end what does not confirm its cancellation in time.

    The deadline counts from the moment that the job was seen running, or from its submission (or the loss of its node)
    while it waits, so a job that queues for its turn is not punished for running late.
    """
    if has_ended(item):
        return
    if not item["submitted_at"]:
        if cancelling:
            item.update({"phase": Phase.CANCELLED.value, "ended_at": _text(now), "error": "run cancelled"})
        return
    if not item["cancel_requested_at"]:
        since = datetime.fromisoformat(item["running_since"] or item["queued_since"] or item["submitted_at"])
        reason = ""
        if now - since > deadline:
            reason = f"deadline of {deadline.total_seconds() / 60:g} minutes passed"
        elif item["preempted"] > MAX_PREEMPTED:
            reason = f"deadline: the job lost its node {item['preempted']} times"
        elif cancelling:
            reason = "run cancelled"
        if reason:
            item.update({"cancel_requested_at": _text(now), "error": reason})
        return
    sent = item["cancel_sent_at"]
    if sent and item["status"].lower() != "cancelrequested":
        # No sign of it: the platform may not have known the job yet when it was told.
        item["cancel_again"] = now - datetime.fromisoformat(item.get("cancel_told_at") or sent) > GRACE
    overdue = now - datetime.fromisoformat(sent or item["cancel_requested_at"])
    if overdue > (CANCEL_GRACE if sent else GIVE_UP_AFTER):
        phase = Phase.FAILED if "deadline" in item["error"] else Phase.CANCELLED
        item.update({"phase": phase.value, "ended_at": _text(now)})
        item["error"] += "; the platform did not confirm the cancellation"


def unseen(item: Item, now: datetime, deadline: timedelta) -> None:
    """Bear that the platform cannot be asked; a day beyond its deadline a job counts as failed."""
    if not is_in_flight(item):
        return
    if now - datetime.fromisoformat(item["submitted_at"]) > deadline + GIVE_UP_AFTER:
        rejected(item, "deadline passed, and the platform could not be asked for a day", now)


def wants_cancel(item: Mapping[str, Any]) -> bool:
    """Whether the platform still has to be told to cancel the job."""
    is_told = item["cancel_sent_at"] and not item.get("cancel_again")
    return is_in_flight(item) and bool(item["cancel_requested_at"]) and not is_told


def cancel_sent(item: Item, now: datetime) -> None:
    """Note that the platform was told."""
    item.update({"cancel_sent_at": item["cancel_sent_at"] or _text(now), "cancel_told_at": _text(now),
                 "cancel_again": False})


def _utc(text: str) -> str:
    """Return a platform's time as ISO 8601 UTC; empty if it cannot be read. Platforms write UTC without saying so."""
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):  # year 1 east of Greenwich is what some services write for "not yet"
        return ""
    return _text(moment)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
