"""Deliveries to stores (direct store delivery): the distributors' weekly files."""

from conditioning.dialect import Delimited, Document, FixedWidth, Sheet, SourceSpec
from conditioning.formats import x12

SOURCE = SourceSpec(
    name="deliveries",
    dialects=(
        Delimited("pipe", delimiter="|", quote="", encoding="cp1252"),
        Delimited("semicolon", delimiter=";", decimal_char=",", group_char="."),
        Delimited("comma"),
        FixedWidth(
            "fixed_width",
            fits=r"[A-Z0-9]{5,6} ?[A-Z0-9 ]{18}.{12}[A-Z0-9 ]{6}[0-9]{8}[ 0-9-]{7}[0-9 -]{9}$",
            encoding="ascii",
            columns=(
                ("store", 1, 6),
                ("document", 7, 24),
                ("department", 25, 36),
                ("item", 37, 42),
                ("date", 43, 50),
                ("units", 51, 57),
                ("amount", 58, 66),
            ),
        ),
        Sheet("workbook", sheet="Deliveries"),
        Document("x12", "x12", x12.COLUMNS, x12.read_deliveries),
    ),
)
