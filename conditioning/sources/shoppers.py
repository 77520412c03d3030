"""Who lives around each store: American Community Survey figures by store, and market research tables."""

from conditioning.dialect import Delimited, Document, Sheet, SourceSpec
from conditioning.formats import acs

SOURCE = SourceSpec(
    name="shoppers",
    dialects=(
        Document("acs", "json", acs.COLUMNS, acs.read_acs, fits=r"^\s*\[\s*\["),
        Delimited("comma"),
        Sheet("workbook"),
    ),
)
