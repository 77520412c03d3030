"""What handlers of activities are given: the attempt, its scope, and what all runs of a runner share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from devhost.adf.clock import Clock
from devhost.adf.errors import ActivityFailure, ExpressionError
from devhost.adf.expressions import MISSING
from devhost.adf.factory import Activity, Factory
from devhost.adf.records import RunStore, Watcher
from devhost.adf.scope import Result, Scope, resolve

if TYPE_CHECKING:
    from devhost.adf.runs import Execution

Handler = Callable[["Call"], Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class Invocation:
    """Who started a run. `event` is what a storage event's trigger knows."""

    type: str = "Manual"
    name: str = "Manual"
    id: str = ""
    time: datetime | None = None
    pipeline: str | None = None
    run_id: str | None = None
    group_id: str | None = None
    event: Mapping[str, Any] | None = None


@dataclass
class Call:
    """One attempt of one activity, as its handler sees it."""

    activity: Activity
    execution: Execution
    scope: Scope
    seen: Mapping[str, Result]
    input: Any = None
    inner: dict[str, Result] = field(default_factory=dict)

    @property
    def services(self) -> Services:
        """Clock, HTTP session, storage, options."""
        return self.execution.services

    def resolve(self, value: Any, *, item: Any = MISSING) -> Any:
        """A JSON value with its expressions evaluated. Raises ActivityFailure (code InvalidTemplate)."""
        try:
            return resolve(value, self.scope.bindings(self.seen, item=item))
        except ExpressionError as error:
            raise ActivityFailure(str(error), code="InvalidTemplate", retryable=False) from None

    def property(self, name: str, default: Any = None) -> Any:
        """A type property, evaluated; the default when it is absent."""
        value = self.activity.properties.get(name)
        return default if value is None else self.resolve(value)

    def secure(self, which: str) -> bool:
        """True when the policy hides `secureInput` or `secureOutput`."""
        return self.activity.policy.get(which) is True


@dataclass
class Services:
    """What all runs of one runner share. `handlers` maps activity types to what executes them."""

    factory: Factory
    handlers: Mapping[str, Handler]
    clock: Clock
    store: RunStore
    watcher: Watcher
    http: Any = None  # http.HttpCaller, set while the runner is open
    callbacks: Any = None  # callbacks.CallbackListener, set while the runner is open
    storage: Any = None  # blobs.Storage
    answers: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    slots: dict[str, asyncio.Semaphore] = field(default_factory=dict)
    queued: dict[str, int] = field(default_factory=dict)
    background: set[asyncio.Task[Any]] = field(default_factory=set)
