"""What makes the SDK's replay faster computes the same."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from dateutil.parser import parse

from devhost.durable.history import wire_time
from devhost.durable.sdk_speed import reader


@pytest.mark.parametrize(
    "text",
    [
        "2017-11-06T04:00:00.000000Z",
        "2024-02-29T23:59:59.999999Z",
        wire_time(datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)),
        "2017-11-06T04:00:00Z",
        "2017-11-06T04:00:00.1234567Z",
        "2017-11-06T04:00:00.123456+02:00",
        "6 Nov 2017 04:00",
    ],
)
def test_times_are_read_to_the_same_value_and_zone(text: str) -> None:
    ours, theirs = reader(parse)(text), parse(text)
    assert (ours, ours.tzinfo, str(ours), ours.isoformat()) == (theirs, theirs.tzinfo, str(theirs), theirs.isoformat())


def test_other_calls_go_to_the_original() -> None:
    assert reader(parse)("2017", default=parse("2000-01-01")) == parse("2017-01-01")
    with pytest.raises(ValueError, match="nonsense"):
        reader(parse)("nonsense")
