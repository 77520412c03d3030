"""Fire times of schedule triggers."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

import pytest

from devhost.adf.errors import FactoryError
from devhost.adf.triggers.recurrence import Recurrence

CENTRAL = "Central Standard Time"


def times(count: int, after: str, **definition: object) -> list[str]:
    recurrence = Recurrence.read(definition)
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    return [when.strftime("%m-%d %H:%M") for when in islice(recurrence.after(moment), count)]


def test_an_even_step_from_the_start() -> None:
    start = "2024-01-01T00:10:00Z"
    assert times(3, "2024-01-01T00:00", frequency="Minute", interval=15, startTime=start) == [
        "01-01 00:10",
        "01-01 00:25",
        "01-01 00:40",
    ]
    assert times(2, "2024-01-01T02:00", frequency="Hour", interval=2, startTime=start) == ["01-01 02:10", "01-01 04:10"]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"hours": [5]}, ["01-01 05:00", "01-02 05:00", "01-03 05:00"]),
        ({"minutes": [15], "hours": [5, 17]}, ["01-01 05:15", "01-01 17:15", "01-02 05:15"]),
        ({"minutes": [0, 30]}, ["01-01 00:00", "01-01 00:30", "01-01 01:00"]),
        ({}, ["01-01 00:00", "01-02 00:00", "01-03 00:00"]),
    ],
)
def test_every_day_at_hours_and_minutes(schedule: dict, expected: list[str]) -> None:
    definition = {"frequency": "Day", "interval": 1, "startTime": "2024-01-01T00:00:00Z", "schedule": schedule}
    assert times(3, "2023-12-31T00:00", **definition) == expected


def test_weeks_count_from_the_starts_week() -> None:
    definition = {
        "frequency": "Week",
        "interval": 2,
        "startTime": "2024-01-03T06:00:00Z",
        "schedule": {"weekDays": ["Monday", "Thursday"]},
    }
    assert times(3, "2024-01-01T00:00", **definition) == ["01-04 06:00", "01-15 06:00", "01-18 06:00"]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"monthDays": [31]}, ["01-31 06:00", "03-31 06:00"]),
        ({"monthDays": [-1]}, ["01-31 06:00", "02-29 06:00"]),
        ({"monthlyOccurrences": [{"day": "friday", "occurrence": 1}]}, ["01-05 06:00", "02-02 06:00"]),
        ({"monthlyOccurrences": [{"day": "friday", "occurrence": -1}]}, ["01-26 06:00", "02-23 06:00"]),
    ],
)
def test_days_of_the_month(schedule: dict, expected: list[str]) -> None:
    definition = {"frequency": "Month", "interval": 1, "startTime": "2024-01-01T06:00:00Z", "schedule": schedule}
    assert times(2, "2024-01-01T00:00", **definition) == expected


def test_the_wall_clock_of_the_zone_is_kept_over_daylight_saving() -> None:
    definition = {"frequency": "Day", "interval": 1, "startTime": "2017-01-01T06:00:00", "timeZone": CENTRAL}
    assert times(2, "2017-03-11T12:00", **definition) == ["03-12 11:00", "03-13 11:00"]
    assert times(3, "2017-11-03T12:00", **definition) == ["11-04 11:00", "11-05 12:00", "11-06 12:00"]


def test_a_time_that_the_clocks_skip_or_repeat_happens_once() -> None:
    definition = {"frequency": "Day", "interval": 1, "startTime": "2017-01-01T02:30:00", "timeZone": CENTRAL}
    assert times(2, "2017-03-12T00:00", **definition) == ["03-12 08:30", "03-13 07:30"]
    definition["startTime"] = "2017-01-01T01:30:00"
    assert times(2, "2017-11-05T00:00", **definition) == ["11-05 06:30", "11-06 07:30"]


def test_nothing_fires_before_the_start_or_after_the_end() -> None:
    definition = {
        "frequency": "Day",
        "interval": 1,
        "startTime": "2024-01-10T06:00:00Z",
        "endTime": "2024-01-11T06:00:00Z",
        "schedule": {"hours": [5, 6]},
    }
    assert times(9, "2024-01-01T00:00", **definition) == ["01-10 06:00", "01-11 05:00", "01-11 06:00"]


def test_what_is_not_known_is_named() -> None:
    with pytest.raises(FactoryError, match="'Fortnight'"):
        Recurrence.read({"frequency": "Fortnight"})
    with pytest.raises(FactoryError, match="'Nowhere Standard Time'"):
        Recurrence.read({"frequency": "Day", "timeZone": "Nowhere Standard Time"})
