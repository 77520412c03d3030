"""Which activity of a level runs when, and how the level ends: dependency conditions, Skipped, the leaf rule."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from devhost.adf.factory import Activity

Run = Callable[[Activity], Awaitable[str]]


@dataclass(frozen=True)
class LevelOutcome:
    """How a level ended: Succeeded, Failed or Skipped per activity; `failed` names what decided a failure."""

    statuses: Mapping[str, str]
    failed: tuple[str, ...]

    @property
    def succeeded(self) -> bool:
        """True when every judged activity succeeded."""
        return not self.failed


def condition_met(conditions: tuple[str, ...], status: str) -> bool:
    """Does an outcome satisfy one dependency? Its conditions are alternatives; Completed is Succeeded or Failed."""
    return status in conditions or ("Completed" in conditions and status in ("Succeeded", "Failed"))


def judge(activities: tuple[Activity, ...], statuses: Mapping[str, str]) -> LevelOutcome:
    """The leaf rule: look at every leaf, judge a skipped one by its parents; all judged must have succeeded."""
    parents = {a.name: [d.activity for d in a.depends_on] for a in activities}
    depended_on = {name for names in parents.values() for name in names}
    waiting = [a.name for a in activities if a.name not in depended_on]
    seen: set[str] = set()
    failed = []
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        if statuses[name] == "Skipped":
            waiting += parents[name]
        elif statuses[name] != "Succeeded":
            failed.append(name)
    return LevelOutcome(statuses, tuple(failed))


async def run_level(activities: tuple[Activity, ...], run: Run, skip: Run) -> LevelOutcome:
    """Run the activities of one level, each as soon as all it depends on has ended.

    `run` and `skip` answer the status that dependants see. Cancelling this cancels everything that is running.
    """
    ended: dict[str, asyncio.Future[str]] = {a.name: asyncio.get_running_loop().create_future() for a in activities}

    async def one(activity: Activity) -> None:
        met = True
        for needed in activity.depends_on:
            status = await ended[needed.activity]
            met = met and condition_met(needed.conditions, status)
        ended[activity.name].set_result(await (run if met else skip)(activity))

    try:
        async with asyncio.TaskGroup() as group:
            for activity in activities:
                group.create_task(one(activity))
    except BaseExceptionGroup as errors:
        raise _first(errors) from None
    return judge(activities, {name: future.result() for name, future in ended.items()})


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
