"""Telemetry: business events, spans, exceptions and gauges for Application Insights, through OpenCensus.

The only module that imports opencensus, and the one place to change when its successor takes over. Two layers:

    AppTelemetry        what the app calls; never raises, never decides anything; adds ids, trace and run
    OpenCensusExporter  OpenCensus' queue, worker, disk storage and envelopes, over telemetry_transport.Transport

OpenCensus as it comes loses telemetry when the network fails, when the quota is used up, when a batch cannot be
written to disk, when the instance is frozen, and it stops the app from loading when the connection string is
odd. Each of those is answered here; docs/telemetry.md has the list. Plain logs stay with `logging`: the Functions
host carries those already, and events never pass through a logger, so that no row is there twice.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from adapters import telemetry_context
from adapters.telemetry_connection import Connection, parse_client_id, parse_connection
from adapters.telemetry_context import RunContext
from adapters.telemetry_events import EVENTS
from adapters.telemetry_log import LineLog, Nowhere
from adapters.telemetry_transport import POST_SECONDS, Transport
from adapters.telemetry_values import Item, as_numbers, as_texts
from domain.errors import ShelfcastError
from settings import Settings

_logger = logging.getLogger("shelfcast.telemetry")

LOG_FILE = "telemetry.jsonl"
QUEUE_CAPACITY = 65_536  # a run of 84 models and 9 sources emits some 500 events; a burst must not drop one
EMIT_WAIT_SECONDS = 1.0  # longest that an emitter is held up when even that queue is full
EXPORT_SECONDS = 1.0  # an instance may freeze at any time, so little may wait in memory
BATCH_ITEMS = 100
HELD_ITEMS = 20_000  # kept in memory when the disk refuses too
REPORT_SECONDS = 60.0  # between two events about lost telemetry


class Backend(Protocol):
    """Where items go."""

    def put(self, item: Item) -> None:
        """Take the item without waiting long."""

    def flush(self, seconds: float) -> bool:
        """Wait until everything was handed over; False if the time ran out."""


def open_telemetry(settings: Settings) -> AppTelemetry:
    """Return telemetry as the settings ask; whatever is wrong with them costs one warning and never the app."""
    local = LineLog(Path(__file__).resolve().parent.parent / settings.data_dir / LOG_FILE)
    if settings.telemetry_backend == "none":
        return AppTelemetry(Nowhere(), settings.code_version)
    if settings.telemetry_backend == "log":
        return AppTelemetry(local, settings.code_version)
    connection = parse_connection(settings.applicationinsights_connection_string)
    if connection.fault:
        _logger.warning("telemetry stays on this machine: %s", connection.fault)
        return AppTelemetry(local, settings.code_version)
    try:
        credential = _credential(settings.applicationinsights_authentication_string)
        return AppTelemetry(OpenCensusExporter(connection, credential), settings.code_version)
    except Exception as error:  # a broken package or folder must not stop the app
        _logger.warning("telemetry stays on this machine: OpenCensus cannot start: %s", error)
        return AppTelemetry(local, settings.code_version)


def _credential(authentication: str) -> Any:
    wanted, client_id = parse_client_id(authentication)
    if not wanted:
        return None
    from azure.identity import ManagedIdentityCredential

    return ManagedIdentityCredential(client_id=client_id) if client_id else ManagedIdentityCredential()


class AppTelemetry:
    """Implements domain.ports.Telemetry, with spans, gauges and bound dimensions besides."""

    def __init__(self, backend: Backend, code_version: str = "") -> None:
        self._backend = backend
        self._code_version = code_version
        self._warned: set[str] = set()

    def event(self, name: str, dimensions: Mapping[str, Any], measures: Mapping[str, float] | None = None) -> None:
        """Emit one business event of `telemetry_events.EVENTS`; the same facts give the same `event_id`."""
        with self._quietly():
            merged = {**telemetry_context.current().dimensions, **dimensions}
            if kind := EVENTS.get(name):
                merged.setdefault("event_id", kind.event_id(merged))
                self._check(name, kind.all_dimensions | {"traceparent"}, dimensions)
                self._check(name, frozenset(kind.measures), measures or {})
            else:
                self._once(f"event {name!r} is not in the table of events")
            self._backend.put(self._item("event", name, merged, measures or {}))

    def exception(self, error: BaseException, dimensions: Mapping[str, Any]) -> None:
        """Report an error with its stack; a domain error brings its code and fields along."""
        with self._quietly():
            merged = {**telemetry_context.current().dimensions, **dimensions, "message": str(error)}
            if isinstance(error, ShelfcastError):
                merged = {**error.fields, **merged, "error_code": error.code}
            frames = traceback.extract_tb(error.__traceback__)[-100:]
            stack = tuple(
                {"level": level, "method": frame.name, "fileName": frame.filename, "line": frame.lineno or 0}
                for level, frame in enumerate(reversed(frames))
            )
            item = self._item("exception", type(error).__name__, merged, {})
            self._backend.put(replace(item, stack=stack))

    def gauge(self, name: str, value: float, dimensions: Mapping[str, Any] | None = None) -> None:
        """Report a value as it is now, once; nothing repeats it later."""
        with self._quietly():
            merged = {**telemetry_context.current().dimensions, **(dimensions or {})}
            self._backend.put(self._item("gauge", name, merged, {"value": value}))

    @contextmanager
    def span(self, name: str, dimensions: Mapping[str, Any] | None = None) -> Iterator[RunContext]:
        """Time the block as a dependency; what happens inside is its child. The block's error goes on."""
        merged = {**telemetry_context.current().dimensions, **(dimensions or {})}
        outer = telemetry_context.current().joined(merged)
        inner = RunContext(outer.trace_id, os.urandom(8).hex(), merged)
        item, started, success = self._item("dependency", name, merged, {}), time.perf_counter(), False
        try:
            with telemetry_context.bound(inner):
                yield inner
            success = True
        finally:
            with self._quietly():
                seconds = time.perf_counter() - started
                self._backend.put(replace(
                    item, measures={"seconds": seconds}, span_id=inner.span_id, success=success
                ))

    @contextmanager
    def bind(self, traceparent: str = "", **dimensions: Any) -> Iterator[RunContext]:
        """Give these dimensions, and the trace of a W3C traceparent, to everything that the block emits."""
        outer = telemetry_context.current()
        merged = {**outer.dimensions, **dimensions}
        given = RunContext.from_traceparent(traceparent, merged)
        context = given if given.trace_id else replace(outer, dimensions=merged)
        with telemetry_context.bound(context):
            yield context

    def flush(self, seconds: float = 5.0) -> bool:
        """Wait until everything was handed over; False if the time ran out."""
        with self._quietly():
            return self._backend.flush(seconds)
        return False

    def _item(self, kind: str, name: str, merged: Mapping[str, Any], measures: Mapping[str, Any]) -> Item:
        context = telemetry_context.current().joined(merged)
        dimensions = as_texts({key: value for key, value in merged.items() if key != "traceparent"})
        if self._code_version:
            dimensions.setdefault("code_version", self._code_version)
        return Item(kind, name, _now(), context.trace_id, context.span_id, dimensions, as_numbers(measures))

    def _check(self, name: str, known: frozenset[str], used: Mapping[str, Any]) -> None:
        for key in used:
            if key not in known:
                self._once(f"event {name!r} has no {key!r} in the table of events")

    def _once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            _logger.warning("%s", message)

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # telemetry never raises: the work that it reports is worth more
            self._once(f"telemetry failed: {type(error).__name__}: {error}")


