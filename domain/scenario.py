"""The business scenario: what is configuration and not code (regions, formats, sources, thresholds).

Another company, or another region, is another `config/scenario.json`; no module names one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from domain.errors import BadSetting
from domain.sales_weeks import SalesWeek
from domain.segments import BASELINE, Segment

_NAME = re.compile(r"^[a-z0-9]{1,12}$")


@dataclass(frozen=True)
class Source:
    """One source as the business sees it: who owns it, how often it comes, whether a run needs it."""

    name: str
    cadence: str  # weekly | snapshot
    required: bool
    owner: str
    origin: str
    max_age_weeks: int  # a newer file must have come within this many weeks of the run week

    @property
    def is_snapshot(self) -> bool:
        """Whether the latest file up to the run week stands for all weeks."""
        return self.cadence == "snapshot"


@dataclass(frozen=True)
class Scenario:
    """All that distinguishes one deployment's business from another's."""

    name: str
    regions: tuple[str, ...]
    store_formats: tuple[str, ...]
    velocities: tuple[str, ...]
    history_start: SalesWeek
    sources: tuple[Source, ...]
    horizon_weeks: int
    mape_target: float  # a model above it is refused
    mission_mape: float  # what the mission calls significant; reported beside the target
    stale_after_days: int
    drift_psi_limit: float  # a feature whose PSI against the training reaches it is a reason to train again
    min_selling_weeks: int
    active_within_weeks: int
    max_quarantine_share: float

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scenario:
        """Build and check a scenario; raise BadSetting naming every fault at once."""
        faults = list(_faults(data))
        if faults:
            raise BadSetting("the scenario is not usable: " + "; ".join(faults), field="scenario")
        quality = data["quality"]
        return cls(
            name=str(data["name"]),
            regions=tuple(data["regions"]),
            store_formats=tuple(data["store_formats"]),
            velocities=tuple(data["velocities"]),
            history_start=SalesWeek.parse(data["history_start"]),
            sources=tuple(
                Source(
                    name=name,
                    cadence=entry["cadence"],
                    required=bool(entry["required"]),
                    owner=entry.get("owner", ""),
                    origin=entry.get("origin", ""),
                    max_age_weeks=int(entry.get("max_age_weeks", 1)),
                )
                for name, entry in data["sources"].items()
            ),
            horizon_weeks=int(data["horizon_weeks"]),
            mape_target=float(quality["mape_target"]),
            mission_mape=float(quality.get("mission_mape", 0.45)),
            stale_after_days=int(quality["stale_after_days"]),
            drift_psi_limit=float(quality.get("drift_psi_limit", 0.25)),
            min_selling_weeks=int(quality["min_selling_weeks"]),
            active_within_weeks=int(quality["active_within_weeks"]),
            max_quarantine_share=float(quality["max_quarantine_share"]),
        )

    def segments(self) -> Iterator[Segment]:
        """Yield every segment that must have an ensemble: region x format x velocity."""
        for region in self.regions:
            for store_format in self.store_formats:
                for velocity in self.velocities:
                    yield Segment(region, store_format, velocity)

    def baselines(self) -> Iterator[Segment]:
        """Yield every history-average baseline: region x format."""
        for region in self.regions:
            for store_format in self.store_formats:
                yield Segment(region, store_format, BASELINE)

    def source(self, name: str) -> Source | None:
        """Return the named source, or None where the scenario has none of that name."""
        return next((source for source in self.sources if source.name == name), None)


def _faults(data: Mapping[str, Any]) -> Iterator[str]:
    needed = ("name", "regions", "store_formats", "velocities", "history_start", "sources", "horizon_weeks", "quality")
    missing = [key for key in needed if key not in data]
    if missing:
        yield f"missing {', '.join(missing)}"
        return
    for key in ("regions", "store_formats", "velocities"):
        names = data[key]
        if not isinstance(names, list) or not names or len(set(names)) != len(names):
            yield f"{key} must be a list of distinct names"
            continue
        bad = [name for name in names if not isinstance(name, str) or not _NAME.match(name)]
        if bad:
            yield f"{key}: {bad} must be 1-12 lower-case letters and digits"
    if BASELINE in data["velocities"]:
        yield f"velocities: {BASELINE!r} is reserved"
    for name, entry in data["sources"].items():
        if entry.get("cadence") not in ("weekly", "snapshot"):
            yield f"sources.{name}.cadence must be weekly or snapshot"
        if not isinstance(entry.get("required"), bool):
            yield f"sources.{name}.required must be true or false"
    for key in ("mape_target", "stale_after_days", "min_selling_weeks", "active_within_weeks", "max_quarantine_share"):
        value = data["quality"].get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            yield f"quality.{key} must be a positive number"
