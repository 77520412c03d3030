"""The run on the terminal: a live tree of activities with durations; plain lines where there is no terminal."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

from devhost.adf.records import Event

_STYLE: Final = {
    "Succeeded": ("✔", "green"),
    "Failed": ("✘", "red"),
    "TimedOut": ("✘", "red"),
    "Cancelled": ("■", "yellow"),
    "Skipped": ("–", "dim"),
    "Inactive": ("○", "dim"),
    "InProgress": ("…", "cyan"),
}
_ERROR_WIDTH: Final = 300


@dataclass
class Branch:
    """One line of the tree."""

    label: str
    type: str = ""
    status: str = "InProgress"
    started: datetime | None = None
    seconds: float | None = None
    attempts: int = 0
    error: str = ""
    children: dict[str, Branch] = field(default_factory=dict)


class RunTree:
    """Collects events into a tree; thread-safe. Call it with each event."""

    def __init__(self) -> None:
        self.top = Branch("")
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Take one event in."""
        with self._lock:
            if event.kind.startswith("pipeline"):
                if event.path:
                    return
                branch = self.top
                branch.label = f"{event.pipeline}  {event.run_id}"
            else:
                branch = self._at(event.path)
            branch.type, branch.status = event.type, event.status
            branch.started = branch.started or event.at
            branch.seconds = event.duration_seconds
            branch.attempts = max(branch.attempts, event.attempt)
            branch.error = str((event.error or {}).get("message", "")) if event.kind.endswith("ended") else ""

    def render(self) -> Any:
        """The tree as rich shows it."""
        from rich.tree import Tree

        with self._lock:
            tree = Tree(_line(self.top))
            _grow(tree, self.top)
            return tree

    def _at(self, path: tuple[str, ...]) -> Branch:
        branch = self.top
        for part in path:
            branch = branch.children.setdefault(part, Branch(part))
        return branch


class Terminal:
    """Shows a RunTree while its block lasts: live on a terminal, a line an ended activity elsewhere."""

    def __init__(self, *, live: bool | None = None) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self.tree = RunTree()
        self._live_wanted = self._console.is_terminal if live is None else live
        self._live: Any = None

    def __enter__(self) -> Terminal:
        if self._live_wanted:
            from rich.live import Live

            self._live = Live(
                get_renderable=self.tree.render,
                console=self._console,
                refresh_per_second=4,
                vertical_overflow="visible",
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        self.tree(event)
        if self._live is not None or not event.kind.endswith("ended") or (event.type == "Pipeline" and event.path):
            return
        mark = _STYLE.get(event.status, ("?", ""))[0]
        iteration = next((part for part in reversed(event.path) if part.startswith("[")), "")
        error = f"  {_short((event.error or {}).get('message', ''))}" if event.error else ""
        name = f"{'  ' * len(event.path)}{mark} {event.name} {iteration}".rstrip()
        self._console.print(
            f"{name}  {event.type} {event.status} {_duration(event.duration_seconds or 0)}{error}",
            markup=False,
            soft_wrap=True,
        )


def _grow(tree: Any, branch: Branch) -> None:
    for child in branch.children.values():
        _grow(tree.add(_line(child)), child)


def _line(branch: Branch) -> Any:
    from rich.text import Text

    iteration = branch.label.startswith("[") and not branch.type
    mark, style = _STYLE.get(branch.status, ("?", ""))
    text = Text() if iteration else Text(f"{mark} ", style=style)
    text.append(branch.label, style="bold" if not iteration else "cyan")
    if branch.type:
        text.append(f"  {branch.type}", style="dim")
    if branch.status not in ("Succeeded", "InProgress") and branch.type:
        text.append(f"  {branch.status}", style=style)
    seconds = branch.seconds
    if seconds is None and branch.started is not None and branch.status == "InProgress":
        seconds = (datetime.now(UTC) - branch.started).total_seconds()
    if seconds is not None and branch.status not in ("Skipped", "Inactive"):
        text.append(f"  {_duration(seconds)}", style="dim")
    if branch.attempts:
        text.append(f"  attempt {branch.attempts + 1}", style="yellow")
    if branch.error:
        text.append(f"\n{_short(branch.error)}", style="red")
    return text


def _short(message: Any) -> str:
    text = " ".join(str(message).split())
    return text if len(text) <= _ERROR_WIDTH else text[: _ERROR_WIDTH - 3] + "..."


def _duration(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)} min {rest:02.0f} s" if minutes else f"{rest:.1f} s"
