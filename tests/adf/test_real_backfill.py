"""Eight past weeks by the tumbling window trigger on the real functions: any order, killed on the way, same bytes."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from devhost.adf.factory import Factory
from devhost.adf.runner import Options
from devhost.adf.spans import instant, short_stamp
from devhost.adf.triggers.service import run_windows
from tests.adf.real_app import ROOT, RealApp, history, our_factory
from tests.adf.waiting import wait_until

START, END = instant("2017-09-04T00:00:00Z"), instant("2017-10-30T00:00:00Z")
WEEKS = [f"2017-W{week}" for week in range(36, 44)]
JOBS = ["pooled", "r01-large-baseline", "r01-large-fast", "r01-large-slow", "score-r01"]
TRIGGER = "tr_backfill_weekly"

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def test_eight_weeks_in_any_order_and_killed_on_the_way_have_the_same_bytes_and_nothing_twice(tmp_path: Path) -> None:
    newest_first, killed = tmp_path / "newest_first", tmp_path / "killed"
    newest_first.mkdir()
    killed.mkdir()
    with RealApp(newest_first, without_arrivals=True) as app:
        app.land(history("2017-W43"))
        backfill_newest_first(app)
        expected = app.published(WEEKS)
        nothing_twice(app)
        assert app.publishes() != sorted(app.publishes()), "the weeks did end in another order"
    with RealApp(killed, without_arrivals=True) as app:
        app.land(history("2017-W43"))
        backfill_killed_on_the_way(app)
        assert app.published(WEEKS) == expected
        nothing_twice(app)


def backfill_newest_first(app: RealApp) -> None:
    """Two windows at a time, the last ones first: what a week gets must not depend on what later weeks wrote."""
    loaded = Factory.load(our_factory(app.folder / "adf"))
    options = Options(url=app.host.url, wait_scale=15, data=app.folder)
    for back in range(0, len(WEEKS), 2):
        until = END - timedelta(weeks=back)
        windows = asyncio.run(run_windows(loaded, TRIGGER, options, first=until - timedelta(weeks=2), until=until))
        assert [w.status for w in windows.values()] == ["Succeeded"] * 2, [w.message for w in windows.values()]


def backfill_killed_on_the_way(app: RealApp) -> None:
    """Two at a time; runner and host are killed by SIGKILL while weeks are under way, and both started again."""
    state = app.folder / "adf" / "triggers" / f"{TRIGGER}.json"
    factory = our_factory(app.folder / "factory")
    command = [sys.executable, "-m", "devhost.adf", "backfill", TRIGGER, "--factory", str(factory)]
    command += ["--start", short_stamp(START), "--end", short_stamp(END), "--url", app.host.url]
    command += ["--data", str(app.folder), "--time-scale", "15"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as runner:
        wait_until(lambda: count(state, "Succeeded") >= 2 and count(state, "Running") > 0 and is_training(app))
        runner.send_signal(signal.SIGKILL)
        app.host.kill()
    done = {w["start"] for w in windows_in(state) if w["status"] == "Succeeded"}
    assert 2 <= len(done) < len(WEEKS)
    app.host.start()
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert {w["status"] for w in windows_in(state)} == {"Succeeded"}
    assert all(w["attempts"] == 1 for w in windows_in(state) if w["start"] in done), "what had ended was not run again"


def nothing_twice(app: RealApp) -> None:
    """Each week is one run of one attempt, with each of its jobs once, published once."""
    assert app.run_ids() == [f"backfill-{week}-a1" for week in WEEKS]
    assert app.jobs() == sorted(f"backfill-{week}-a1-{job}" for week in WEEKS for job in JOBS)
    assert Counter(app.publishes()) == dict.fromkeys(WEEKS, 1)


def is_training(app: RealApp) -> bool:
    """Whether some run is between its first job and its publish."""
    steps = {run["summary"]["step"] for run in app.get("runs?limit=200")["runs"] if run["status"] == "running"}
    return bool(steps & {"pretrain", "train", "accept", "score"})


def windows_in(state: Path) -> list[dict[str, object]]:
    return list(json.loads(state.read_text())["windows"]) if state.exists() else []


def count(state: Path, status: str) -> int:
    return sum(window["status"] == status for window in windows_in(state))
