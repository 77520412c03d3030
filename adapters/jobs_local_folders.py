"""The local platform's state on disk. Every file has one writer, and every reader takes what it finds.

    root/doorbell              FIFO: "." = look at the queue, "q" = hand over to a successor; an agent keeps it open
    root/agent.lock            flock of the one agent
    root/agent.settings        hash of the settings that the agent was started with
    root/queue/NAME            marker of every job that has not ended
    root/cache/CONTAINER/HASH/ input folders, by content
    root/jobs/NAME/spec.json   the job; written once, never changed        (submit)
                   status.json AML's status words, times, error            (agent)
                   cancel      somebody wants it cancelled                 (cancel)
                   lock        flock, held while any process of the job lives
                   pid, exit   process group and exit code                 (the job's own shell)
                   std_log.txt stdout and stderr of the command
                   outputs/    output folders until they are in the lake
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from domain.job_states import JobStatus, phase_of

LOOK = b"."
HAND_OVER = b"q"
LOG_TAIL_LINES = 15
LOG_TAIL_BYTES = 4000


@dataclass(frozen=True)
class State:
    """Content of status.json."""

    status: str
    submitted_at: str = ""
    started_at: str = ""
    ended_at: str = ""
    error: str = ""
    preempted: int = 0

    @property
    def ended(self) -> bool:
        """Whether the job is over."""
        return phase_of(self.status).ended


@dataclass(frozen=True)
class JobFolder:
    """One job's folder."""

    root: Path
    name: str

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.root / "jobs" / self.name

    @property
    def marker(self) -> Path:
        """The job's entry in the queue."""
        return self.root / "queue" / self.name

    def enqueue(self) -> None:
        """Put the job into the queue; one that is there keeps its place."""
        if not self.marker.exists():
            self.marker.touch()

    @property
    def log(self) -> Path:
        """What the command printed."""
        return self.path / "std_log.txt"

    @property
    def outputs(self) -> Path:
        """Where the command writes its output folders."""
        return self.path / "outputs"

    def create(self, document: dict[str, Any]) -> bool:
        """Write the job's spec if there is none; False if somebody was first. A crash leaves all or nothing."""
        self.path.mkdir(parents=True, exist_ok=True)
        draft = self.path / f"spec.{os.getpid()}.{os.urandom(4).hex()}.json"
        draft.write_text(json.dumps(document, indent=1, sort_keys=True), encoding="utf-8")
        try:
            os.link(draft, self.path / "spec.json")  # unlike rename it fails when the name is taken
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True

    def spec(self) -> dict[str, Any] | None:
        """Return what `create` wrote, or None if the job does not exist."""
        try:
            document: dict[str, Any] = json.loads((self.path / "spec.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        return document

    @property
    def is_scoring(self) -> bool:
        """Whether the job scores; such jobs go before training."""
        return ((self.spec() or {}).get("spec") or {}).get("kind") == "score"

    def state(self) -> State | None:
        """Return the job's state, Queued if no agent has seen it yet, or None if the job does not exist."""
        try:
            return State(**json.loads((self.path / "status.json").read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return State("Queued") if (self.path / "spec.json").exists() else None

    def write_state(self, state: State) -> None:
        """Replace the state; a reader sees the old or the new one."""
        draft = self.path / "status.draft"
        draft.write_text(json.dumps(asdict(state), indent=1), encoding="utf-8")
        draft.replace(self.path / "status.json")

    def status(self) -> JobStatus | None:
        """Return the state in the port's words, or None if the job does not exist."""
        state = self.state()
        if state is None:
            return None
        word = state.status if state.ended or not self.cancel_wanted else "CancelRequested"
        return JobStatus(self.name, word, state.started_at, state.ended_at, state.error, state.preempted)

    @property
    def cancel_wanted(self) -> bool:
        """Whether somebody asked for cancellation."""
        return (self.path / "cancel").exists()

    def want_cancel(self) -> None:
        """Ask for cancellation."""
        (self.path / "cancel").touch()

    def process_group(self) -> int | None:
        """Return the process group of the latest start, or None if it was never started."""
        return self._number("pid")

    def exit_code(self) -> int | None:
        """Return the exit code of the command, or None if it has not ended by itself."""
        return self._number("exit")

    def forget_start(self) -> None:
        """Make room for another start of the command."""
        for name in ("pid", "exit"):
            (self.path / name).unlink(missing_ok=True)

    def _number(self, name: str) -> int | None:
        try:
            text = (self.path / name).read_text().strip()
        except FileNotFoundError:
            return None
        return int(text) if text else None

    def log_tail(self) -> str:
        """Return the last lines of the log, where an error says what it is."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
                text = log.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""
        return "\n".join(line for line in text.splitlines()[-LOG_TAIL_LINES:] if line.strip())

    def open_lock(self) -> int:
        """Return a file descriptor of the job's lock file; the caller locks, hands on and closes it."""
        return os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def try_lock(descriptor: int) -> bool:
    """Take an exclusive flock without waiting; False if another process holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def make_root(root: Path) -> None:
    """Create the platform's folders and its doorbell."""
    for name in ("jobs", "queue", "cache"):
        (root / name).mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkfifo(root / "doorbell")


def ring(root: Path, message: bytes = LOOK) -> bool:
    """Ring the doorbell; False if no agent is there to hear it."""
    try:
        bell = os.open(root / "doorbell", os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):
            return False
        raise
    try:
        os.write(bell, message)
    except BlockingIOError:
        return True  # the pipe is full of rings: it will look
    except BrokenPipeError:
        return False
    finally:
        os.close(bell)
    return True
