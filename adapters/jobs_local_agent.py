"""Runs the queued jobs of one machine: `python -m adapters.jobs_local_agent ROOT MAX_PARALLEL IDLE_SECONDS`.

One detached agent per root, started by whoever finds work and no agent. It imports the storage SDK once (0.4 s of CPU)
for all jobs; a job itself costs a shell. Nothing is held in memory that matters:

1. the queue is the folder root/queue; each marker is one job that has not ended;
2. a job's processes inherit the flock on its `lock` file, so "lock free" means "no process of the job lives", whoever
   started it and whatever happened to the agent;
3. the job's own shell writes `exit`; a free lock without it means that the process was killed from outside. That is
   what losing a low-priority node looks like on Azure ML, and like there the job starts again, MAX_PREEMPTED times;
4. outputs go to the lake before the status says Completed; an upload that was cut off is simply done again.
"""

from __future__ import annotations

import fcntl
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.jobs_component import Launch, command_line
from adapters.jobs_local_cache import Transfers
from adapters.jobs_local_folders import HAND_OVER, JobFolder, State, make_root, ring, try_lock
from domain.errors import ShelfcastError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PREEMPTED = 3
LOOK_SECONDS = 2.0  # longest gap between two looks at the root: whether it is still there
CANCEL_LOOK_SECONDS = 0.5  # gap between two looks at a command that should end
TERM_SECONDS = 5.0  # a cancelled command may tidy up this long before it is killed
LOCK_SECONDS = 10.0  # how long a successor waits for an agent that hands over
NOT_FOR_JOBS = (
    "LAKE", "AzureWebJobsStorage", "RESULTS_URL", "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "SHELFCAST_AGENT", "PYTHONPATH",
)
# $1 command, $2 pid file, $3 exit file. The shell is the session's leader and outlives the agent.
# It notes SIGTERM and goes on, so that the command has the time to tidy up and its exit code is kept.
SHELL = 'trap : TERM; echo $$ >"$2"; bash -ec "$1"; echo $? >"$3"'


def now() -> str:
    """Return the time as the status file has it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Execution:
    """One job from queue to end, in a thread of its own; may take over at any point where a predecessor died."""

    def __init__(self, folder: JobFolder, transfers: Transfers, environment: dict[str, str]) -> None:
        """Look at the job; nothing is started before `run`."""
        self._folder = folder
        self._transfers = transfers
        self._environment = environment
        document = folder.spec() or {}
        self._launch = Launch(**document["launch"])
        state = folder.state() or State("Queued")
        self._state = replace(state, submitted_at=document["submitted_at"])
        self._group = folder.process_group() if self._is_under_way() else None  # of the command that is waited for

    def _is_under_way(self) -> bool:
        """Whether an earlier agent started it and a process of it lives."""
        lock = self._folder.open_lock()
        try:
            return not try_lock(lock)
        finally:
            os.close(lock)

    def abandon(self) -> None:
        """Kill the command, for which nobody waits any more."""
        if self._group is not None:
            _signal(self._group, signal.SIGKILL)

    def run(self) -> None:
        """Bring the job to its end; every error of its own becomes the job's failure."""
        try:
            self._run()
        except ShelfcastError as error:
            self._end("Failed", error.message)
        except Exception as error:  # a defect here must end one job and not the agent
            self._end("Failed", f"the local platform failed: {type(error).__name__}: {error}")
            raise

    def _run(self) -> None:
        while True:
            lock = self._folder.open_lock()
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)  # waits for the processes that an earlier agent started
                self._group = None
                if self._folder.exit_code() is None and not self._restart_allowed():
                    return
                if self._folder.exit_code() is None:
                    self._start(lock)
            finally:
                os.close(lock)
            if self._folder.exit_code() is not None:
                self._finish()
                return

    def _restart_allowed(self) -> bool:
        """Decide what a job without exit code and without process means; end it here if it must not start."""
        died = self._folder.process_group() is not None
        if self._folder.cancel_wanted:
            self._end("Canceled", "cancelled by request")
            return False
        if not died:
            return True
        self._state = replace(self._state, preempted=self._state.preempted + 1)
        if self._state.preempted > MAX_PREEMPTED:
            self._end("Failed", f"the job's process was killed from outside {self._state.preempted} times")
            return False
        return True

    def _start(self, lock: int) -> None:
        """Fetch the inputs, start the command with the job's lock, and wait until it ended or was killed."""
        self._move("Preparing")
        inputs = {name: str(self._transfers.fetch(uri)) for name, uri in self._launch.folders.items()}
        outputs = self._transfers.empty_folders(self._folder.outputs, self._launch.outputs)
        command = command_line(self._launch, inputs, outputs, self._folder.name)
        self._folder.forget_start()
        if self._folder.cancel_wanted:
            return  # the loop looks again and ends it
        self._state = replace(self._state, started_at=now())
        with self._folder.log.open("ab") as log:
            process = subprocess.Popen(
                ["bash", "-c", SHELL, "job", command, str(self._folder.path / "pid"), str(self._folder.path / "exit")],
                cwd=self._launch.code, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                pass_fds=(lock,), env={**self._environment, "AZUREML_RUN_ID": self._folder.name},
            )
        self._group = process.pid
        self._move("Running")
        process.wait()
        _signal(process.pid, signal.SIGKILL)  # what the command left running in its group
        self._group = None

    def _finish(self) -> None:
        code = self._folder.exit_code()
        if code == 0:
            self._move("Finalizing")
            self._transfers.upload(self._folder.outputs, self._launch.outputs)
            self._transfers.discard(self._folder.outputs)
            self._end("Completed", "")
        elif self._folder.cancel_wanted:
            self._end("Canceled", "cancelled by request")
        else:
            tail = self._folder.log_tail()
            self._end("Failed", f"the command ended with exit code {code}" + (f":\n{tail}" if tail else ""))

    def _move(self, status: str) -> None:
        self._state = replace(self._state, status=status)
        self._folder.write_state(self._state)

    def _end(self, status: str, error: str) -> None:
        self._state = replace(self._state, status=status, error=error, ended_at=now())
        self._folder.write_state(self._state)
        self._folder.marker.unlink(missing_ok=True)


