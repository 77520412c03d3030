"""Who is acting: the run, its trace and its dimensions, carried by `contextvars`.

OpenCensus keeps its tracer per thread, so work handed to another thread loses it. This context is a value:
`current()` returns it, `bound(context)` sets it, and `carried(function)` takes it along to a thread or task.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from domain.tracing import derived_trace, parse_traceparent

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class RunContext:
    """Trace id and parent span (W3C), and the dimensions that every event of this work carries."""

    trace_id: str = ""
    span_id: str = ""
    dimensions: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_traceparent(cls, text: str, dimensions: Mapping[str, Any] | None = None) -> RunContext:
        """Read a W3C traceparent; anything that is none gives a context without a trace."""
        trace = parse_traceparent(text)
        return cls(trace.trace_id, trace.span_id, dict(dimensions or {})) if trace else cls(dimensions=dimensions or {})

    def joined(self, dimensions: Mapping[str, Any]) -> RunContext:
        """Return this context for an event with these dimensions: its trace, or one derived from the run.

        Without a trace, everything of one correlation id (else one run) gets the same derived operation id,
        so that a query joins it all the same.
        """
        if "traceparent" in dimensions:
            given = RunContext.from_traceparent(str(dimensions["traceparent"]))
            if given.trace_id:
                return replace(given, dimensions=self.dimensions)
        if self.trace_id:
            return self
        root = str(dimensions.get("correlation_id") or dimensions.get("run_id") or dimensions.get("event_id") or "")
        trace = derived_trace(root)
        return replace(self, trace_id=trace.trace_id, span_id=trace.span_id)


_current: contextvars.ContextVar[RunContext | None] = contextvars.ContextVar("shelfcast_run_context", default=None)


def current() -> RunContext:
    """Return the context of this thread or task."""
    return _current.get() or RunContext()


@contextmanager
def bound(context: RunContext) -> Iterator[RunContext]:
    """Work under the context until the block ends."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


def carried(function: Callable[..., Answer]) -> Callable[..., Answer]:
    """Return the function so that it runs under today's context in whatever thread calls it."""
    context = current()

    def run(*arguments: Any, **named: Any) -> Answer:
        with bound(context):
            return function(*arguments, **named)

    return run
