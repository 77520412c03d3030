"""Display and mailer support: the marketing department's weekly plan."""

from conditioning.dialect import Delimited, SourceSpec

SOURCE = SourceSpec(
    name="promotions",
    dialects=(
        Delimited("comma"),
        Delimited("percent"),
    ),
)
