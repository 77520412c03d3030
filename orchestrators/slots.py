"""The cap on jobs in flight, kept over all runs: each phase states what it has and wants, and is told what it may."""

from __future__ import annotations

from datetime import datetime, timedelta

from domain.slots import Claim, grant
from orchestrators.ledger import Document, RunLedger
from orchestrators.services import RunServices

HEARTBEAT = timedelta(seconds=60)


def take_slots(services: RunServices, run_id: str, phase: str, claim: Claim) -> int:
    """Return how many jobs the phase may submit now; they count as in flight from here on. Safe to repeat.

    A phase that has nothing in flight and wants nothing leaves the document; one that was not heard of for longer than
    its longest gap between two looks no longer counts.
    """
    key, now = f"{run_id}/{phase}", services.clock.now()
    silent = timedelta(seconds=3 * services.settings.poll_longest_seconds + 600)
    granted = 0

    def change(document: Document) -> None:
        nonlocal granted
        phases = document.setdefault("phases", {})
        for name in [name for name, entry in phases.items() if now - datetime.fromisoformat(entry["at"]) > silent]:
            del phases[name]
        others = [
            Claim(entry["kind"], entry["in_flight"], entry["wanted"]) for name, entry in phases.items() if name != key
        ]
        granted = grant(claim, others, services.settings.max_jobs_in_flight)
        if not claim.in_flight and not claim.wanted:
            phases.pop(key, None)
            return
        entry = {"kind": claim.kind, "in_flight": claim.in_flight + granted, "wanted": claim.wanted - granted}
        known = phases.get(key)
        if known and now - datetime.fromisoformat(known["at"]) < HEARTBEAT and known == entry | {"at": known["at"]}:
            return
        phases[key] = entry | {"at": now.isoformat(timespec="milliseconds")}

    RunLedger(services.lake).change_slots(change)
    return granted


def leave_slots(services: RunServices, run_id: str) -> None:
    """Take every phase of an ended run out of the document."""
    def change(document: Document) -> None:
        phases = document.setdefault("phases", {})
        for name in [name for name in phases if name.startswith(f"{run_id}/")]:
            del phases[name]

    RunLedger(services.lake).change_slots(change)
