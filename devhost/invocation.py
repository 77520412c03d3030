"""Calls user functions: sync ones in thread pools, async ones on one loop of their own, like the Python worker.

The host's own loop never runs user code but quick replays, so a function that blocks cannot stop HTTP, timers or the
task hub.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import azure.functions as func
from azure.functions._durable_functions import EntityContext, OrchestrationContext

from devhost.durable.episode import Reply
from devhost.errors import UnknownFunction
from devhost.function_index import Function, FunctionIndex, converter_of
from devhost.logs import EventLog, invocation

log = EventLog("devhost.functions")

MAX_REPLAY_THREADS = 4  # replay is pure CPU under the interpreter's lock; more threads only help code that blocks
QUICK_SECONDS = 0.02  # an orchestrator that took longer runs in a thread the next time


class OutValue(func.Out[Any]):
    """What a function sets on an output parameter."""

    value: Any = None

    def set(self, val: Any) -> None:
        """Keep the value for the binding."""
        self.value = val

    def get(self) -> Any:
        """Return the value that was set, or None."""
        return self.value


class Invoker:
    """Runs the functions of an index. Call `close` at the end; running threads are not waited for."""

    def __init__(self, index: FunctionIndex, app_dir: str, max_orchestrators: int) -> None:
        self.index = index
        self.closing = False  # nothing new begins
        self._directory = app_dir
        threads = int(os.environ.get("PYTHON_THREADPOOL_THREAD_COUNT") or min(32, (os.cpu_count() or 1) + 4))
        self._functions = ThreadPoolExecutor(threads, "function")
        self._activities = ThreadPoolExecutor(threads, "activity")
        self._replays = ThreadPoolExecutor(max(1, min(MAX_REPLAY_THREADS, max_orchestrators)), "replay")
        self._seconds: dict[str, float] = {}
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="async-functions", daemon=True).start()

    def close(self) -> None:
        """Give up what runs."""
        for pool in (self._functions, self._activities, self._replays):
            pool.shutdown(wait=False, cancel_futures=True)
        self._loop.call_soon_threadsafe(self._loop.stop)

    # -- any function -------------------------------------------------------------------------------
    async def call(self, function: Function, trigger: Callable[[], Any], others: dict[str, Any],
                   instance: str | None = None) -> dict[str, Any]:  # fmt: skip
        """Call a function off the host's loop, with what `trigger` gives there and the values of other bindings.

        Gives what the function gave, by the names of its output bindings; "$return" is its value, JSON text of an
        activity. Raises what the function raises; that is logged with its traceback.
        """
        names = {"function": function.name, "instance": instance, "invocation": str(uuid.uuid4())}
        outputs = {binding.name: OutValue() for binding in function.outputs}
        is_activity = function.trigger.type == "activityTrigger"

        def arguments() -> dict[str, Any]:
            given = {function.trigger.name: trigger(), **others, **outputs}
            if function.wants_context:
                given["context"] = SimpleNamespace(
                    function_name=function.name, function_directory=self._directory, invocation_id=names["invocation"],
                    thread_local_storage=SimpleNamespace(invocation_id=names["invocation"]),
                    trace_context=SimpleNamespace(trace_parent="", trace_state="", attributes={}),
                    retry_context=SimpleNamespace(retry_count=0, max_retry_count=0, exception=None),
                )  # fmt: skip
            return given

        def completed(value: Any) -> dict[str, Any]:
            if is_activity:
                value = str(converter_of("activityTrigger").encode(value, expected_type=None).value)
            elif value is not None and function.return_binding is None:
                raise RuntimeError(f"function {function.name!r} without a $return binding returned a non-None value")
            given = {"$return": value, **{name: out.value for name, out in outputs.items()}}
            return {name: item for name, item in given.items() if item is not None}

        def run() -> dict[str, Any]:
            with _logged(function, names):
                return completed(function.call(**arguments()))

        async def run_async() -> dict[str, Any]:
            with _logged(function, names):
                return completed(await function.call(**arguments()))

        if function.is_async:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run_async(), self._loop))
        pool = self._activities if is_activity else self._functions
        return await asyncio.get_running_loop().run_in_executor(pool, run)

    # -- durable functions --------------------------------------------------------------------------
    async def replay(self, name: str, instance_id: str, body: str) -> tuple[Reply, float]:
        """Run an orchestrator, at once if its last call took less than QUICK_SECONDS, in a thread otherwise.

        Gives its reply and the CPU seconds that it took.
        """
        if self._seconds.get(name, QUICK_SECONDS) < QUICK_SECONDS:
            return self._replay(name, instance_id, body)
        return await asyncio.get_running_loop().run_in_executor(self._replays, self._replay, name, instance_id, body)

    def _replay(self, name: str, instance_id: str, body: str) -> tuple[Reply, float]:
        try:
            function = self.index.durable("orchestrator", name)
        except UnknownFunction as problem:
            return Reply(fault=str(problem)), 0.0
        names: dict[str, Any] = {"function": function.name, "instance": instance_id}
        token = invocation.set(names)
        began, cpu = time.perf_counter(), time.thread_time()
        try:
            reply = Reply.of_result(function.call(**{function.trigger.name: OrchestrationContext(body)}))
        except BaseException as problem:
            reply = Reply.of_exception(problem)
            if reply.fault is not None:
                log.error("failed", problem, **names)
        finally:
            invocation.reset(token)
        self._seconds[name] = time.perf_counter() - began
        return reply, time.thread_time() - cpu

    async def entity(self, name: str, scheduler_id: str, body: str) -> str:
        """Run an entity's batch; gives the SDK's reply."""
        function = self.index.durable("entity", name)

        def run() -> str:
            invocation.set({"function": function.name, "instance": scheduler_id})
            return str(function.call(**{function.trigger.name: EntityContext(body)}))

        return await asyncio.get_running_loop().run_in_executor(self._replays, run)


@contextlib.contextmanager
def _logged(function: Function, names: dict[str, Any]) -> Iterator[None]:
    """Around one call of a function: its log line, and its names in every line that is logged meanwhile."""
    token = invocation.set(names)
    began = time.perf_counter()
    try:
        yield
    except BaseException as problem:
        log.error("failed", problem, **names, ms=_milliseconds(began))
        if isinstance(problem, Exception) and not isinstance(problem, StopIteration):
            raise
        raise RuntimeError(f"the function raised {problem!r}") from problem  # what would end a loop or a thread
    else:
        log.info("succeeded", **names, trigger=function.trigger.type, ms=_milliseconds(began))
    finally:
        invocation.reset(token)


def _milliseconds(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 1)
