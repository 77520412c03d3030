"""Weather history as NOAA's GHCN-Daily gives it, forecasts as Open-Meteo and the National Weather Service give them."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

from domain.sales_weeks import SalesWeek
from samples.local_testing import climate
from samples.local_testing.climate import Weather
from samples.local_testing.faults import Dropped
from samples.local_testing.world import LAST_WEEK, WEEKS, Region, regions, stream
from samples.raw_files import RawFile, gzipped

MISSING = -9999
UNKNOWN_STATION = "USW00099999"
FORECAST_DAYS = 14
FIRST_FORECAST = SalesWeek(2017, 40)
_DLY_WEEK = 20
_NWS_WEEK = 42
_IMPERIAL_WEEK = 44

Value = tuple[str, date, str, int, str, str]  # station, day, element, value, measurement flag, quality flag


def history_drops() -> list[Dropped]:
    """Return what happened, week by week; records are values (one station, day and element)."""
    return [_history_drop(week) for week in WEEKS]


def forecast_drops() -> list[Dropped]:
    """Return the forecasts for the last weeks, each issued on the Sunday before; records are place x day."""
    return [_forecast_drop(week) for week in WEEKS if FIRST_FORECAST <= week <= LAST_WEEK]


def stations_csv() -> bytes:
    """Return the station list: which station stands for which zip."""
    rows = ["station_id,zip,region,latitude,longitude"]
    rows += [f"{r.station_id},{r.zip_code},{r.name},{r.latitude:.4f},{r.longitude:.4f}" for r in regions()]
    return "".join(row + "\n" for row in rows).encode()


def _history_drop(week: SalesWeek) -> Dropped:
    values, faults = _with_faults(_values(week), week)
    if week.week == _DLY_WEEK:
        name, data = f"ghcnd_{week}.dly", _dly(values)
    else:
        rows = [
            f"{station},{day:%Y%m%d},{element},{value},{mark},{quality},S,"
            for station, day, element, value, mark, quality in values
        ]
        rows.insert(len(rows) // 2, f"{regions()[0].station_id},20171332,TMAX,211,,,S,")
        rows.append(rows[0])
        faults |= {"bad_date": 1, "duplicate": 1}
        name, data = f"ghcnd_{week}.csv.gz", gzipped("".join(row + "\n" for row in rows).encode("ascii"))
    records = len(values) + faults.get("bad_date", 0) + faults.get("duplicate", 0)
    return Dropped(RawFile("weather_history", str(week), name, data), records, faults)


def _values(week: SalesWeek) -> list[Value]:
    found: list[Value] = []
    for region in sorted(regions(), key=lambda region: region.station_id):
        for offset in range(7):
            day = week.monday + timedelta(days=offset)
            seen = climate.history(region)[day]
            for element, value in (
                ("TMAX", round(seen.high * 10)),
                ("TMIN", round(seen.low * 10)),
                ("PRCP", round(seen.rain * 10)),
                ("SNOW", round(seen.snow)),
                ("AWND", round(seen.wind * 10)),
            ):
                found.append((region.station_id, day, element, value, "", ""))
    return found


def _with_faults(values: list[Value], week: SalesWeek) -> tuple[list[Value], dict[str, int]]:
    """Make one value missing, one fail a quality check, one a trace; add a station that nobody knows."""
    draw = stream("weather faults", week)
    found = list(values)
    missing, failed, trace = draw.sample([i for i, entry in enumerate(values) if entry[2] in ("PRCP", "AWND")], 3)
    found[missing] = (*found[missing][:3], MISSING, "", "")
    found[failed] = (*found[failed][:3], 9990, "", "X")
    found[trace] = (*found[trace][:3], 0, "T", "")
    found.append((UNKNOWN_STATION, week.monday, "TMAX", 150, "", ""))
    return found, {"missing_value": 1, "failed_quality_check": 1, "unknown_station": 1}


def _dly(values: list[Value]) -> bytes:
    """Return the fixed-width monthly records (269 characters); days without a value are -9999."""
    months: dict[tuple[str, int, int, str], dict[int, Value]] = {}
    for entry in values:
        station, day, element = entry[:3]
        months.setdefault((station, day.year, day.month, element), {})[day.day] = entry
    lines = []
    for (station, year, month, element), days in months.items():
        cells = []
        for number in range(1, 32):
            value, mark, quality, source = MISSING, "", "", ""
            if number in days:
                value, mark, quality = days[number][3:]
                source = "" if value == MISSING else "S"
            cells.append(f"{value:>5}{mark:<1}{quality:<1}{source:<1}")
        lines.append(f"{station}{year:04d}{month:02d}{element}{''.join(cells)}\n")
    return "".join(lines).encode("ascii")


def _forecast_drop(week: SalesWeek) -> Dropped:
    issued = week.monday - timedelta(days=1)
    places = [(region, climate.forecast(region, issued, FORECAST_DAYS)) for region in regions()]
    draw = stream("forecast faults", week)
    if week.week == _NWS_WEEK:
        document: Any = {"type": "FeatureCollection", "features": [_gridpoint(*place, issued) for place in places]}
        name = f"nws_gridpoints_{week}.json"
        draw.choice(document["features"])["properties"]["maxTemperature"]["values"][3]["value"] = None
        return _json_drop(week, name, document, len(places) * FORECAST_DAYS, {"missing_value": 1})
    document = [_open_meteo(*place, issued, imperial=week.week == _IMPERIAL_WEEK) for place in places]
    draw.choice(document)["daily"]["wind_speed_10m_max"][5] = None
    draw.choice(document)["daily"]["temperature_2m_max"][2] = 999.0
    faults = {"missing_value": 1, "impossible_value": 1}
    return _json_drop(week, f"open_meteo_{week}.json.gz", document, len(places) * FORECAST_DAYS, faults)


def _json_drop(week: SalesWeek, name: str, document: Any, records: int, faults: dict[str, int]) -> Dropped:
    data = (json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
    data = gzipped(data) if name.endswith(".gz") else data
    return Dropped(RawFile("weather_forecast", str(week), name, data), records, faults)


def _open_meteo(region: Region, days: dict[date, Weather], issued: date, *, imperial: bool) -> dict[str, Any]:
    inch, units = 25.4, ("°F", "inch", "inch", "mp/h") if imperial else ("°C", "mm", "cm", "km/h")

    def degrees(value: float) -> float:
        return round(value * 9 / 5 + 32, 1) if imperial else value

    return {
        "zip": region.zip_code,
        "issued_at": f"{issued}T12:00:00Z",
        "latitude": round(region.latitude * 16) / 16,  # of the grid cell, not of the place
        "longitude": round(region.longitude * 16) / 16,
        "generationtime_ms": 0.1,
        "utc_offset_seconds": 0,
        "timezone": "GMT",
        "timezone_abbreviation": "GMT",
        "elevation": 100.0,
        "daily_units": {
            "time": "iso8601",
            "temperature_2m_max": units[0],
            "temperature_2m_min": units[0],
            "precipitation_sum": units[1],
            "snowfall_sum": units[2],
            "wind_speed_10m_max": units[3],
        },
        "daily": {
            "time": [str(day) for day in days],
            "temperature_2m_max": [degrees(seen.high) for seen in days.values()],
            "temperature_2m_min": [degrees(seen.low) for seen in days.values()],
            "precipitation_sum": [round(seen.rain / inch, 3) if imperial else seen.rain for seen in days.values()],
            "snowfall_sum": [round(seen.snow / (inch if imperial else 10), 3) for seen in days.values()],
            "wind_speed_10m_max": [round(seen.wind * (2.23694 if imperial else 3.6), 1) for seen in days.values()],
        },
    }


def _gridpoint(region: Region, days: dict[date, Weather], issued: date) -> dict[str, Any]:
    def daily(hour: int, length: str, values: list[float]) -> list[dict[str, Any]]:
        return [
            {"validTime": f"{day}T{hour:02d}:00:00+00:00/{length}", "value": value}
            for day, value in zip(days, values, strict=True)
        ]

    rain: list[dict[str, Any]] = []
    wind: list[dict[str, Any]] = []
    for day, seen in days.items():
        for quarter, share in enumerate((0.25, 0.5, 0.25, 0.0)):
            start = f"{day}T{quarter * 6:02d}:00:00+00:00/PT6H"
            rain.append({"validTime": start, "value": round(seen.rain * share, 3)})
        for hours, share in (("00", 0.6), ("09", 1.0), ("18", 0.7)):
            length = "PT9H" if hours != "18" else "PT6H"
            wind.append(
                {"validTime": f"{day}T{hours}:00:00+00:00/{length}", "value": round(seen.wind * 3.6 * share, 3)}
            )
    layers = {
        "maxTemperature": ("wmoUnit:degC", daily(12, "PT12H", [seen.high for seen in days.values()])),
        "minTemperature": ("wmoUnit:degC", daily(0, "PT12H", [seen.low for seen in days.values()])),
        "quantitativePrecipitation": ("wmoUnit:mm", rain),
        "snowfallAmount": ("wmoUnit:mm", daily(0, "PT24H", [seen.snow for seen in days.values()])),
        "windSpeed": ("wmoUnit:km_h-1", wind),
    }
    return {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [region.longitude, region.latitude]},
        "properties": {
            "zip": region.zip_code,
            "updateTime": f"{issued}T12:00:00+00:00",
            "validTimes": f"{issued + timedelta(days=1)}T00:00:00+00:00/P{FORECAST_DAYS}D",
            **{name: {"uom": uom, "values": values} for name, (uom, values) in layers.items()},
        },
    }
