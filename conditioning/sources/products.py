"""The products that are delivered."""

from conditioning.dialect import Delimited, Sheet, SourceSpec

SOURCE = SourceSpec(
    name="products",
    dialects=(
        Delimited("comma"),
        Sheet("workbook", sheet="Items"),
    ),
)
