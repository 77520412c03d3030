"""Weather forecasts: Open-Meteo answers and NWS gridpoints, as rows of zip, issue day and day in our units."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from conditioning.batches import Broken
from conditioning.dialect import ReadContext, Row, Rows
from conditioning.formats.documents import json_text, load_json
from conditioning.number_cells import plain_decimal
from conditioning.raw_input import Stream
from conditioning.reasons import FileRefused
from conditioning.units import conversion
from domain.errors import BadRequest

COLUMNS = ("zip", "issued_on", "date", "tmax_c", "tmin_c", "precip_mm", "snow_mm", "wind_ms")
_OURS = {"tmax_c": "celsius", "tmin_c": "celsius", "precip_mm": "mm", "snow_mm": "mm", "wind_ms": "m_s"}
_DAILY = {
    "temperature_2m_max": "tmax_c",
    "temperature_2m_min": "tmin_c",
    "precipitation_sum": "precip_mm",
    "snowfall_sum": "snow_mm",
    "wind_speed_10m_max": "wind_ms",
}
_LAYERS: dict[
    str, tuple[str, Callable[[list[Decimal]], Decimal | int]]
] = {  # layer -> (our column, how the values of a day become one)
    "maxTemperature": ("tmax_c", max),
    "minTemperature": ("tmin_c", min),
    "quantitativePrecipitation": ("precip_mm", sum),
    "snowfallAmount": ("snow_mm", sum),
    "windSpeed": ("wind_ms", max),
}
_INTERVAL = re.compile(r"(?P<start>[^/]+)/P(?:(?P<days>\d+)D)?(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?)?")
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d{1,2})?")


def read_open_meteo(stream: Stream, context: ReadContext) -> Rows:
    """Yield a row per place and day; units are read from the answer, never assumed."""
    document = load_json(stream, context.file, context.limits)
    number = 0
    for at, answer in enumerate(document if isinstance(document, list) else [document], 1):
        daily = answer.get("daily") if isinstance(answer, dict) else None
        if not isinstance(daily, dict) or not isinstance(daily.get("time"), list):
            raise _malformed(context.file, at, "daily.time", "an Open-Meteo answer with daily.time")
        days = daily["time"]
        for name, values in daily.items():
            if not isinstance(values, list) or len(values) != len(days):
                raise _malformed(context.file, at, f"daily.{name}", f"a list of {len(days)} values")
        units = answer.get("daily_units") or {}
        issued = str(answer.get("issued_at", ""))[:10]
        for index, day in enumerate(days):
            number += 1
            raw = {
                "zip": answer.get("zip"),
                "issued_at": answer.get("issued_at"),
                **{name: values[index] for name, values in daily.items()},
            }
            text = json.dumps(raw, ensure_ascii=False)
            cells = {
                column: _converted(daily[name][index], str(units.get(name, "")), column, context.file, at)
                for name, column in _DAILY.items()
                if name in daily
            }
            date = _from_unix(json_text(day)) if units.get("time") == "unixtime" else json_text(day)
            yield Row(
                number,
                (json_text(answer.get("zip")), issued, date, *(cells.get(column, "") for column in COLUMNS[3:])),
                text,
            )


def _from_unix(text: str) -> str:
    return (datetime(1970, 1, 1) + timedelta(seconds=int(text))).date().isoformat() if text.isdigit() else text


def _converted(value: Any, unit: str, column: str, file: str, at: int) -> str:
    text = json_text(value)
    if not _NUMBER.fullmatch(text):
        return text  # missing, or wrong: the contract's rule says which
    try:
        change = conversion(unit, _OURS[column])
    except BadRequest as error:
        raise FileRefused(
            "malformed_document",
            f"{file}, answer {at}: {error.message}",
            file=file,
            row=at,
            field=column,
            value=unit,
            remedy=error.fields.get("remedy", ""),
        ) from error
    if not unit:
        raise _malformed(file, at, column, "a declared unit")
    amount = Decimal(text)
    return plain_decimal((amount + change[1]) * change[0] if change else amount)


def read_nws(stream: Stream, context: ReadContext) -> Rows:
    """Yield a row per place and day; an interval counts for the UTC day on which it starts."""
    document = load_json(stream, context.file, context.limits)
    features = document.get("features") if isinstance(document, dict) else None
    features = features if isinstance(features, list) else [document]
    number = 0
    for at, feature in enumerate(features, 1):
        properties = feature.get("properties") if isinstance(feature, dict) else None
        if not isinstance(properties, dict) or "updateTime" not in properties:
            raise _malformed(context.file, at, "properties.updateTime", "a gridpoints answer")
        days: dict[str, dict[str, list[Decimal]]] = {}
        for layer, (column, _) in _LAYERS.items():
            for day, value in _intervals(properties.get(layer), layer, column, context.file, at):
                days.setdefault(day, {}).setdefault(column, []).append(value)
        for day, found in sorted(days.items()):
            number += 1
            cells = {
                column: plain_decimal(Decimal(join(found[column])))
                for column, join in _LAYERS.values()
                if column in found
            }
            raw = json.dumps(
                {"zip": properties.get("zip"), "date": day, "updateTime": properties["updateTime"], **cells}
            )
            place, issued = json_text(properties.get("zip")), str(properties["updateTime"])[:10]
            if not any(cells.values()):
                yield Broken(number, "missing_value", "", "", "a value", raw)
            else:
                yield Row(number, (place, issued, day, *(cells.get(column, "") for column in COLUMNS[3:])), raw)


def _intervals(layer: Any, name: str, column: str, file: str, at: int) -> Iterator[tuple[str, Decimal]]:
    if not isinstance(layer, dict):
        return
    for entry in layer.get("values") or []:
        text = json_text(entry.get("value"))
        match = _INTERVAL.fullmatch(str(entry.get("validTime", "")))
        if match is None:
            raise _malformed(file, at, f"{name}.validTime", "an ISO 8601 interval")
        if not text:
            continue
        if not _NUMBER.fullmatch(text):
            raise _malformed(file, at, f"{name}.value", "a number or null")
        converted = _converted(text, str(layer.get("uom", "")), column, file, at)
        yield match["start"][:10], Decimal(converted)


def _malformed(file: str, at: int, name: str, expected: str) -> FileRefused:
    return FileRefused(
        "malformed_document",
        f"{file}, answer {at}: {name} is not {expected}",
        file=file,
        row=at,
        field=name,
        remedy=f"deliver {expected}",
    )