class Agent:
    """Keeps at most `max_parallel` executions going; sleeps on the doorbell otherwise."""

    def __init__(self, root: Path, max_parallel: int, idle_seconds: float, lake_connection: str) -> None:
        """Prepare; the lake is connected when the first job needs it."""
        self._root = root
        self._max_parallel = max_parallel
        self._idle_seconds = idle_seconds
        self._transfers = Transfers(root / "cache", lake_connection)
        self._environment = _job_environment(root, max_parallel)
        self._active: dict[str, Execution] = {}
        self._done: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._cancelled_at: dict[str, float] = {}  # active jobs that somebody wants cancelled: since when

    def serve(self) -> None:
        """Work until told to hand over, until there was nothing to do for `idle_seconds`, or until the root is gone."""
        self._advance()  # whoever hears that there is an agent may count on it: jobs under way are adopted by then
        bell, busy_at = self._open_bell(), time.monotonic()
        while self._is_there(bell):
            self._advance()
            timeout = CANCEL_LOOK_SECONDS if self._cancelled_at else min(LOOK_SECONDS, self._idle_seconds)
            ready, _, _ = select.select([bell], [], [], timeout)
            if ready and HAND_OVER in os.read(bell, 4096):
                return
            if ready or self._active:
                busy_at = time.monotonic()
            elif time.monotonic() - busy_at >= self._idle_seconds:
                os.close(bell)  # from here on a ring fails, and its sender starts a successor
                if not self._queued():
                    self._transfers.evict()
                    return
                bell, busy_at = self._open_bell(), time.monotonic()
        for execution in self._active.values():
            execution.abandon()

    def _open_bell(self) -> int:
        return os.open(self._root / "doorbell", os.O_RDWR | os.O_NONBLOCK)  # own writer: never at end of file

    def _is_there(self, bell: int) -> bool:
        """Whether the root is the one of this agent: not deleted, nor deleted and made anew for another one."""
        try:
            return os.path.samestat(os.fstat(bell), (self._root / "doorbell").stat())
        except FileNotFoundError:
            return False

    def _queued(self) -> list[JobFolder]:
        """Queued jobs, scoring first (it has the shorter deadline), then by age."""
        try:
            markers = [(entry.stat().st_mtime, entry.name) for entry in os.scandir(self._root / "queue")]
        except FileNotFoundError:
            return []
        folders = [JobFolder(self._root, name) for _, name in sorted(markers) if name not in self._active]
        return sorted(folders, key=lambda folder: not folder.is_scoring)

    def _advance(self) -> None:
        while not self._done.empty():
            name = self._done.get()
            self._active.pop(name, None)
            self._cancelled_at.pop(name, None)
        for folder in self._queued():
            state = folder.state()
            if state is None or state.ended:
                folder.marker.unlink(missing_ok=True)
            elif len(self._active) < self._max_parallel or folder.cancel_wanted or state.status != "Queued":
                # One that was under way when its agent died has its slot already; a cancelled one needs none.
                self._begin(folder)
        for name in list(self._active):
            self._cancel_if_wanted(JobFolder(self._root, name))

    def _begin(self, folder: JobFolder) -> None:
        execution = Execution(folder, self._transfers, self._environment)

        def work(run: Callable[[], None] = execution.run) -> None:
            try:
                run()
            finally:
                self._done.put(folder.name)
                ring(self._root)

        self._active[folder.name] = execution
        threading.Thread(target=work, name=folder.name, daemon=True).start()

    def _cancel_if_wanted(self, folder: JobFolder) -> None:
        """SIGTERM to the job's process group, SIGKILL after a while; only while the lock proves that it lives."""
        if not folder.cancel_wanted:
            return
        first = self._cancelled_at.setdefault(folder.name, time.monotonic())
        group = folder.process_group()
        if group is None or folder.exit_code() is not None:
            return  # not started yet, or just ended: its own thread sees the wish
        lock = folder.open_lock()
        try:
            if not try_lock(lock):
                _signal(group, signal.SIGTERM if time.monotonic() - first < TERM_SECONDS else signal.SIGKILL)
        finally:
            os.close(lock)


def _signal(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


def _job_environment(root: Path, max_parallel: int) -> dict[str, str]:
    """The commands' environment: no connection settings, and a fair share of the processors for number libraries."""
    environment = {key: value for key, value in os.environ.items() if key not in NOT_FOR_JOBS}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{root / 'tracking.sqlite'}"
    environment["MLFLOW_DISABLE_TELEMETRY"] = "true"  # no call leaves the machine
    threads = str(max(1, (os.cpu_count() or 1) // max_parallel))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        environment.setdefault(name, threads)
    return environment


def main(arguments: list[str]) -> int:
    """Serve one root, unless another agent does."""
    root = Path(arguments[0])
    make_root(root)
    lock = os.open(root / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    deadline = time.monotonic() + LOCK_SECONDS
    while not try_lock(lock):
        if time.monotonic() > deadline:
            return 0  # somebody else started one with the same settings
        time.sleep(0.05)
    (root / "agent.settings").write_text(os.environ["SHELFCAST_AGENT"])
    Agent(root, int(arguments[1]), float(arguments[2]), os.environ["LAKE"]).serve()
    # Threads that wait for jobs hold nothing that a successor cannot take over; do not wait for them.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
