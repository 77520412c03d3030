"""Tasks beside the main flow: kept until they end, cancelled when the host ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

_GRACE_SECONDS = 1.0


class Background:
    """Tasks of the host's loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run `work`; what it raises goes to the loop's exception handler (a HostError ends the host)."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            context = {"message": "a background task failed", "exception": problem, "task": task}
            task.get_loop().call_exception_handler(context)

    async def close(self) -> None:
        """Cancel what runs."""
        if tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_GRACE_SECONDS)
