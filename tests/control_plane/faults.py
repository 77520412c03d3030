"""Faults that a service may show, and when: a plan is a list of rules, the first that applies is used up once.

plane.faults.add(Fault("lost_after", method="PUT", path="/jobs/", times=1))
plane.faults.random(0.1, seed=7)          # every tenth request, a kind drawn by the seeded generator
"""

from __future__ import annotations

import random
import re
import threading
from dataclasses import dataclass, field

KINDS = (
    "lost_before",  # the connection closes, nothing happened
    "lost_after",  # the request has its effect, then the connection closes without an answer
    "reset",  # TCP reset before anything happened
    "throttle",  # 429 with Retry-After
    "error",  # a 5xx
    "garbled",  # the effect happens, the answer is cut off in the middle of its JSON
    "html",  # 200 with a proxy's HTML page, nothing happened
)


@dataclass
class Fault:
    """One rule. Kinds as above, and "hang": no answer for `seconds`, then the connection closes.

    `path` is a regular expression that is searched in the path; `times` < 0 means for ever.
    """

    kind: str
    method: str = ""
    path: str = ""
    times: int = 1
    status: int = 503
    retry_after: str = "17"
    seconds: float = 5.0
    used: int = 0

    def applies(self, method: str, path: str) -> bool:
        """Whether the rule is about this request and not used up."""
        fresh = self.times < 0 or self.used < self.times
        return fresh and self.method in ("", method) and re.search(self.path, path) is not None


@dataclass
class FaultPlan:
    """The rules in force."""

    rules: list[Fault] = field(default_factory=list)
    share: float = 0.0
    kinds: tuple[str, ...] = ("lost_before", "lost_after", "reset", "throttle", "error")
    path: str = ""
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(0)
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        """Add a rule."""
        self.rules.append(fault)
        return fault

    def random(self, share: float, seed: int, *, kinds: tuple[str, ...] | None = None, path: str = "") -> None:
        """Let this share of the requests on matching paths fail, by a seeded draw."""
        self.share, self._random, self.path = share, random.Random(seed), path
        self.kinds = kinds or self.kinds

    def clear(self) -> None:
        """No more faults."""
        self.rules.clear()
        self.share = 0.0

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault of this request, if any, and use it up."""
        with self._lock:
            for rule in self.rules:
                if rule.applies(method, path):
                    rule.used += 1
                    return self._counted(rule)
            if self.share and re.search(self.path, path) and self._random.random() < self.share:
                return self._counted(Fault(self._random.choice(self.kinds), retry_after="1"))
        return None

    def _counted(self, fault: Fault) -> Fault:
        self.counts[fault.kind] = self.counts.get(fault.kind, 0) + 1
        return fault
