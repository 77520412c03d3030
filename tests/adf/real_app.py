"""The real functions on a real host, small enough for tests: two stores, three sources, light jobs instead of models.

Everything but the arithmetic inside the jobs is the product: function_app.py on devhost with Azurite, the durable
orchestrators, the job agent and its processes, components and pipelines, registry, results, published weeks.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapters.lake import BlobLake, connect
from domain import lake_paths
from domain.sales_weeks import SalesWeek, weeks_between
from orchestrators.audit import read_audit
from orchestrators.publishing import published_bytes
from samples.local_testing import demand, references, shipments, world
from samples.raw_files import RawFile
from scripts.host_process import HostProcess

ROOT = Path(__file__).parents[2]
LIGHT_JOBS = Path(__file__).parent / "light_jobs"
SOURCES = ("deliveries", "stores", "products")
FIRST_WEEK = SalesWeek.parse("2017-W26")
STORES = frozenset(s.store_id for s in world.stores() if s.region.name == "r01" and s.store_format == "large")
SETTINGS = {
    "TELEMETRY_BACKEND": "none", "TRAIN_EFFORT": "quick", "CODE_VERSION": "tests", "POLL_FIRST_SECONDS": "0.1",
    "POLL_LONGEST_SECONDS": "0.3",
}  # fmt: skip


def deliveries(week: SalesWeek, name: str = "", keep: slice = slice(None)) -> RawFile:
    """The local testing data's deliveries of our stores, in the dialect of most weeks."""
    lines = [line for line in demand.deliveries(week) if line.store_id in STORES][keep]
    usual, data = shipments.pipe_delimited(lines, week)
    return RawFile("deliveries", str(week), name or usual, data)


def history(last: str) -> list[RawFile]:
    """The references and the deliveries of every week up to `last`."""
    found = [deliveries(week) for week in weeks_between(FIRST_WEEK, SalesWeek.parse(last))]
    for raw in (drop.raw for drop in references.reference_drops()):
        if raw.source == "stores":
            header, *rows = raw.data.splitlines(keepends=True)
            ours = b"".join([header, *(row for row in rows if row.split(b";")[0].decode() in STORES)])
            found.append(RawFile("stores", str(FIRST_WEEK), raw.name, ours))
        elif raw.source == "products" and raw.name.endswith(".csv"):
            found.append(RawFile("products", str(FIRST_WEEK), raw.name, raw.data))
    return found


def make_app(folder: Path) -> Path:
    """The product's app folder with a small scenario and light jobs."""
    folder.mkdir()
    for file in ("function_app.py", "bootstrap.py", "settings.py", "http_api.py", "host.json"):
        shutil.copy(ROOT / file, folder)
    shutil.copy(ROOT / "local.settings.sample.json", folder)
    for package in ("domain", "conditioning", "orchestrators", "adapters", "dashboard", "docs"):
        (folder / package).symlink_to(ROOT / package)
    shutil.copytree(LIGHT_JOBS, folder / "ml_jobs", ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("components", "pipelines"):
        shutil.copytree(ROOT / "ml_jobs" / part, folder / "ml_jobs" / part)
    scenario = json.loads((ROOT / "config" / "scenario.json").read_text("utf-8"))
    scenario |= {"regions": ["r01"], "store_formats": ["large"]}
    scenario["sources"] = {name: scenario["sources"][name] for name in SOURCES}
    scenario["quality"]["min_selling_weeks"] = 6
    (folder / "config").mkdir()
    (folder / "config" / "scenario.json").write_text(json.dumps(scenario))
    return folder


class RealApp:
    """The functions on a host of their own in `folder`; `without_arrivals` switches the blob triggers off."""

    def __init__(self, folder: Path, *, without_arrivals: bool = False) -> None:
        self.folder = folder
        self.app = make_app(folder / "app")
        off = {f"AzureWebJobs.condition_{name}_arrived.Disabled": "true" for name in SOURCES if without_arrivals}
        self.host = HostProcess(self.app, folder / "data", env=SETTINGS | {"DATA_DIR": str(folder / "local")} | off)

    def __enter__(self) -> RealApp:
        self.host.start()
        self.lake.ensure_containers(lake_paths.CONTAINERS)
        return self

    def __exit__(self, *_: object) -> None:
        self.host.stop()

    @property
    def connection(self) -> str:
        assert self.host.state.azurite is not None
        return str(self.host.state.azurite["connection_string"])

    @property
    def lake(self) -> BlobLake:
        return connect(self.connection)

    def land(self, files: Iterable[RawFile]) -> None:
        lake = self.lake
        for raw in files:
            lake.write(lake_paths.LANDING, raw.path, raw.data)

    @contextmanager
    def faults(self, **faults: Any) -> Iterator[None]:
        """What the light jobs do wrong in the meantime."""
        file = self.app / "faults.json"
        file.write_text(json.dumps(faults))
        try:
            yield
        finally:
            file.unlink()

    def get(self, path: str) -> dict[str, Any]:
        status, body, _ = self.host.call("GET", f"/api/{path}")
        assert status == 200, body
        return dict(body)

    def run_ids(self) -> list[str]:
        return sorted(run["run_id"] for run in self.get("runs?limit=200")["runs"])

    def jobs(self) -> list[str]:
        """Every job that ever came to life on the platform."""
        folder = self.folder / "local" / "jobs" / "jobs"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def publishes(self) -> list[str]:
        """The weeks in the order in which the audit trail says that they were published."""
        entries = reversed(read_audit(self.lake))  # it answers the newest first
        return [entry["subject"] for entry in entries if entry["action"] == "week_published"]

    def published(self, weeks: Sequence[str]) -> dict[str, bytes]:
        return {week: published_bytes(self.lake, SalesWeek.parse(week))[0] for week in weeks}


def our_factory(folder: Path) -> Path:
    """A copy of the factory whose pipelines ask for the sources that the small scenario has."""
    shutil.copytree(ROOT / "adf", folder)
    for file in (folder / "pipeline").glob("*.json"):
        document = json.loads(file.read_text("utf-8"))
        declared = document["properties"].get("parameters", {})
        if "sources" in declared:
            declared["sources"]["defaultValue"] = list(SOURCES)
            file.write_text(json.dumps(document), "utf-8")
    return folder
