"""How an orchestrator waits out trouble without letting its history grow.

A body answers {"again": seconds} when only time helps. The SDK's own retries would write eight events a try into the
history and cannot stop in time, so the loops here count what they write: an execution that has written enough begins
anew from the ledger (continue_as_new), and its history stays below 500 events whatever happens for however long.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from azure.durable_functions import DurableOrchestrationContext

EVENTS_PER_EXECUTION = 300  # one tick of a poll loop may add 170 to this
EVENTS_A_CALL = 4  # scheduled, completed, and the frame of the episode that it wakes
EVENTS_A_TIMER = 4
LONGEST_GAP = 300.0
FAULTS_IN_A_ROW = 5  # of the kind that nobody foresaw; trouble that a body foresees is waited out for ever

Steps = Generator[Any, Any, Any]


class BeginAnew(Exception):
    """The history is long enough: continue_as_new, and go on from the ledger."""


@dataclass
class Patience:
    """Calls activities until they answer; counts the history events of this execution."""

    context: DurableOrchestrationContext
    events: int = field(default=4)

    @property
    def is_spent(self) -> bool:
        """Whether this execution should end."""
        return self.events >= EVENTS_PER_EXECUTION

    def call(self, name: str, request: dict[str, Any]) -> Steps:
        """Call an activity until it has an answer. Raises BeginAnew, or the activity's error if it keeps failing."""
        gap, faults = 5.0, 0
        while True:
            self.events += EVENTS_A_CALL
            try:
                answer = yield self.context.call_activity(name, request)
            except Exception:  # the host's wrapping of whatever the activity raised: the type is lost on the way
                faults += 1
                if faults >= FAULTS_IN_A_ROW:
                    raise
                answer = {"again": 5.0}
            if "again" not in answer:
                return answer
            gap = max(float(answer["again"]), min(gap * 1.5, LONGEST_GAP))
            yield from self.wait(gap)

    def wait(self, seconds: float) -> Steps:
        """Sleep on a durable timer. Raises BeginAnew afterwards if the history is long enough."""
        self.events += EVENTS_A_TIMER
        yield self.context.create_timer(self.context.current_utc_datetime + timedelta(seconds=seconds))
        if self.is_spent:
            raise BeginAnew