class OpenCensusExporter:
    """Hands items to Application Insights: at least once, in batches, from one thread, surviving on disk.

    Another process of the same app and key takes over what a dead one has left on disk.
    """

    def __init__(
        self, connection: Connection, credential: Any = None, *, folder: Path | None = None,
        export_seconds: float = EXPORT_SECONDS, capacity: int = QUEUE_CAPACITY, post_seconds: float = POST_SECONDS,
    ) -> None:
        from opencensus.common.schedule import Queue
        from opencensus.ext.azure.common.storage import LocalFileStorage
        from opencensus.ext.azure.log_exporter import Worker

        self._key = connection.instrumentation_key
        self._transport = Transport(connection.endpoint, credential, post_seconds)
        self._held: list[Any] = []
        self._reported, self._next_report = 0, 0.0  # lost items that were told of; when the next event may be sent
        self._folder = folder or Path(tempfile.gettempdir()) / f"shelfcast-telemetry-{self._key}"
        self._storage: Any = LocalFileStorage(path=str(self._folder), source="Shelfcast")  # type: ignore[no-untyped-call]
        # Worker asks its target for these two names and calls `_export`.
        self.max_batch_size, self.export_interval = BATCH_ITEMS, export_seconds
        self._queue: Any = Queue(capacity=capacity)  # type: ignore[no-untyped-call]
        self._worker: Any = Worker(self._queue, self)  # type: ignore[no-untyped-call]
        self._worker.start()
        atexit.register(self.close)

    @property
    def sent(self) -> int:
        """How many items the service has taken."""
        return self._transport.sent

    @property
    def dropped(self) -> int:
        """How many items are lost: refused for good, or without room in queue, disk and memory."""
        return self._transport.dropped

    def put(self, item: Item) -> None:
        """Queue the item; when the queue is full, wait a moment, then count it as dropped."""
        import queue

        try:
            # OpenCensus' own `put` swallows the overflow; its inner queue tells.
            self._queue._queue.put(_envelope(item, self._key), block=True, timeout=EMIT_WAIT_SECONDS)
        except queue.Full:
            self._transport.drop(1, "the queue is full")

    def flush(self, seconds: float) -> bool:
        """Hand over what is queued, on disk and in memory; also what the worker already holds."""
        from opencensus.common.schedule import QueueEvent

        deadline = time.monotonic() + seconds
        while self._worker.is_alive():
            mark: Any = QueueEvent("flush")  # type: ignore[no-untyped-call]
            self._queue.put(mark, block=True, timeout=max(0.0, deadline - time.monotonic()))
            done = mark.wait(max(0.0, deadline - time.monotonic()))
            if done and not self._held and not any(self._folder.iterdir()):
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(min(0.1, max(0.0, deadline - time.monotonic())))
        return False

    def close(self, seconds: float = 5.0) -> None:
        """Hand over what can be handed over and stop the threads; what remains stays on disk."""
        atexit.unregister(self.close)
        if not self._worker.is_alive():
            return
        self.flush(seconds)
        if self._held:
            self._storage.put(self._held)
        self._storage.close()
        self._worker.stop(seconds)

    def _export(self, batch: Sequence[Any], event: Any = None) -> None:
        """Called by the worker for each batch, also for an empty one: then what waits on disk gets its turn."""
        try:
            if batch:
                self._keep(self._transport.send(list(batch)))
            self._drain()
            self._report()
        finally:
            if event:
                event.set()

    def _drain(self) -> None:
        held, self._held = self._held, []
        if held:
            self._keep(self._transport.send(held))
        for blob in self._storage.gets():
            if self._transport.is_waiting:
                return
            # To connect, to agree on TLS, to send, to wait for the answer's head and to read its body.
            if not blob.lease(5 * self._transport.post_seconds):
                continue  # another process was quicker
            envelopes = list(blob.get() or ())
            remaining = self._transport.send(envelopes)
            if envelopes and len(remaining) == len(envelopes):
                blob.lease(0)  # at once free again, for us or for another process
                return
            self._keep(remaining)
            blob.delete()

    def _report(self) -> None:
        """Tell how much was lost since the last report, once the service may take anything again."""
        lost = self._transport.dropped - self._reported
        if not lost or self._transport.is_waiting or time.monotonic() < self._next_report:
            return
        self._next_report = time.monotonic() + REPORT_SECONDS
        dimensions = {
            "checked_at": _now(), "instance": os.environ.get("WEBSITE_INSTANCE_ID") or socket.gethostname(),
            "cause": self._transport.cause,
        }
        dimensions["event_id"] = EVENTS["telemetry_dropped"].event_id(dimensions)
        context = RunContext().joined(dimensions)
        item = Item("event", "telemetry_dropped", dimensions["checked_at"], context.trace_id, context.span_id,
                    as_texts(dimensions), {"dropped": float(lost)})
        self._keep(self._transport.send([_envelope(item, self._key)]))
        self._reported += lost

    def _keep(self, envelopes: list[Any]) -> None:
        if not envelopes or self._storage.put(envelopes):
            return
        room = HELD_ITEMS - len(self._held)
        self._held += envelopes[:room]
        if len(envelopes) > room:
            self._transport.drop(len(envelopes) - room, "the disk refuses and memory is full")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _envelope(item: Item, key: str) -> Any:
    """Return the item as OpenCensus' envelope, made in the emitter's thread so that its trace is right."""
    from opencensus.ext.azure.common import protocol as untyped
    from opencensus.ext.azure.common import utils

    protocol: Any = untyped
    tags = {
        **utils.azure_monitor_context,
        "ai.cloud.role": os.environ.get("WEBSITE_SITE_NAME", "shelfcast"),
        "ai.operation.id": item.operation_id, "ai.operation.parentId": item.parent_id,
    }
    name, data = _payload(item, protocol, utils)
    return protocol.Envelope(
        iKey=key, tags=tags, time=item.time, name=f"Microsoft.ApplicationInsights.{name}",
        data=protocol.Data(baseData=data, baseType=f"{name}Data"),
    )


def _payload(item: Item, protocol: Any, utils: Any) -> tuple[str, Any]:
    if item.kind == "event":
        return "Event", protocol.Event(name=item.name, properties=item.dimensions, measurements=item.measures)
    if item.kind == "gauge":
        point = protocol.DataPoint(ns=item.name, name=item.name, value=item.measures.get("value", 0.0))
        return "Metric", protocol.MetricData(metrics=[point], properties=item.dimensions)
    if item.kind == "exception":
        told = {
            "id": 1, "outerId": 0, "typeName": item.name, "message": item.dimensions.get("message", item.name),
            "hasFullStack": bool(item.stack), "parsedStack": list(item.stack),
        }
        return "Exception", protocol.ExceptionData(exceptions=[told], severityLevel=3, properties=item.dimensions)
    return "RemoteDependency", protocol.RemoteDependency(
        name=item.name, id=item.span_id, resultCode="0" if item.success else "1", success=item.success, type="INPROC",
        duration=utils.microseconds_to_duration(int(item.measures.get("seconds", 0.0) * 1e6)),
        properties=item.dimensions,
    )
