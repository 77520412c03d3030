"""Jobs of a phase: intents first, one look a tick, deadlines, lost jobs, throttling, adoption by later attempts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from domain.errors import BudgetExceeded, JobRejected, Throttled, Unavailable
from domain.runs import RunId, RunRequest
from orchestrators.job_watch import cancel_units, plan_phase, poll_phase, submit_units
from orchestrators.ledger import RunLedger
from orchestrators.runs import close_run, request_cancel, start_run
from tests.orchestrators.conftest import ScriptedServices

SEGMENTS = [f"r{number:02d}-large-fast" for number in range(1, 6)]
FOLDER = "azureml://datastores/curated/paths/2017-W45/abc/"


def begin(
    services: ScriptedServices, segments: list[str] = SEGMENTS, changed: Mapping[str, str] | None = None
) -> str:
    """Open a run whose data and decisions are there (`changed` facts apart); its pretraining has succeeded."""
    run_id, _ = start_run(services, RunRequest.from_dict({"kind": "weekly", "sales_week": "2017-W45"}))
    ledger = RunLedger(services.lake)
    facts = {"folder": FOLDER, "as_of_version": "abc", "cutoff": "2017-W44", **(changed or {})}
    ledger.change_run(str(run_id), lambda run: run.update(facts))
    ledger.note(str(run_id), "decisions", [{"segment": key, "action": "train", "reasons": ["new"]} for key in segments])
    plan_phase(services, {"run_id": str(run_id), "phase": "pretrain"})
    drive(services, str(run_id), "pretrain")
    return str(run_id)


def tick(services: ScriptedServices, run_id: str, phase: str = "train") -> dict[str, Any]:
    answer = poll_phase(services, {"run_id": run_id, "phase": phase, "gap": 1.0})
    for units in answer.get("cancel", []):
        cancel_units(services, {"run_id": run_id, "phase": phase, "units": units})
    for units in answer.get("submit", []):
        submit_units(services, {"run_id": run_id, "phase": phase, "units": units})
    return answer


def drive(services: ScriptedServices, run_id: str, phase: str, status: str = "Completed") -> dict[str, Any]:
    """Tick until the phase has ended, ending every submitted job with `status`."""
    for _ in range(20):
        answer = tick(services, run_id, phase)
        if "result" in answer:
            return answer["result"]
        for name, state in services.jobs.states.items():
            if state == "Queued":
                services.jobs.states[name] = status
    raise AssertionError("the phase never ended")


def items(services: ScriptedServices, run_id: str, phase: str = "train") -> dict[str, Any]:
    document = RunLedger(services.lake).jobs(run_id, phase)
    assert document is not None
    return document["items"]


def test_a_phase_submits_at_most_the_cap_and_ends_with_counts(services: ScriptedServices) -> None:
    run_id = begin(services)
    assert plan_phase(services, {"run_id": run_id, "phase": "train"}) == {"jobs": 5, "adopted": 0}
    assert [len(units) for units in tick(services, run_id)["submit"]] == [3]
    assert tick(services, run_id)["submit"] == []
    services.jobs.states[f"{run_id}-{SEGMENTS[0]}"] = "Completed"
    assert [len(units) for units in tick(services, run_id)["submit"]] == [1]
    result = drive(services, run_id, "train")
    assert result["counts"]["succeeded"] == 5 and "failed" not in result
    assert len([name for name in services.jobs.payloads if name.startswith(run_id)]) == 6


def test_every_activity_may_run_twice_without_a_second_job(services: ScriptedServices) -> None:
    run_id = begin(services)
    for _ in range(2):
        plan_phase(services, {"run_id": run_id, "phase": "train"})
        submit_units(services, {"run_id": run_id, "phase": "train", "units": SEGMENTS[:2]})
        poll_phase(services, {"run_id": run_id, "phase": "train", "gap": 1.0})
    assert sum(name.startswith(f"{run_id}-r") for name in services.jobs.payloads) == 2


def test_a_job_past_its_deadline_is_cancelled_and_fails(services: ScriptedServices) -> None:
    run_id = begin(services, SEGMENTS[:1])
    plan_phase(services, {"run_id": run_id, "phase": "train"})
    tick(services, run_id)
    services.clock.forward(minutes=31)
    tick(services, run_id)
    name = f"{run_id}-{SEGMENTS[0]}"
    assert services.jobs.cancelled == [name]
    services.jobs.states[name] = "Canceled"
    result = tick(services, run_id)["result"]
    assert "deadline of 30 minutes" in result["failed"]
    assert items(services, run_id)[SEGMENTS[0]]["phase"] == "failed"


def test_a_job_that_ignores_its_cancellation_does_not_hold_the_run_for_ever(services: ScriptedServices) -> None:
    run_id = begin(services, SEGMENTS[:1])
    plan_phase(services, {"run_id": run_id, "phase": "train"})
    tick(services, run_id)
    services.clock.forward(minutes=31)
    tick(services, run_id)
    services.clock.forward(minutes=9)
    assert "result" not in tick(services, run_id)
    services.clock.forward(minutes=2)
    result = tick(services, run_id)["result"]
    assert "did not confirm" in result["failed"]


def test_an_unreachable_platform_only_makes_the_gap_longer(services: ScriptedServices) -> None:
    run_id = begin(services, SEGMENTS[:1])
    plan_phase(services, {"run_id": run_id, "phase": "train"})
    tick(services, run_id)
    gap = 1.0
    for _ in range(30):
        services.jobs.trouble.append(Unavailable("down"))
        gap = poll_phase(services, {"run_id": run_id, "phase": "train", "gap": gap})["gap"]
    assert gap == 10
    services.jobs.trouble.append(Throttled("later", retry_after=77))
    assert poll_phase(services, {"run_id": run_id, "phase": "train", "gap": 1.0})["gap"] == 77
    services.jobs.states[f"{run_id}-{SEGMENTS[0]}"] = "Completed"
    assert tick(services, run_id)["result"]["counts"]["succeeded"] == 1


def test_throttled_submissions_stay_planned_and_say_how_long_to_wait(services: ScriptedServices) -> None:
    run_id = begin(services)
    plan_phase(services, {"run_id": run_id, "phase": "train"})
    services.jobs.trouble.append(Throttled("later", retry_after=33))
    answer = submit_units(services, {"run_id": run_id, "phase": "train", "units": SEGMENTS[:2]})
    assert answer == {"submitted": 0, "rejected": 0, "retry_after": 33.0}
    assert drive(services, run_id, "train")["counts"]["succeeded"] == 5


def test_a_slow_service_ends_the_activity_and_the_next_look_goes_on(
    services: ScriptedServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = begin(services)
    plan_phase(services, {"run_id": run_id, "phase": "train"})
    seconds = count(0, 40)  # each submission takes that long
    monkeypatch.setattr("orchestrators.job_watch.time", SimpleNamespace(monotonic=lambda: next(seconds)))
    answer = submit_units(services, {"run_id": run_id, "phase": "train", "units": SEGMENTS[:3]})
    assert answer["submitted"] == 1
    assert drive(services, run_id, "train")["counts"]["succeeded"] == 5


def test_a_rejected_job_fails_with_its_reason_and_the_others_go_on(services: ScriptedServices) -> None:
    run_id = begin(services)
    plan_phase(services, {"run_id": run_id, "phase": "train"})
    services.jobs.trouble.append(JobRejected("quota of the cluster is 0"))
    submit_units(services, {"run_id": run_id, "phase": "train", "units": SEGMENTS[:2]})
    result = drive(services, run_id, "train")
    assert result["counts"]["failed"] == 1 and "quota of the cluster is 0" in result["message"]
    assert result["facts"] == {"failed_jobs": 1}


def test_a_job_that_the_platform_lost_is_submitted_again_under_its_name(services: ScriptedServices) -> None:
    run_id = begin(services, SEGMENTS[:1])
    plan_phase(services, {"run_id": run_id, "phase": "train"})
    tick(services, run_id)
    del services.jobs.states[f"{run_id}-{SEGMENTS[0]}"]
    services.clock.forward(minutes=1)
    assert tick(services, run_id)["submit"] == []
    services.clock.forward(minutes=10)
    assert tick(services, run_id)["submit"] == [[SEGMENTS[0]]]
    assert drive(services, run_id, "train")["counts"]["succeeded"] == 1


def test_an_unknown_status_is_reported_and_waited_on(services: ScriptedServices) -> None:
    run_id = begin(services, SEGMENTS[:1])
    plan_phase(services, {"run_id": run_id, "phase": "train"})
    tick(services, run_id)
    services.jobs.states[f"{run_id}-{SEGMENTS[0]}"] = "Hibernating"
    assert "result" not in tick(services, run_id)
    assert "Hibernating" in items(services, run_id)[SEGMENTS[0]]["error"]


def test_too_many_failures_fail_the_phase(services: ScriptedServices) -> None:
    run_id = begin(services)
    plan_phase(services, {"run_id": run_id, "phase": "train"})
    assert "5 of 5 jobs failed" in drive(services, run_id, "train", "Failed")["failed"]


def test_a_later_attempt_adopts_what_succeeded_or_still_runs_and_repeats_the_rest(services: ScriptedServices) -> None:
    first = begin(services)
    plan_phase(services, {"run_id": first, "phase": "train"})
    tick(services, first)
    states = services.jobs.states
    states[f"{first}-{SEGMENTS[0]}"], states[f"{first}-{SEGMENTS[1]}"] = "Completed", "Failed"
    poll_phase(services, {"run_id": first, "phase": "train", "gap": 1.0})
    close_run(services, {"run_id": first, "error": "the host was switched off"})
    second = begin(services)
    assert RunId.parse(second).attempt == 2
    assert items(services, second, "pretrain")["pooled"]["adopted_from"] == first
    assert plan_phase(services, {"run_id": second, "phase": "train"})["adopted"] == 2
    before = set(services.jobs.payloads)
    assert drive(services, second, "train")["counts"]["adopted"] == 2
    new = {name.removeprefix(f"{second}-") for name in set(services.jobs.payloads) - before}
    assert new == {SEGMENTS[1], SEGMENTS[3], SEGMENTS[4]}


@pytest.mark.parametrize(
    ("changed", "adopted"), [("", 1), ("code", 0), ("folder", 0), ("cutoff", 0), ("effort", 0)]
)
def test_changed_data_code_or_configuration_is_never_adopted(
    services: ScriptedServices, changed: str, adopted: int
) -> None:
    first = begin(services, SEGMENTS[:1])
    plan_phase(services, {"run_id": first, "phase": "train"})
    drive(services, first, "train")
    close_run(services, {"run_id": first, "error": "x"})
    if changed == "code":
        services.settings = replace(services.settings, code_version="c2")
    if changed == "effort":
        services.settings = replace(services.settings, train_effort="quick")
    facts = {"folder": f"{FOLDER}late/", "cutoff": "2017-W43"}
    second = begin(services, SEGMENTS[:1], {changed: facts[changed]} if changed in facts else None)
    assert plan_phase(services, {"run_id": second, "phase": "train"})["adopted"] == adopted
    assert items(services, second, "pretrain")["pooled"]["adopted_from"] == first * adopted
    drive(services, second, "train")
    own = {name.removeprefix(f"{second}-") for name in services.jobs.payloads if name.startswith(second)}
    assert own == (set() if adopted else {"pooled", SEGMENTS[0]})


def test_a_cancelled_run_cancels_its_jobs_and_submits_no_more(services: ScriptedServices) -> None:
    run_id = begin(services)
    plan_phase(services, {"run_id": run_id, "phase": "train"})
    tick(services, run_id)
    request_cancel(services, run_id, "operator", "wrong week")
    assert tick(services, run_id)["submit"] == []
    assert len(services.jobs.cancelled) == 3
    for name in services.jobs.cancelled:
        services.jobs.states[name] = "Canceled"
    assert "result" in tick(services, run_id)
    assert close_run(services, {"run_id": run_id})["status"] == "cancelled"


def test_the_budget_stops_a_phase_before_anything_is_submitted(services: ScriptedServices) -> None:
    services.settings = replace(services.settings, run_budget=0.01, node_price_per_hour=60.0)
    with pytest.raises(BudgetExceeded, match="nothing was submitted"):
        begin(services)
    assert services.jobs.payloads == {}


def test_a_refusal_that_may_pass_is_tried_for_some_minutes_before_it_counts(services: ScriptedServices) -> None:
    run_id = begin(services, SEGMENTS[:1])
    plan_phase(services, {"run_id": run_id, "phase": "train"})
    for _ in range(2):
        services.jobs.trouble.append(JobRejected("no role yet", status=403))
        tick(services, run_id)
        assert "no role yet" in items(services, run_id)[SEGMENTS[0]]["error"]
        assert items(services, run_id)[SEGMENTS[0]]["phase"] == "planned"
        services.clock.forward(minutes=6)
    services.jobs.trouble.append(JobRejected("no role yet", status=403))
    tick(services, run_id)
    assert items(services, run_id)[SEGMENTS[0]]["phase"] == "failed"


def test_a_cancellation_that_shows_no_effect_is_sent_again(services: ScriptedServices) -> None:
    run_id = begin(services, SEGMENTS[:1])
    plan_phase(services, {"run_id": run_id, "phase": "train"})
    tick(services, run_id)
    services.clock.forward(minutes=31)
    for _ in range(4):
        tick(services, run_id)
        services.clock.forward(minutes=1)
    assert services.jobs.cancelled == [f"{run_id}-{SEGMENTS[0]}"] * 2
    services.jobs.states[f"{run_id}-{SEGMENTS[0]}"] = "Canceled"
    assert "deadline" in tick(services, run_id)["result"]["failed"]
