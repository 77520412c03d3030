"""The run ledger: JSON documents in the `runs` zone, changed only under their ETag. The ledger is the truth."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from domain import lake_paths
from domain.errors import BlobConflict, BlobNotFound, NotFound, Unavailable
from domain.ports import Lake
from domain.runs import PLANS, RunId, RunRequest, RunStatus, StepRecord

Document = dict[str, Any]
MAX_TRIES = 30  # parallel submitters of one run meet here; each try is one small write
READERS = 8
MOST_KEPT = 1000  # documents of ended runs that a process keeps for its lists; each has some five kilobytes

_ended: WeakKeyDictionary[Lake, dict[str, str]] = WeakKeyDictionary()
_ended_lock = threading.Lock()


class RunLedger:
    """Reads and changes the documents of runs."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def create(self, run_id: RunId, request: RunRequest, extra: Document) -> bool:
        """Write a new run's document; False if the run exists already (then nothing changes)."""
        document: Document = {
            "schema": "shelfcast.run/1", "run_id": str(run_id), "kind": run_id.kind,
            "sales_week": str(run_id.sales_week), "attempt": run_id.attempt, "status": RunStatus.RUNNING.value,
            "request": request.to_dict(), "correlation_id": request.correlation_id, "ended_at": "", "message": "",
            "cancel_requested": "",
            "steps": [StepRecord(step.value).to_dict() for step in PLANS[run_id.kind]],
        } | extra
        try:
            self._lake.write_json(lake_paths.RUNS, lake_paths.run_document(str(run_id)), document, if_none_match=True)
        except BlobConflict:
            return False
        return True

    def run(self, run_id: str) -> Document:
        """Return a run's document; raise NotFound."""
        try:
            document, _ = self._lake.read_json(lake_paths.RUNS, lake_paths.run_document(run_id))
        except BlobNotFound as error:
            raise NotFound(f"there is no run {run_id}", run_id=run_id, remedy="see GET /api/runs") from error
        return dict(document)

    def change_run(self, run_id: str, change: Callable[[Document], None]) -> Document:
        """Apply `change` to the run's document under its ETag and return the new document."""
        return self._change(lake_paths.run_document(run_id), change)

    def jobs(self, run_id: str, phase: str) -> Document | None:
        """Return the job ledger of a phase, or None before it was planned."""
        try:
            document, _ = self._lake.read_json(lake_paths.RUNS, lake_paths.run_jobs(run_id, phase))
        except BlobNotFound:
            return None
        return dict(document)

    def plan_jobs(self, run_id: str, phase: str, document: Document) -> Document:
        """Write the intents of a phase once; a second call returns what the first one wrote."""
        path = lake_paths.run_jobs(run_id, phase)
        try:
            self._lake.write_json(lake_paths.RUNS, path, document, if_none_match=True)
        except BlobConflict:
            return dict(self._lake.read_json(lake_paths.RUNS, path)[0])
        return document

    def change_jobs(self, run_id: str, phase: str, change: Callable[[Document], None]) -> Document:
        """Apply `change` to the job ledger of a phase under its ETag and return the new document."""
        return self._change(lake_paths.run_jobs(run_id, phase), change)

    def note(self, run_id: str, name: str, document: Any) -> None:
        """Write (or replace) a document beside the run: verdicts, completeness."""
        self._lake.write_json(lake_paths.RUNS, f"{run_id}/{name}.json", document)

    def note_once(self, run_id: str, name: str, document: Any) -> Any:
        """Write a document that later steps build on; a repeated step gets back what the first one wrote."""
        try:
            self._lake.write_json(lake_paths.RUNS, f"{run_id}/{name}.json", document, if_none_match=True)
        except BlobConflict:
            return self.noted(run_id, name)
        return document

    def change_slots(self, change: Callable[[Document], None]) -> None:
        """Change the one document in which the runs share the jobs in flight."""
        with suppress(BlobConflict):
            if self._lake.info(lake_paths.RUNS, lake_paths.RUN_SLOTS) is None:
                self._lake.write_json(lake_paths.RUNS, lake_paths.RUN_SLOTS, {}, if_none_match=True)
        self._change(lake_paths.RUN_SLOTS, change)

    def noted(self, run_id: str, name: str, default: Any = None) -> Any:
        """Return a document beside the run, or `default` if it was not written yet."""
        try:
            return self._lake.read_json(lake_paths.RUNS, f"{run_id}/{name}.json")[0]
        except BlobNotFound:
            return default

    def run_ids(self) -> list[RunId]:
        """Return all runs, the newest week and attempt first."""
        others = (lake_paths.PIPELINE_RUNS, lake_paths.ROLLOUTS)
        names = (name for name in self._lake.folders(lake_paths.RUNS) if name not in others)
        return sorted(map(RunId.parse, names), key=lambda run: (run.sales_week, run.attempt, run.kind), reverse=True)

    def runs(self, limit: int = 200) -> Iterator[Document]:
        """Yield the newest `limit` runs."""
        yield from self.named(self.run_ids()[:limit])

    def named(self, ids: Sequence[RunId]) -> Iterator[Document]:
        """Yield the documents of these runs, in order. One that has ended is read once: it does not change any more."""
        with _ended_lock:
            kept = dict(_ended.get(self._lake, {}))
        missing = [str(run) for run in ids if str(run) not in kept]
        with ThreadPoolExecutor(READERS) as pool:
            read = dict(zip(missing, pool.map(self.run, missing), strict=True))
        self._keep(read)
        for run in map(str, ids):
            yield read[run] if run in read else json.loads(kept[run])

    def _keep(self, read: dict[str, Document]) -> None:
        ended = {run: json.dumps(found) for run, found in read.items() if RunStatus(found["status"]).ended}
        with _ended_lock:
            kept = _ended.setdefault(self._lake, {})
            kept.update(ended)
            for run in list(kept)[:-MOST_KEPT]:
                del kept[run]

    def latest_attempt(self, kind: str, sales_week: str) -> RunId | None:
        """Return the newest attempt of a kind and week, or None."""
        prefix = f"{kind}-{sales_week}-a"
        found = [
            RunId.parse(blob.path.split("/")[0])
            for blob in self._lake.list(lake_paths.RUNS, prefix) if blob.path.endswith("/run.json")
        ]
        return max(found, key=lambda run: run.attempt, default=None)

    def _change(self, path: str, change: Callable[[Document], None]) -> Document:
        for attempt in range(MAX_TRIES):
            document, etag = self._lake.read_json(lake_paths.RUNS, path)
            before = repr(document)
            change(document)
            if repr(document) == before:
                return dict(document)
            try:
                self._lake.write_json(lake_paths.RUNS, path, document, if_match=etag)
            except BlobConflict:
                time.sleep(min(0.02 * (attempt + 1), 0.5))
            else:
                return dict(document)
        raise Unavailable(f"runs/{path} is changed by others without end", path=path)


def step_of(document: Document, name: str) -> Document:
    """Return the mutable record of a step inside a run's document."""
    return next(step for step in document["steps"] if step["name"] == name)
