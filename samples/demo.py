"""`make run`: the whole system on this machine, from raw files to published forecasts.

1. Start the local host (or use the one that runs on the data folder), which starts the storage emulator.
2. Drop the raw files of every week into the landing zone; their arrival starts conditioning.
3. Execute the weekly Data Factory pipeline, or, where its expression engine cannot run, the same run over HTTP.
4. Print the summary and, unless told otherwise, keep serving the page.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from adapters.lake import BlobLake, connect
from devhost.adf.errors import ExpressionEngineUnavailable
from devhost.adf.expressions import load_engine
from devhost.errors import HostError
from domain import lake_paths
from domain.errors import ShelfcastError
from domain.sales_weeks import SalesWeek
from samples.demo_drop import SAMPLE_SETS, SampleSet, drop, sample_set, wait_for_outcomes
from samples.demo_host import DemoError, DemoHost
from samples.demo_summary import print_summary

ROOT = Path(__file__).resolve().parent.parent
RUN_TIMEOUT_SECONDS = 3600
FULL_BYTES = 4_000_000  # with less free space no step of a run can be written
PLAIN_WIDTH = 170  # of tables in a log file
_CODE_FOLDERS = ("ml_jobs", "domain")  # what shapes a model; changes elsewhere do not retrain


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return 0, 1 when the run ended badly, 2 when it could not be started."""
    parser = argparse.ArgumentParser(prog="make run", description=__doc__.split("\n")[0])
    parser.add_argument("--sample", default="complete_journey", help=f"one of {', '.join(SAMPLE_SETS)}")
    parser.add_argument("--week", default="", help="sales week to forecast, for example 2017-W45")
    parser.add_argument("--data", type=Path, default=ROOT / ".data", help="folder of everything that the demo keeps")
    parser.add_argument("--port", type=int, default=7071, help="port of the page and the routes")
    parser.add_argument("--once", action="store_true", help="end after the summary")
    options = parser.parse_args(arguments)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background, and needed below
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # it ends as with Ctrl-C, host and all
    try:
        return _Demo(console, options).run()
    except (DemoError, HostError, ShelfcastError) as error:
        console.print(f"[red]make run:[/red] {error}", markup=True)
    except requests.RequestException as error:
        console.print(f"[red]make run:[/red] the local host did not answer: {error}")
    except OSError as error:
        remedy = "; free some space and call it again, it goes on where it was" if error.errno == errno.ENOSPC else ""
        where = error.filename or options.data
        console.print(f"[red]make run:[/red] {error.strerror or error}: {where}{remedy}", soft_wrap=True)
    except KeyboardInterrupt:
        console.print("stopped; call make run again to go on where it was")
        return 130
    return 2


def code_version() -> str:
    """Return the hash of the code that shapes models, so that a change of it (and of nothing else) retrains."""
    digest = hashlib.sha256()
    for folder in _CODE_FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".yml", ".txt"):
                digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


