"""Histories of real runs go on under today's code: what would break a run in flight fails here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devhost.app_settings import read_settings
from devhost.function_index import FunctionIndex, load_app
from tests.crashkit.kit import Inconsistent, Recording, check_recording
from tests.crashkit.record import RECORDINGS

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(RECORDINGS.glob("*.json"))


@pytest.fixture(scope="module")
def index() -> Iterator[FunctionIndex]:
    """The app of this repository, indexed apart: an app can be indexed once, and other tests do so, too."""
    environment, module = dict(os.environ), sys.modules.pop("function_app", None)
    os.environ.update(read_settings(ROOT, os.environ))
    yield load_app(ROOT, os.environ)
    os.environ.clear()
    os.environ.update(environment)
    sys.modules.pop("function_app", None)
    if module is not None:
        sys.modules["function_app"] = module


def test_every_orchestrator_has_a_recording(index: FunctionIndex) -> None:
    recorded = {Recording.from_json(file.read_text()).name for file in FILES}
    assert recorded >= {"run_week", "run_jobs"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_recorded_run_goes_on(index: FunctionIndex, file: Path) -> None:
    check_recording(index, Recording.from_json(file.read_text()))


def test_a_change_that_breaks_runs_in_flight_is_seen(index: FunctionIndex) -> None:
    """The same history with another step in it stands for code that has been changed."""
    text = (RECORDINGS / "run_week.json").read_text()
    changed = text.replace('"Name": "curate_week"', '"Name": "curate_month"')
    assert changed != text
    with pytest.raises(Inconsistent, match="curate_week"):
        check_recording(index, Recording.from_json(changed))
