"""Segments: region x store format x velocity, the unit that owns one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from domain.errors import BadRequest

BASELINE = "baseline"
ENSEMBLE = "ensemble"


@dataclass(frozen=True, order=True)
class Segment:
    """One model's share of the business; `velocity` is `baseline` for a history-average baseline."""

    region: str
    store_format: str
    velocity: str

    @classmethod
    def parse(cls, key: str) -> Segment:
        """Read `r01-large-fast` or `r01-large-baseline`; raise BadRequest for anything else."""
        parts = key.split("-") if isinstance(key, str) else []
        if len(parts) != 3 or not all(parts):
            raise BadRequest(
                f"{key!r} is not a segment; write region-format-velocity, for example r01-large-fast",
                field="segment", value=key, remedy="use region-format-velocity",
            )
        return cls(*parts)

    @property
    def key(self) -> str:
        """Name used in job names, model names and paths."""
        return f"{self.region}-{self.store_format}-{self.velocity}"

    @property
    def is_baseline(self) -> bool:
        """Whether this is the baseline of its region and format."""
        return self.velocity == BASELINE

    @property
    def kind(self) -> str:
        """`baseline` or `ensemble`."""
        return BASELINE if self.is_baseline else ENSEMBLE

    @property
    def baseline(self) -> Segment:
        """The baseline that stands in for this segment."""
        return Segment(self.region, self.store_format, BASELINE)

    def __str__(self) -> str:
        return self.key


VELOCITY_RULE = (
    "fast = upper half of the actively sold products by mean weekly units of their active pairs up to the cutoff, "
    "ties by product id; v2"
)


def velocity_of_products(mean_weekly_units: Mapping[str, float]) -> dict[str, str]:
    """Return `fast` or `slow` for each product (R11): the upper half by mean weekly units is fast.

    Deterministic: equal means are ordered by product id; with an odd count the middle product is fast.
    """
    ranked = sorted(mean_weekly_units, key=lambda product: (-mean_weekly_units[product], product))
    fast = (len(ranked) + 1) // 2
    return {product: "fast" if rank < fast else "slow" for rank, product in enumerate(ranked)}
