"""A small business for the orchestrators: a curated week in the lake, and jobs that leave models and forecasts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from domain import activity_names as names
from domain import lake_paths
from domain.errors import JobRejected, ShelfcastError
from domain.job_states import JobSpec, JobStatus
from domain.metrics import tally
from domain.runs import RunRequest
from domain.scenario import Scenario
from orchestrators import runs
from orchestrators.ledger import RunLedger
from settings import Settings
from tests.orchestrators.conftest import ROOT, ScriptedServices, StepClock
from tests.orchestrators.durable_driver import Driver, Fuse, Fused, Instance

WEEK = "2017-W45"
PRODUCTS = ("0001", "0002")  # fast, slow


@dataclass
class Job:
    """One job that came to life."""

    spec: JobSpec
    born: datetime
    cancelled: datetime | None = None
    done: bool = False


@dataclass
class WorkingJobs:
    """A platform on the driver's clock: a job queues, runs and leaves what the real job would leave.

    `fates` by unit or name: completed (default), failed, stuck, or a function from the job's age (s) to a status word.
    `trouble(call, name)` may raise before the effect, `after(call, name)` after it: an answer that was lost.
    """

    lake: Any
    clock: StepClock
    jobs: dict[str, Job] = field(default_factory=dict)
    fates: dict[str, str | Callable[[float], str]] = field(default_factory=dict)
    trouble: Callable[[str, str], None] = lambda _call, _name: None
    after: Callable[[str, str], None] = lambda _call, _name: None
    queue_seconds: float = 20.0
    work_seconds: float = 90.0
    refused: set[str] = field(default_factory=set)
    calls: int = 0
    most_in_flight: int = 0
    units_factor: float = 1.0
    units_of: Callable[[tuple[str, str], float], float] = lambda _pair, units: units
    drift: dict[str, float] = field(default_factory=dict)  # PSI by segment, as scoring will measure it

    def submit(self, spec: JobSpec) -> str:
        self.calls += 1
        self.trouble("submit", spec.name)
        if spec.segment in self.refused:
            raise JobRejected(f"{spec.segment}: the platform does not like it")
        known = self.jobs.get(spec.name)
        if known and known.spec != spec:
            raise JobRejected(f"{spec.name} exists with another payload")
        if known is None:
            self.jobs[spec.name] = Job(spec, self.clock.now())
            running = sum(1 for job in self.jobs.values() if self._word(job) in ("Queued", "Running"))
            self.most_in_flight = max(self.most_in_flight, running)
        self.after("submit", spec.name)
        return spec.name

    def _word(self, job: Job) -> str:
        age = (self.clock.now() - job.born).total_seconds()
        fate = self.fates.get(job.spec.name) or self.fates.get(job.spec.segment, "completed")
        if job.cancelled is not None and not job.done:
            return "Canceled" if self.clock.now() - job.cancelled > timedelta(seconds=5) else "CancelRequested"
        if callable(fate):
            return fate(age)
        if age < self.queue_seconds:
            return "Queued"
        if age < self.queue_seconds + self.work_seconds or fate == "stuck":
            return "Running"
        return fate.capitalize()

    def statuses(self, run_id: str, names_: Sequence[str]) -> dict[str, JobStatus]:
        self.calls += 1
        self.trouble("statuses", run_id)
        found = {}
        for name in names_:
            job = self.jobs.get(name)
            if job is None or job.spec.run_id != run_id:
                continue
            word = self._word(job)
            if word == "Completed" and not job.done:
                job.done = True
                self._work(job.spec)
            started = job.born + timedelta(seconds=self.queue_seconds)
            ended = started + timedelta(seconds=self.work_seconds)
            is_over = word in ("Completed", "Failed", "Canceled")
            error = "the job's log: segment r01: units is text" if word == "Failed" else ""
            # As Azure ML shows its times: UTC without saying so.
            times = f"{started:%Y-%m-%d %H:%M:%S}", f"{ended:%Y-%m-%d %H:%M:%S}" * is_over
            found[name] = JobStatus(name, word, *times, error)
        self.after("statuses", run_id)
        return found

    def cancel(self, name: str) -> None:
        self.calls += 1
        self.trouble("cancel", name)
        if name in self.jobs and self.jobs[name].cancelled is None:
            self.jobs[name].cancelled = self.clock.now()
        self.after("cancel", name)

    def _work(self, spec: JobSpec) -> None:
        (uri,) = spec.outputs.values()
        container, prefix = lake_paths.parse_datastore_uri(uri)
        if spec.pipeline == "pretrain":
            self.lake.write(container, f"{prefix}net.bin", b"net")
        elif spec.pipeline == "train":
            key = str(spec.inputs["segments"])
            own, baseline = tally([10, 10], [11, 10]), tally([10, 10], [14, 13])
            members = {"baseline": baseline.to_dict()}
            if not key.endswith("-baseline"):
                members["ensemble"] = own.to_dict()
            document = {
                "segment": key, "kind": "baseline" if key.endswith("-baseline") else "ensemble", "status": "trained",
                "weights": {}, "evaluation": {"weeks": [WEEK], "members": members},
            }
            self.lake.write_json(container, f"{prefix}{key}/metrics.json", document)
            self.lake.write(container, f"{prefix}{key}/MLmodel", b"flavors: {}\n")
        else:
            self._score(spec, container, prefix)

    def _score(self, spec: JobSpec, container: str, prefix: str) -> None:
        data_container, folder = lake_paths.parse_datastore_uri(str(spec.inputs["data"]))
        models_container, models = lake_paths.parse_datastore_uri(str(spec.inputs["models"]))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["store_id", "product_id", "sales_week", "segment", "kind", "units"])
        pairs = list(csv.DictReader(io.StringIO(self.lake.read(data_container, f"{folder}pairs.csv").data.decode())))
        for key in str(spec.inputs["segments"]).split(","):
            assert self.lake.info(models_container, f"{models}{key}/MLmodel"), f"{key} is not in the scoring definition"
            for pair in pairs:
                segment = pair["segment"]
                if segment == key or (key.endswith("-baseline") and segment.rsplit("-", 1)[0] == key.rsplit("-", 1)[0]):
                    usual = (9.0 if key == segment else 8.0) * self.units_factor
                    units = self.units_of((pair["store_id"], pair["product_id"]), usual)
                    writer.writerow([pair["store_id"], pair["product_id"], WEEK, key, "ensemble", units])
        self.lake.write(container, f"{prefix}forecasts.csv", text.getvalue().encode())
        told = {
            key: {"drift": [{"feature": "units_lag_1", "psi": self.drift.get(key, 0.02), "ks": 0.1, "verdict": ""}]}
            for key in str(spec.inputs["segments"]).split(",")
        }
        self.lake.write_json(container, f"{prefix}forecasts.summary.json", {"segments": told})


@dataclass
class World:
    """Everything a run needs, with a driver on it."""

    services: ScriptedServices
    jobs: WorkingJobs
    gate: dict[str, Any] = field(default_factory=lambda: {"open": True, "reasons": []})
    curated: list[str] = field(default_factory=list)
    as_of_version: str = "abc"

    def driver(self, fuse: Fuse | None = None) -> Driver:
        """A new host; with a fuse its ports die at the chosen call."""
        found: Any = self.services
        if fuse is not None:
            found = replace(
                self.services, lake=Fused(self.services.lake, fuse, "lake"),  # type: ignore[arg-type]
                jobs=Fused(self.jobs, fuse, "jobs"),  # type: ignore[arg-type]
                registry=Fused(self.services.registry, fuse, "registry"),  # type: ignore[arg-type]
            )
        bodies = {
            names.DATA_GATE: lambda _services, _request: self.gate,
            names.CURATE_WEEK: lambda _services, request: self.curate(request),
        }
        return Driver(found, self.services.clock, bodies, on_activity=fuse.end_activity if fuse else lambda: None)

    def start(self, kind: str = "weekly", **wish: Any) -> str:
        body = {"kind": kind, "sales_week": WEEK, "requested_by": "tests", **wish}
        run_id, _ = runs.start_run(self.services, RunRequest.from_dict(body))
        return str(run_id)

    def run(self, kind: str = "weekly", driver: Driver | None = None, **wish: Any) -> str:
        """Start a run and drive it to its end; return its id."""
        run_id = self.start(kind, **wish)
        self.drive(run_id, driver)
        return run_id

    def drive(self, run_id: str, driver: Driver | None = None) -> Instance:
        host = driver or self.driver()
        host.start(names.RUN_WEEK, run_id, {"run_id": run_id})
        return host.run(run_id)

    def curate(self, request: dict[str, Any]) -> dict[str, Any]:
        """What conditioning.curate answers, for a folder that the tests write."""
        self.curated.append(request["as_of"])
        lake, version = self.services.lake, self.as_of_version
        folder = f"{WEEK}/{version}/"
        keys = [segment.key for segment in self.services.scenario.segments()]
        rows = ["store_id,product_id,segment,state"]
        for number, key in enumerate(keys):
            product = PRODUCTS[key.endswith("slow")]
            rows += [f"{number:04d},{product},{key},active", f"{number:04d},9999,{key},thin_history"]
        lake.write(lake_paths.CURATED, f"{folder}pairs.csv", ("\n".join(rows) + "\n").encode())
        lake.write(lake_paths.CURATED, f"{folder}products.csv", b"product_id,pack_size\n0001,6\n0002,1\n")
        manifest = {
            "segments": dict.fromkeys(keys, 1), "recent_units": dict.fromkeys(keys, 10.0),
            "pair_states": {"active": len(keys), "thin_history": len(keys)}, "orphans": {}, "pins": {},
            "sources": ["deliveries"], "absent_sources": [], "cutoff": "2017-W44", "as_of_version": version,
        }
        lake.write_json(lake_paths.CURATED, f"{folder}manifest.json", manifest)
        return manifest | {"folder": lake_paths.datastore_uri(lake_paths.CURATED, folder), "pinned": 3}


def make_world(lake: Any, regions: int = 1, formats: Sequence[str] = ("large",), **settings: str) -> World:
    """A business of regions x formats x (fast, slow) with everything at its defaults."""
    document = json.loads((ROOT / "config" / "scenario.json").read_text("utf-8"))
    document |= {"regions": [f"r{n:03d}" for n in range(1, regions + 1)], "store_formats": list(formats)}
    read = Settings.from_env({
        "LAKE": "in use", "CODE_VERSION": "c1", "MAX_JOBS_IN_FLIGHT": "20", "POLL_FIRST_SECONDS": "15",
        "POLL_LONGEST_SECONDS": "300", "MAX_FAILED_SHARE": "0", **settings,
    })
    services = ScriptedServices(lake, read, Scenario.from_dict(document))
    jobs = WorkingJobs(lake, services.clock)
    services.jobs = jobs  # type: ignore[assignment]
    return World(services, jobs)


def raise_error(error: ShelfcastError) -> None:
    raise error


def document(world: World, run_id: str) -> dict[str, Any]:
    return RunLedger(world.services.lake).run(run_id)


def items(world: World, run_id: str, phase: str = "train") -> dict[str, Any]:
    return (RunLedger(world.services.lake).jobs(run_id, phase) or {"items": {}})["items"]


def versions_in(world: World, stage: str) -> set[str]:
    return {version.name for version in world.services.registry.models() if version.stage == stage}
