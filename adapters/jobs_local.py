"""The machine-learning platform of one machine, behind the same port as Azure ML.

A job is a folder (see jobs_local_folders); one detached agent per root (jobs_local_agent) runs the commands. The host
only writes intents and reads states, so killing the host at any instruction loses and doubles nothing:

1. submit writes spec.json once (or adopts the one that is there), queues the job and rings the agent's doorbell;
2. if nobody hears the bell, an agent is started, detached, in its own session;
3. statuses reads one small file per name and, if work is left, makes sure that an agent lives;
4. cancel leaves a note; the agent ends the process group.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from adapters.jobs_component import Launch, load_launch
from adapters.jobs_local_folders import HAND_OVER, JobFolder, State, make_root, ring
from adapters.jobs_payload import JOB_NAME, PAYLOAD_HASH, check_name, other_payload, payload_hash
from domain.errors import Unavailable
from domain.job_states import JobSpec, JobStatus

PRODUCT = Path(__file__).resolve().parents[1]
IDLE_SECONDS = 60.0  # an agent with nothing to do ends after this time
START_SECONDS = 20.0  # an agent that has not opened its doorbell by then did not start


@dataclass
class LocalJobs:
    """Implements domain.ports.Jobs with detached processes.

    `root` keeps jobs and cache, `project` holds ml_jobs/, `python` is the interpreter that `python` in a component's
    command means. The lake's connection reaches the agent through its environment, and no job sees it.
    """

    root: Path
    lake_connection: str
    project: Path
    python: str
    max_parallel: int
    idle_seconds: float = IDLE_SECONDS
    environment: Mapping[str, str] | None = None  # None = this process's

    def __post_init__(self) -> None:
        """Make the folders; nothing is started yet."""
        self.root = self.root.resolve()
        self._lock = threading.Lock()
        self._agent: subprocess.Popen[bytes] | None = None
        make_root(self.root)

    def submit(self, spec: JobSpec) -> str:
        """Make sure that the job exists; adopt one of the same payload, raise JobRejected for another."""
        check_name(spec)
        return self.start(spec, load_launch(self.project, spec))

    def start(self, spec: JobSpec, launch: Launch) -> str:
        """Make sure that the job exists, as submit does, with a command that no pipeline file names."""
        wanted = payload_hash(spec, launch.component)
        folder = JobFolder(self.root, spec.name)
        existing = folder.spec()
        if existing is None:
            document = {
                PAYLOAD_HASH: wanted, "spec": spec.to_dict(), "launch": launch.to_dict(),
                "submitted_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            }
            if not folder.create(document):
                existing = folder.spec()
        if existing is not None and existing[PAYLOAD_HASH] != wanted:
            raise other_payload(spec, existing[PAYLOAD_HASH], wanted)
        if not _ended(folder.state()):
            folder.enqueue()  # also heals a crash between the two writes
            self._ensure_agent()
        return spec.name

    def statuses(self, run_id: str, names: Sequence[str]) -> dict[str, JobStatus]:  # noqa: ARG002 - names suffice here
        """Return the status of every named job that exists: one small read per name."""
        known = (name for name in names if JOB_NAME.match(name))
        found = {name: status for name in known if (status := JobFolder(self.root, name).status()) is not None}
        open_names = [name for name, status in found.items() if not status.phase.ended]
        for name in open_names:
            folder = JobFolder(self.root, name)
            if not folder.marker.exists() and not _ended(folder.state()):
                folder.enqueue()
        if open_names:
            self._ensure_agent()
        return found

    def cancel(self, name: str) -> None:
        """Ask for cancellation; an ended or unknown job is fine."""
        folder = JobFolder(self.root, name)
        state = folder.state() if JOB_NAME.match(name) else None
        if state is None or state.ended:
            return
        folder.want_cancel()
        folder.enqueue()
        self._ensure_agent()

    def close(self) -> None:
        """Send the agent away; running jobs run on and are adopted by the next agent."""
        ring(self.root, HAND_OVER)
        if self._agent is not None:
            self._agent.wait(timeout=10)

    def _ensure_agent(self) -> None:
        """Ring, and start an agent if nobody hears or if the one there was started with other settings."""
        if self._agent is not None:
            self._agent.poll()  # reaps one that went idle
        if self._settings_changed():
            ring(self.root, HAND_OVER)
        elif ring(self.root):
            return
        with self._lock:
            if not self._settings_changed() and ring(self.root):
                return
            self._start_agent()

    def _fingerprint(self) -> str:
        text = f"{self.lake_connection}|{self.max_parallel}|{self.python}|{self.idle_seconds}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _settings_changed(self) -> bool:
        try:
            return (self.root / "agent.settings").read_text() != self._fingerprint()
        except FileNotFoundError:
            return False

    def _start_agent(self) -> None:
        environment = dict(os.environ if self.environment is None else self.environment)
        environment |= {
            "LAKE": self.lake_connection, "SHELFCAST_AGENT": self._fingerprint(), "PYTHONPATH": str(PRODUCT),
        }
        command = [self.python, "-m", "adapters.jobs_local_agent"]
        command += [str(self.root), str(self.max_parallel), str(self.idle_seconds)]
        with (self.root / "agent.log").open("ab") as log:
            agent = subprocess.Popen(
                command, cwd=PRODUCT, env=environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        self._agent = agent
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if not self._settings_changed() and ring(self.root):
                return
            if agent.poll() not in (None, 0):
                break
            time.sleep(0.02)
        words = str(self.root / "agent.log")
        raise Unavailable(f"the local job agent did not start; its last words are in {words}", file=words)


def _ended(state: State | None) -> bool:
    return state is not None and state.ended
