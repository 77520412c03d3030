"""A thousand orchestrations while the host is killed again and again: none lost, none stuck, no effect unexplained."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest

from tests.devhost.conftest import INSTANCES, ORCHESTRATORS, HostFactory

COUNT = 1000
PAGE = 2000
DEADLINE_SECONDS = 110
UNDER_WAY = 30  # activities that may run at once, so that one kill can repeat


@pytest.mark.long
def test_a_thousand_orchestrations_survive_kills(host: HostFactory) -> None:
    sample = host("ledger")
    dice = random.Random(7)
    kills, begun, began = 0, 0, time.monotonic()
    next_kill = began + dice.uniform(0.5, 2.0)
    open_left = COUNT
    while open_left:
        assert time.monotonic() - began < DEADLINE_SECONDS, f"{open_left} are not done"
        if begun < COUNT:
            try:
                code, body, _ = sample.call("POST", f"{ORCHESTRATORS}/book/b{begun}", {"n": begun})
                assert code == 202 or "already exists" in body["ExceptionMessage"], body
                begun += 1
            except OSError:  # killed before it answered: the caller asks again, with the same id
                sample.start()
        else:
            time.sleep(0.2)
            rows = sample.call("GET", f"{INSTANCES}?runtimeStatus=Pending,Running&top={PAGE}&showInput=false")[1]
            open_left = len(rows)
        if time.monotonic() > next_kill and open_left:
            sample.kill()
            kills += 1
            sample.start()
            next_kill = time.monotonic() + dice.uniform(1.0, 3.0)
    done = sample.call("GET", f"{INSTANCES}?top={PAGE * 2}&showInput=false")[1]
    outputs = {i["instanceId"]: (i["runtimeStatus"], i["output"]) for i in done}
    assert outputs == {
        **{f"b{n}": ("Completed", [f"{n}-a", f"{n}-b", f"{n}-c", f"{n}-z"]) for n in range(COUNT)},
        **{f"close-{n}": ("Completed", f"{n}-z") for n in range(COUNT)},
    }
    effects = Counter(sample.effects)
    assert set(effects) == {f"{n}-{side}" for n in range(COUNT) for side in "abcz"}
    assert kills >= 3
    assert sum(effects.values()) - len(effects) <= kills * UNDER_WAY
