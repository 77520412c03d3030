"""Code that is deployed must go on with runs that older code started."""

from __future__ import annotations

import json
from typing import Any

import pytest

from devhost.durable.history import Event, compact, from_text
from tests.orchestrators.durable_driver import replay_every_prefix
from tests.orchestrators.record_histories import STORED

HISTORIES: list[dict[str, Any]] = json.loads(STORED.read_text("utf-8"))


def events(one: dict[str, Any]) -> list[Event]:
    return [from_text(compact(fields)) for fields in one["events"]]


@pytest.mark.parametrize("one", HISTORIES, ids=lambda one: one["orchestrator"])
def test_a_run_in_flight_goes_on_with_this_code(one: dict[str, Any]) -> None:
    assert replay_every_prefix(one["orchestrator"], one["instance_id"], one["input"], events(one)) > 0


def test_the_gate_notices_an_orchestrator_that_asks_for_other_work() -> None:
    one = next(one for one in HISTORIES if one["orchestrator"] == "run_week")
    changed = json.loads(json.dumps(one).replace('"note_step"', '"another_step"'))
    assert changed != one
    with pytest.raises(AssertionError, match="other work"):
        replay_every_prefix(changed["orchestrator"], changed["instance_id"], changed["input"], events(changed))
