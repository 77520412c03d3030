"""Calls user functions: sync ones in thread pools, async ones on one loop of their own, like the Python worker.

The host's own loop never runs user code, so a function that blocks cannot stop HTTP, timers or the task hub.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import azure.functions as func
from azure.functions._durable_functions import EntityContext, OrchestrationContext
from azure.functions.meta import Datum

from devhost.durable.episode import Reply
from devhost.durable.history import compact
from devhost.function_index import Binding, Function, FunctionIndex, converter_of
from devhost.logs import EventLog, invocation

log = EventLog("devhost.functions")

MAX_REPLAY_THREADS = 4  # replay is pure CPU under the interpreter's lock; more threads only help code that blocks

ActivityDone = Callable[[str | BaseException], None]
QUICK_SECONDS = 0.02  # an orchestrator that took longer runs in a thread the next time


class OutValue(func.Out[Any]):
    """What a function sets on an output parameter."""

    def __init__(self) -> None:
        self._value: Any = None

    def set(self, val: Any) -> None:
        """Keep the value for the binding."""
        self._value = val

    def get(self) -> Any:
        """Return the value that was set, or None."""
        return self._value


@dataclass(frozen=True)
class _Trace:
    trace_parent: str = ""
    trace_state: str = ""
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Retry:
    retry_count: int = 0
    max_retry_count: int = 0
    exception: Any = None


class Context(func.Context):
    """The `context` parameter."""

    def __init__(self, function_name: str, directory: str, invocation_id: str) -> None:
        self._name, self._directory, self._id = function_name, directory, invocation_id
        self._local = threading.local()
        self._local.invocation_id = invocation_id

    invocation_id = property(lambda self: self._id)
    function_name = property(lambda self: self._name)
    function_directory = property(lambda self: self._directory)
    thread_local_storage = property(lambda self: self._local)
    trace_context = property(lambda _self: _Trace())
    retry_context = property(lambda _self: _Retry())


@dataclass(frozen=True)
class Completed:
    """A function that returned."""

    value: Any
    outputs: dict[str, Any]


class Invoker:
    """Runs the functions of an index. Call `close` at the end; running threads are not waited for."""

    def __init__(self, index: FunctionIndex, app_dir: str, max_orchestrators: int) -> None:
        self._index = index
        self._directory = app_dir
        threads = int(os.environ.get("PYTHON_THREADPOOL_THREAD_COUNT") or min(32, (os.cpu_count() or 1) + 4))
        self._functions = ThreadPoolExecutor(threads, "function")
        self._activities = ThreadPoolExecutor(threads, "activity")
        self._replays = ThreadPoolExecutor(max(1, min(MAX_REPLAY_THREADS, max_orchestrators)), "replay")
        self._seconds: dict[str, float] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="async-functions", daemon=True)
        self._thread.start()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def close(self) -> None:
        """Give up what runs."""
        for pool in (self._functions, self._activities, self._replays):
            pool.shutdown(wait=False, cancel_futures=True)
        self._loop.call_soon_threadsafe(self._loop.stop)

    # -- any function -------------------------------------------------------------------------------
    async def call(self, function: Function, arguments: dict[str, Any], invocation_id: str | None = None) -> Completed:
        """Call a function with decoded arguments; raises what it raises, logged with its traceback."""
        names = {"function": function.name, "invocation": invocation_id or str(uuid.uuid4())}
        if function.wants_context:
            arguments["context"] = Context(function.name, self._directory, names["invocation"])
        outputs = {binding.name: OutValue() for binding in function.outputs}
        arguments.update(outputs)
        began = time.perf_counter()
        try:
            value = await self._run(function, arguments, names)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as problem:
            log.error("failed", problem, **names, ms=_ms(began))
            raise
        log.info("succeeded", **names, trigger=function.trigger.type, ms=_ms(began))
        if value is not None and function.return_binding is None:
            raise RuntimeError(f"function {function.name!r} without a $return binding returned a non-None value")
        return Completed(value, {name: out.get() for name, out in outputs.items() if out.get() is not None})

    async def _run(self, function: Function, arguments: dict[str, Any], names: dict[str, str]) -> Any:
        if function.is_async:

            async def run() -> Any:
                invocation.set(names)
                return await function.call(**arguments)

            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run(), self._loop))
        return await asyncio.get_running_loop().run_in_executor(self._functions, _call, function.call, arguments, names)

    # -- durable functions --------------------------------------------------------------------------
    def durable(self, noun: str) -> dict[str, str]:
        """Lower-case name -> name of the app's durable functions of a kind."""
        return self._index.durable_names(noun)

    def is_quick(self, name: str) -> bool:
        """True if the orchestrator's last call took less than QUICK_SECONDS; False before the first."""
        return self._seconds.get(name, QUICK_SECONDS) < QUICK_SECONDS

    def replay_now(self, name: str, instance_id: str, body: str) -> tuple[Reply, float]:
        """Run an orchestrator in this thread."""
        function = self._index.durable_function("orchestrator", name)
        return self._replay(name, function, body, {"function": function.name, "instance": instance_id})

    def _replay(self, name: str, function: Function, body: str, names: dict[str, str]) -> tuple[Reply, float]:
        began = time.perf_counter()
        token = invocation.set(names)
        try:
            return _replay(function, body, names)
        finally:
            invocation.reset(token)
            self._seconds[name] = time.perf_counter() - began

    def replay(self, name: str, instance_id: str, body: str) -> asyncio.Future[tuple[Reply, float]]:
        """Run an orchestrator; gives its reply and the CPU seconds."""
        try:
            function = self._index.durable_function("orchestrator", name)
        except KeyError:
            gone: asyncio.Future[tuple[Reply, float]] = asyncio.get_running_loop().create_future()
            gone.set_result((Reply(fault=f"The function '{name}' doesn't exist any more in this app."), 0.0))
            return gone
        names = {"function": function.name, "instance": instance_id}
        return asyncio.get_running_loop().run_in_executor(self._replays, self._replay, name, function, body, names)

    def run_entity(self, name: str, scheduler_id: str, body: str) -> asyncio.Future[str]:
        """Run an entity's batch."""
        loop = asyncio.get_running_loop()
        try:
            function = self._index.durable_function("entity", name)
        except KeyError:
            gone: asyncio.Future[str] = loop.create_future()
            gone.set_exception(LookupError(f"The function '{name}' doesn't exist any more in this app."))
            return gone
        arguments = {function.trigger.name: EntityContext(body)}
        names = {"function": function.name, "instance": scheduler_id}
        return loop.run_in_executor(self._replays, _call, function.call, arguments, names)

    def start_activity(self, name: str, instance_id: str, input_text: str, done: ActivityDone) -> None:
        """Run an activity on the JSON text of its input; `done` gets the JSON text of its result, or what it raised."""
        function = self._index.durable_function("activity", name)
        names = {"function": function.name, "instance": instance_id, "invocation": str(uuid.uuid4())}
        host = asyncio.get_running_loop()

        def tell(outcome: str | BaseException) -> None:
            with contextlib.suppress(RuntimeError):  # the host has ended; the next one runs the activity again
                host.call_soon_threadsafe(done, outcome)

        if function.is_async:

            async def run_async() -> None:
                with _Activity(names, tell) as activity:
                    activity.result = await function.call(**self._activity_arguments(function, names, input_text))

            asyncio.run_coroutine_threadsafe(run_async(), self._loop)
            return

        def run() -> None:
            with _Activity(names, tell) as activity:
                activity.result = function.call(**self._activity_arguments(function, names, input_text))

        self._activities.submit(run)

    def _activity_arguments(self, function: Function, names: dict[str, str], input_text: str) -> dict[str, Any]:
        metadata = {"instanceId": Datum(names["instance"], "string")}
        value = converter_of("activityTrigger").decode(Datum(input_text, "string"), trigger_metadata=metadata)
        arguments = {function.trigger.name: value}
        if function.wants_context:
            arguments["context"] = Context(function.name, self._directory, names["invocation"])
        for binding in function.outputs:
            arguments[binding.name] = OutValue()
        return arguments