class _Demo:
    def __init__(self, console: Console, options: argparse.Namespace) -> None:
        self.console = console
        self.once: bool = options.once
        self.sample: SampleSet = sample_set(options.sample)
        self.week = SalesWeek.parse(options.week or self.sample.default_week)
        self.data: Path = options.data.resolve() / self.sample.name
        self.port: int = options.port
        self.began = time.monotonic()
        self.began_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.timings: list[tuple[str, float]] = []
        self.disk_is_full = False

    def run(self) -> int:
        settings = {
            "SCENARIO_FILE": self.sample.scenario_file, "DATA_DIR": str(self.data / "local"),
            "CODE_VERSION": code_version(), "TRAIN_EFFORT": os.environ.get("TRAIN_EFFORT") or self.sample.effort,
        }
        with suppress(ExpressionEngineUnavailable):  # told of when it is needed
            load_engine()  # before there is a host: while .NET loads, SIGTERM ends this process as it stands
        with DemoHost(ROOT, self.data, self.port, settings) as host:
            with self._timed("start the host"):
                lake = connect(host.lake_connection)
                lake.ensure_containers(lake_paths.CONTAINERS)
            self.console.print(f"local host at {host.url}, storage emulator and ledger in {self.data}")
            facts = self._drop(lake, host)
            with self._timed("weekly pipeline"):
                run_id = self._weekly(lake, host)
            facts |= self._facts(host, lake, run_id)
            print_summary(self.console, facts)
            ended_well = facts["run"]["status"] in ("succeeded", "degraded")
            self.console.print(f"page: {host.url}/api/ops/?code={host.key}")
            if not self.once:
                self.console.print("serving until Ctrl-C" if host.is_ours else "another process keeps serving")
                while host.is_ours:
                    host.check()
                    time.sleep(1)
            return 0 if ended_well else 1

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.timings.append((name, time.monotonic() - start))

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description:<34}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"), console=self.console, disable=not self.console.is_terminal,
        )

    def _drop(self, lake: BlobLake, host: DemoHost) -> dict[str, Any]:
        cache = self.data / "raw"
        cache.mkdir(parents=True, exist_ok=True)
        with self._timed("make the raw drops"):
            self.console.print(f"raw drops of {self.sample.name} up to {self.week}")
            files = list(self.sample.files(self.week, cache))
        paths = {raw.path for raw in files}
        with self._timed("drop and condition"), self._progress() as progress:
            dropped = progress.add_task("files dropped", total=len(files), note="")
            new = drop(lake, files, lambda raw, _: progress.update(dropped, advance=1, note=raw.path))
            progress.update(dropped, note=f"{new} new")
            conditioned = progress.add_task("files conditioned on arrival", total=len(files), note="")
            done = wait_for_outcomes(
                lake, paths, lambda count: progress.update(conditioned, completed=count), host.check
            )
        self.console.print(f"{len(files)} files landed ({new} new), {done} conditioned")
        return {"new_files": new}

    def _weekly(self, lake: BlobLake, host: DemoHost) -> str:
        stop = threading.Event()
        watcher = threading.Thread(target=self._watch_run, args=(host, stop), daemon=True)
        watcher.start()
        try:
            return self._pipeline(lake, host) or self._over_http(host)
        except KeyboardInterrupt:
            if self.disk_is_full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.data)) from None
            raise
        finally:
            stop.set()
            watcher.join(5)

    def _pipeline(self, lake: BlobLake, host: DemoHost) -> str:
        """Execute the Data Factory pipeline; return the run's id, or nothing where its engine cannot run here."""
        from devhost.adf.runner import Event, Factory, Options, run_pipeline

        def show(event: Event) -> None:
            if event.kind == "activity_ended" and not self.console.is_terminal:
                seconds = event.duration_seconds or 0.0
                where = " / ".join(event.path) or event.name
                self.console.print(f"  {where}: {event.status} in {seconds:.1f} s", soft_wrap=True, markup=False)

        options = Options(url=host.url, identity_headers={"x-functions-key": host.key}, data=self.data)
        parameters = {"run_week": str(self.week), "reason": "demo"}
        try:
            factory = Factory.load(ROOT / "adf")
            record = run_pipeline(factory, "pl_forecast_weekly", parameters, options=options, watcher=show)
        except ExpressionEngineUnavailable as error:
            self.console.print(f"Data Factory's expression engine cannot run here ({error}); starting over HTTP")
            return ""
        self._export_records(lake, record.run_id)
        self.console.print(
            f"Data Factory: pl_forecast_weekly {record.status} {record.message}", soft_wrap=True, markup=False
        )
        return f"weekly-{self.week}-a{self._attempt(host)}"

    def _export_records(self, lake: BlobLake, group: str) -> None:
        """Copy the records of a pipeline run and its children to the ledger, where the page finds them."""
        for path in (self.data / "adf" / "runs").glob("*.json"):
            document = json.loads(path.read_text("utf-8"))
            if document["runGroupId"] == group:
                lake.write_json(lake_paths.RUNS, f"adf/{document['runId']}.json", document)

    def _over_http(self, host: DemoHost) -> str:
        headers = {"x-functions-key": host.key}
        for source in self._get(host, "sources")["sources"]:
            requests.post(
                f"{host.url}/api/condition/{source['name']}", json={"sales_week": str(self.week), "reason": "demo"},
                headers=headers, timeout=600,
            ).raise_for_status()
        wish = {"kind": "weekly", "sales_week": str(self.week), "reason": "demo"}
        started = requests.post(f"{host.url}/api/runs", json=wish, headers=headers, timeout=60)
        started.raise_for_status()
        deadline = time.monotonic() + RUN_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            host.check()
            if requests.get(started.json()["wait_url"], headers=headers, timeout=60).status_code == 200:
                return str(started.json()["run_id"])
            time.sleep(2)
        raise DemoError(f"{started.json()['run_id']} did not end within {RUN_TIMEOUT_SECONDS} s")

    def _attempt(self, host: DemoHost) -> int:
        runs = self._get(host, "runs?limit=200")["runs"]
        attempts = [run["attempt"] for run in runs if run["kind"] == "weekly" and run["sales_week"] == str(self.week)]
        if not attempts:
            raise DemoError(f"the pipeline ended before it started the run of {self.week}; see {self.data / 'adf'}")
        return int(max(attempts))

    def _watch_run(self, host: DemoHost, stop: threading.Event) -> None:
        """Show what the run is doing until it has ended: its step, and the jobs of the step.

        On a full disk the demo is ended: each job would be tried again and again before the run fails by itself.
        """
        with self._progress() as progress:
            bars: dict[str, Any] = {}
            while not stop.wait(1.5):
                if shutil.disk_usage(self.data).free < FULL_BYTES:
                    self.disk_is_full = True
                    logging.getLogger("asyncio").disabled = True  # activities that cannot record their end: known
                    os.kill(os.getpid(), signal.SIGINT)
                    return
                try:
                    run = self._get(host, f"runs/weekly-{self.week}-a{self._attempt(host)}")
                except (requests.RequestException, DemoError):
                    continue
                for step in run["steps"]:
                    if step["status"] == "waiting":
                        continue
                    jobs = run["jobs"].get(step["name"], {"items": []})["items"]
                    ended = sum(1 for job in jobs if job["phase"] in ("succeeded", "failed", "cancelled"))
                    total = len(jobs) or 1
                    done = ended if jobs else int(bool(step["ended_at"]))
                    if step["name"] not in bars:
                        bars[step["name"]] = progress.add_task(f"run: {step['name']}", total=total, note="")
                    progress.update(bars[step["name"]], total=total, completed=done, note=step["message"][:60])

    def _facts(self, host: DemoHost, lake: BlobLake, run_id: str) -> dict[str, Any]:
        run = self._get(host, f"runs/{run_id}")
        qualities = {
            source["name"]: self._get(host, f"quality/{source['name']}")["weeks"]
            for source in self._get(host, "sources")["sources"]
        }
        submitted = [job for phase in run["jobs"].values() for job in phase["items"] if job["submitted_at"]]
        conditioned = [
            blob for blob in lake.list(lake_paths.CONDITIONED)
            if blob.path.endswith(".manifest.json") and blob.last_modified.isoformat() >= self.began_at
        ]
        return {
            "run": run, "qualities": qualities, "timings": self.timings,
            "mape_target": self._get(host, "models")["mape_target"], "conditioned_now": len(conditioned),
            "jobs_now": sum(1 for job in submitted if job["submitted_at"] >= self.began_at),
            "total_seconds": time.monotonic() - self.began,
        }

    def _get(self, host: DemoHost, path: str) -> dict[str, Any]:
        answer = requests.get(f"{host.url}/api/{path}", headers={"x-functions-key": host.key}, timeout=60)
        answer.raise_for_status()
        return dict(answer.json())


if __name__ == "__main__":
    sys.exit(main())
