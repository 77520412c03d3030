"""Dropping raw files into the landing zone, week after week, and waiting until conditioning has taken them in."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from adapters.lake import BlobLake
from domain import lake_paths
from domain.sales_weeks import SalesWeek
from samples.demo_host import DemoError
from samples.raw_files import RawFile

QUIET_SECONDS = 60.0  # without any new outcome for so long, the pipeline's own sweep takes over


@dataclass(frozen=True)
class SampleSet:
    """One of the two sample sets: where its raw drops come from, its scenario, its default week."""

    name: str
    scenario_file: str
    default_week: str
    effort: str

    def files(self, week: SalesWeek, cache: Path) -> Iterator[RawFile]:
        """Yield what would have landed before the forecast of `week` is due: history, and what is known ahead."""
        folder = Path(__file__).parent / "local_testing" / "data"
        if self.name == "complete_journey":
            folder = _generated(week, cache)
        for path in sorted(folder.glob("*/*/*")):
            source, week_text, name = path.relative_to(folder).parts
            about = SalesWeek.parse(week_text)
            known_ahead = source in ("promotions", "weather_forecast")
            if about < week or (known_ahead and about == week):
                yield RawFile(source, week_text, name, path.read_bytes())


SAMPLE_SETS = {
    "complete_journey": SampleSet(
        "complete_journey", "samples/complete_journey/scenario.json", "2017-W45", "standard"
    ),
    "local_testing": SampleSet("local_testing", "config/scenario.json", "2017-W45", "quick"),
}


def _generated(week: SalesWeek, cache: Path) -> Path:
    """Return a folder with the Complete Journey's raw drops up to `week`; made once, complete or not at all."""
    from samples.complete_journey.drops import raw_drops
    from samples.complete_journey.journey import FIRST_WEEK

    folder = cache / f"complete-journey-{week}"
    if not folder.exists():
        unfinished = cache / f".complete-journey-{week}"
        for raw in raw_drops(FIRST_WEEK, week.plus(-1), 1):
            raw.write(unfinished)
        unfinished.rename(folder)
    return folder


def drop(lake: BlobLake, files: Iterable[RawFile], on_file: Callable[[RawFile, bool], None]) -> int:
    """Upload every file that the landing zone does not have with these bytes yet; return how many were new."""
    landed = {blob.path: blob.metadata.get("sha256") for blob in lake.list(lake_paths.LANDING)}
    new = 0
    for raw in files:
        digest = hashlib.sha256(raw.data).hexdigest()
        is_new = landed.get(raw.path) != digest
        if is_new:
            lake.write(lake_paths.LANDING, raw.path, raw.data, metadata={"sha256": digest})
            new += 1
        on_file(raw, is_new)
    return new


def wait_for_outcomes(
    lake: BlobLake, wanted: set[str], on_count: Callable[[int], None], check: Callable[[], None]
) -> int:
    """Wait until each landed file has an outcome document, or nothing moves any more; return how many have one."""
    seen = -1
    last_change = time.monotonic()
    while True:
        check()
        done = {
            f"{blob.path.rpartition('/')[0]}/{blob.metadata.get('source_file', '')}"
            for blob in lake.list(lake_paths.CONDITIONED) if blob.path.endswith(".manifest.json")
        }
        count = len(done & wanted)
        if count != seen:
            seen, last_change = count, time.monotonic()
            on_count(count)
        if count >= len(wanted) or time.monotonic() - last_change > QUIET_SECONDS:
            return count
        time.sleep(1.0)


def sample_set(name: str) -> SampleSet:
    """Return the sample set of that name; raise DemoError naming the ones that exist."""
    if name not in SAMPLE_SETS:
        raise DemoError(f"there is no sample set {name!r}; choose one of {', '.join(SAMPLE_SETS)}")
    return SAMPLE_SETS[name]
