"""The invented weather: what happened, and what was forecast before it happened."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

from samples.local_testing.world import FIRST_WEEK, LAST_WEEK, Region, stream

_FIRST_DAY = FIRST_WEEK.monday
_DAYS = (LAST_WEEK.plus(3).monday - _FIRST_DAY).days


@dataclass(frozen=True)
class Weather:
    """One day at one place: degrees Celsius, millimetres, metres per second."""

    high: float
    low: float
    rain: float
    snow: float
    wind: float


def norm(region: Region, day: date) -> float:
    """Return the usual mean temperature of the day, in degrees Celsius; midsummer is 15 July."""
    angle = 2 * math.pi * (day.timetuple().tm_yday - 196) / 365
    return region.mean_temperature + region.swing * math.cos(angle)


@cache
def history(region: Region) -> dict[date, Weather]:
    """Return what happened on every day from the first week on; warm and cold spells last some days."""
    draw = stream("weather", region.name)
    found = {}
    spell = 0.0
    for offset in range(_DAYS):
        day = _FIRST_DAY + timedelta(days=offset)
        spell = 0.75 * spell + draw.gauss(0.0, 2.6)
        middle = norm(region, day) + spell
        spread = 4.0 + 2.0 * draw.random()
        wet = draw.random() < 0.28
        rain = round(draw.expovariate(1 / 6.0), 1) if wet else 0.0
        snow = round(rain * 8) if wet and middle < 0 else 0
        wind = round(2.0 + draw.expovariate(1 / 2.0), 1)
        found[day] = Weather(round(middle + spread, 1), round(middle - spread, 1), rain, float(snow), wind)
    return found


def forecast(region: Region, issued_on: date, days: int) -> dict[date, Weather]:
    """Return the forecast for the `days` days after `issued_on`: the truth, blurred more with every day ahead."""
    draw = stream("forecast", region.name, issued_on)
    truth = history(region)
    found = {}
    for ahead in range(1, days + 1):
        day = issued_on + timedelta(days=ahead)
        error = draw.gauss(0.0, 0.4 + 0.22 * ahead)
        seen = truth[day]
        rain = max(0.0, round(seen.rain * draw.uniform(0.6, 1.3), 1)) if draw.random() < 0.85 else 0.0
        found[day] = Weather(
            round(seen.high + error, 1),
            round(seen.low + error, 1),
            rain,
            seen.snow if rain else 0.0,
            round(seen.wind * draw.uniform(0.8, 1.25), 1),
        )
    return found