class _Activity:
    """Around one call of an activity: its log line, and its result or error for the host."""

    def __init__(self, names: dict[str, str], tell: ActivityDone) -> None:
        self._names, self._tell = names, tell
        self.result: Any = None
        self._began = time.perf_counter()
        invocation.set(names)

    def __enter__(self) -> _Activity:
        return self

    def __exit__(self, _kind: object, problem: BaseException | None, _trace: object) -> bool:
        text = ""
        if problem is None:
            try:
                text = str(converter_of("activityTrigger").encode(self.result, expected_type=None).value)
            except Exception as unfit:
                problem = unfit
        if problem is not None:
            log.error("failed", problem, **self._names, ms=_ms(self._began))
            self._tell(problem)
        else:
            log.info("succeeded", **self._names, trigger="activityTrigger", ms=_ms(self._began))
            self._tell(compact(json.loads(text)) if text[:1] in "{[" else text)
        return True


def decode(function: Function, binding: Binding, datum: Any, metadata: dict[str, Any]) -> Any:
    """Turn a host's value into what the function's parameter is annotated as."""
    wanted = function.annotations.get(binding.name)
    converter = converter_of(binding.type)
    implicit = converter is not None and getattr(converter, "has_implicit_output", lambda: False)()
    if converter is None or (wanted in (str, bytes) and not implicit):
        value = datum.value
        if wanted is str and isinstance(value, bytes):
            return value.decode("utf-8")
        if wanted is bytes and isinstance(value, str):
            return value.encode("utf-8")
        return value
    return converter.decode(datum, trigger_metadata=metadata)


def _call(call: Callable[..., Any], arguments: dict[str, Any], names: dict[str, str]) -> Any:
    invocation.set(names)
    return call(**arguments)


def _replay(function: Function, body: str, names: dict[str, str]) -> tuple[Reply, float]:
    began = time.thread_time()
    try:
        reply = Reply.of_result(function.call(**{function.trigger.name: OrchestrationContext(body)}))
    except BaseException as problem:
        reply = Reply.of_exception(problem)
        if reply.fault is not None:
            log.error("failed", problem, **names)
    return reply, time.thread_time() - began


def _ms(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 1)
