"""Goods taken back from stores."""

from conditioning.dialect import Delimited, Document, Sheet, SourceSpec
from conditioning.formats import x12

SOURCE = SourceSpec(
    name="returns",
    dialects=(
        Delimited("comma"),
        Document("x12", "x12", x12.COLUMNS, x12.read_returns),
        Sheet("workbook", sheet="Returns"),
    ),
)
