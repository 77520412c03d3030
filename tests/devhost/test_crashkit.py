"""The crash-consistency kit finds every way to break a replay, and passes what is sound."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any

import azure.durable_functions as df
import pytest

from devhost.function_index import FunctionIndex, _function
from tests.crashkit.kit import Inconsistent, Recording, Simulation, check_every_prefix, check_recording

Orchestrator = Callable[[df.DurableOrchestrationContext], Generator[Any, Any, Any]]


def index_of(**orchestrators: Orchestrator) -> FunctionIndex:
    app = df.DFApp()
    for name, code in orchestrators.items():
        code.__name__ = name
        app.orchestration_trigger(context_name="context")(code)
    return FunctionIndex([_function(item, "app.py") for item in app.get_functions()])


def sound(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
    """Uses everything at once."""
    retry = df.RetryOptions(1000, 3)
    first = yield context.call_activity("one", {"week": context.get_input()})
    many = yield context.task_all([context.call_activity_with_retry("flaky", retry, n) for n in range(4)])
    context.set_custom_status({"at": str(context.current_utc_datetime)})
    timer = context.create_timer(context.current_utc_datetime + timedelta(hours=1))
    go = context.wait_for_external_event("Go")
    winner = yield context.task_any([go, timer])
    if winner == go:
        timer.cancel()
    child = yield context.call_sub_orchestrator("child", context.new_uuid())
    try:
        yield context.call_activity("breaks", None)
    except Exception as problem:
        return [first, many, child, str(problem).splitlines()[0]]


def flaky() -> Callable[[int], int]:
    seen: dict[int, int] = {}

    def run(n: int) -> int:
        seen[n] = seen.get(n, 0) + 1
        if seen[n] <= n % 3:
            raise ValueError(f"{n} fails")
        return n

    return run


def breaks(_: object) -> None:
    raise RuntimeError("broken")


def simulate(index: FunctionIndex, name: str, seed: int = 0) -> Recording:
    work = {"one": 1, "flaky": flaky(), "breaks": breaks, "two": 2}
    return Simulation(index, work, {"child": "grown"}, [(5.0, "Go", "now")], seed).run(name, "2017-W45")


@pytest.mark.parametrize("seed", range(8))
def test_sound_orchestrator_survives_a_crash_anywhere(seed: int) -> None:
    index = index_of(sound=sound)
    recording = simulate(index, "sound", seed)
    assert recording.status == "Completed"
    assert recording.output == [1, [0, 1, 2, 3], "grown", "Activity function 'breaks' failed:  RuntimeError: broken "]
    assert check_every_prefix(index, recording) == len(recording.episodes) > 8


def uses_uuid(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
    yield context.call_activity("one", str(uuid.uuid4()))
    yield context.call_activity("two", None)


def uses_the_clock(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
    yield context.create_timer(context.current_utc_datetime + timedelta(seconds=time.time() % 100))
    yield context.call_activity("two", None)


def uses_chance(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
    yield context.call_activity(random.choice(["one", "two"]), None)
    yield context.call_activity(random.choice(["one", "two"]), None)
    yield context.call_activity(random.choice(["one", "two"]), None)


_calls: list[int] = []


def changes_order(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
    _calls.append(1)
    names = ["one", "two"] if len(_calls) % 2 else ["two", "one"]
    yield context.task_all([context.call_activity(name, None) for name in names])
    yield context.call_activity("one", None)


def remembers(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
    _calls.append(1)
    yield context.call_activity("one", len(_calls))
    yield context.call_activity("two", None)


@pytest.mark.parametrize("broken", [uses_uuid, uses_the_clock, uses_chance, changes_order, remembers])
def test_broken_orchestrators_are_caught(broken: Orchestrator) -> None:
    _calls.clear()
    index = index_of(broken=broken)
    with pytest.raises(Inconsistent):
        for seed in range(4):
            check_every_prefix(index, simulate(index, "broken", seed))


def version_one(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
    first = yield context.call_activity("one", None)
    yield context.create_timer(context.current_utc_datetime + timedelta(hours=1))
    return (yield context.call_activity("two", first))


def renamed_step(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
    first = yield context.call_activity("first", None)
    yield context.create_timer(context.current_utc_datetime + timedelta(hours=1))
    return (yield context.call_activity("two", first))


def new_step_in_the_middle(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
    first = yield context.call_activity("one", None)
    yield context.call_activity("check", first)
    yield context.create_timer(context.current_utc_datetime + timedelta(hours=1))
    return (yield context.call_activity("two", first))


def other_input(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
    first = yield context.call_activity("one", None)
    yield context.create_timer(context.current_utc_datetime + timedelta(hours=1))
    return (yield context.call_activity("two", [first]))


def test_recorded_history_passes_on_the_same_code_and_fails_on_a_breaking_change() -> None:
    recorded = Recording.from_json(simulate(index_of(weekly=version_one), "weekly").to_json())
    check_recording(index_of(weekly=version_one), recorded)
    for changed in (renamed_step, new_step_in_the_middle, other_input):
        with pytest.raises(Inconsistent):
            check_recording(index_of(weekly=changed), recorded)


def test_endless_wait_is_named() -> None:
    def waits(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
        yield context.wait_for_external_event("Never")

    with pytest.raises(Inconsistent, match="waits for ever"):
        simulate(index_of(waits=waits), "waits")
