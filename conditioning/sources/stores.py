"""The stores that are delivered to."""

from conditioning.dialect import Delimited, SourceSpec

SOURCE = SourceSpec(
    name="stores",
    dialects=(
        Delimited("comma"),
        Delimited("semicolon", delimiter=";", encoding="cp1252"),
    ),
)
