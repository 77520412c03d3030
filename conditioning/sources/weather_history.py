"""Observed weather: NOAA GHCN-Daily (public domain)."""

from conditioning.dialect import Document, SourceSpec
from conditioning.formats import ghcn

SOURCE = SourceSpec(
    name="weather_history",
    dialects=(
        Document(
            "ghcn_by_year", "text", ghcn.COLUMNS, ghcn.read_by_year, fits=r'"?[A-Z0-9_-]{11}"?,\d{8},[A-Z0-9]{4},'
        ),
        Document("ghcn_dly", "text", ghcn.COLUMNS, ghcn.read_dly, fits=r"[A-Z0-9_-]{11}\d{6}[A-Z0-9]{4}[ 0-9-]{5}"),
    ),
    tables=(ghcn.STATIONS,),
)
