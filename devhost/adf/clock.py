"""Time that tests can shorten: waits and limits are divided by a scale, HTTP itself is not."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Clock:
    """`wait_scale` divides waits (Wait, retry intervals, Retry-After); `limit_scale` divides timeouts."""

    wait_scale: float = 1.0
    limit_scale: float = 1.0

    def now(self) -> datetime:
        """The real time, UTC."""
        return datetime.now(UTC)

    async def wait(self, seconds: float) -> None:
        """Wait as long as the service would, divided by the scale."""
        await asyncio.sleep(max(0.0, seconds) / self.wait_scale)

    def limit(self, seconds: float) -> float:
        """Real seconds that a limit of the service stands for."""
        return seconds / self.limit_scale
