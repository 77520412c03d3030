"""Forecast weather: Open-Meteo (CC BY 4.0, by Open-Meteo.com) and the US National Weather Service (public domain)."""

from conditioning.dialect import Document, SourceSpec
from conditioning.formats import forecasts

SOURCE = SourceSpec(
    name="weather_forecast",
    dialects=(
        Document(
            "nws_gridpoints",
            "json",
            forecasts.COLUMNS,
            forecasts.read_nws,
            fits=r'"(FeatureCollection|updateTime|validTimes)"',
        ),
        Document("open_meteo", "json", forecasts.COLUMNS, forecasts.read_open_meteo, fits=r'"daily(_units)?"'),
    ),
)
