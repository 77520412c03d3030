"""How runs share the jobs that may be in flight at once: scoring goes before training, equals share alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SCORE = "score"


@dataclass(frozen=True)
class Claim:
    """What one phase of one run has in flight, and how many jobs it still wants to submit."""

    kind: str  # score | train
    in_flight: int
    wanted: int


def grant(own: Claim, others: Iterable[Claim], cap: int) -> int:
    """Return how many jobs a phase may submit now, so that all phases together stay within `cap`.

    Scoring is urgent: a training phase leaves room for every job that a scoring phase wants. Phases of one kind get
    equal shares of the cap; what one does not want is there for the others. A running job is never taken away.
    """
    rest = list(others)
    cap = max(1, cap)
    free = cap - own.in_flight - sum(claim.in_flight for claim in rest)
    if own.kind != SCORE:
        free -= sum(claim.wanted for claim in rest if claim.kind == SCORE)
    peers = [claim for claim in rest if claim.kind == own.kind and claim.wanted]
    if peers:
        share = -(-cap // (len(peers) + 1))
        # A peer below its own share has a right to the difference; what lies beyond that is anybody's.
        free -= sum(min(claim.wanted, max(0, share - claim.in_flight)) for claim in peers)
        free = max(free, min(share - own.in_flight, _unclaimed(own, rest, cap)))
    return max(0, min(own.wanted, free))


def _unclaimed(own: Claim, rest: Iterable[Claim], cap: int) -> int:
    claims = list(rest)
    free = cap - own.in_flight - sum(claim.in_flight for claim in claims)
    return free - (0 if own.kind == SCORE else sum(claim.wanted for claim in claims if claim.kind == SCORE))
