"""Calls user functions: sync ones in thread pools, async ones on one loop of their own, like the Python worker.

The host's own loop never runs user code but quick replays, so a function that blocks cannot stop HTTP, timers or the
task hub.
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
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import azure.functions as func
from azure.functions._durable_functions import EntityContext, OrchestrationContext
from azure.functions.meta import Datum

from devhost.durable.episode import Reply
from devhost.durable.history import compact
from devhost.function_index import Function, FunctionIndex, converter_of
from devhost.logs import EventLog, invocation

log = EventLog("devhost.functions")

MAX_REPLAY_THREADS = 4  # replay is pure CPU under the interpreter's lock; more threads only help code that blocks
QUICK_SECONDS = 0.02  # an orchestrator that took longer runs in a thread the next time
ActivityDone = Callable[[str | BaseException], None]


class OutValue(func.Out[Any]):
    """What a function sets on an output parameter."""

    value: Any = None

    def set(self, val: Any) -> None:
        """Keep the value for the binding."""
        self.value = val

    def get(self) -> Any:
        """Return the value that was set, or None."""
        return self.value


class Context(func.Context):
    """The `context` parameter."""

    function_name = function_directory = invocation_id = ""
    thread_local_storage: Any = None
    trace_context: Any = None
    retry_context: Any = None

    def __init__(self, function_name: str, directory: str, invocation_id: str) -> None:
        self.function_name, self.function_directory, self.invocation_id = function_name, directory, invocation_id
        self.thread_local_storage = threading.local()
        self.thread_local_storage.invocation_id = invocation_id
        self.trace_context = SimpleNamespace(trace_parent="", trace_state="", attributes={})
        self.retry_context = SimpleNamespace(retry_count=0, max_retry_count=0, exception=None)


@dataclass(frozen=True)
class Completed:
    """A function that returned, and what it set on its output parameters."""

    value: Any
    outputs: dict[str, Any]


class Invoker:
    """Runs the functions of an index. Call `close` at the end; running threads are not waited for."""

    def __init__(self, index: FunctionIndex, app_dir: str, max_orchestrators: int) -> None:
        self.index = index
        self.closing = False  # nothing new begins
        self._directory = app_dir
        threads = int(os.environ.get("PYTHON_THREADPOOL_THREAD_COUNT") or min(32, (os.cpu_count() or 1) + 4))
        self._functions = ThreadPoolExecutor(threads, "function")
        self._activities = ThreadPoolExecutor(threads, "activity")
        self.replays = ThreadPoolExecutor(max(1, min(MAX_REPLAY_THREADS, max_orchestrators)), "replay")
        self._seconds: dict[str, float] = {}
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="async-functions", daemon=True).start()

    def close(self) -> None:
        """Give up what runs."""
        for pool in (self._functions, self._activities, self.replays):
            pool.shutdown(wait=False, cancel_futures=True)
        self._loop.call_soon_threadsafe(self._loop.stop)

    # -- any function -------------------------------------------------------------------------------
    async def call(self, function: Function, arguments: dict[str, Any]) -> Completed:
        """Call a function with decoded arguments; raises what it raises, logged with its traceback."""
        ended: asyncio.Future[Completed | BaseException] = asyncio.get_running_loop().create_future()
        outputs = {binding.name: OutValue() for binding in function.outputs}

        def complete(value: Any) -> Completed:
            if value is not None and function.return_binding is None:
                raise RuntimeError(f"function {function.name!r} without a $return binding returned a non-None value")
            return Completed(value, {name: out.value for name, out in outputs.items() if out.value is not None})

        self._start(self._functions, function, lambda: {**arguments, **outputs}, {"function": function.name}, complete,
                    lambda outcome: None if ended.done() else ended.set_result(outcome))  # fmt: skip
        outcome = await ended
        if isinstance(outcome, Completed):
            return outcome
        raise outcome if isinstance(outcome, Exception) else RuntimeError(f"the function raised {outcome!r}")

    def start_activity(self, name: str, instance_id: str, input_text: str, done: ActivityDone) -> None:
        """Run an activity on the JSON text of its input; `done` gets the JSON text of its result, or what it raised."""
        function = self.index.durable("activity", name)
        if function is None:
            gone = LookupError(f"The function '{name}' doesn't exist any more in this app.")
            asyncio.get_running_loop().call_soon(done, gone)
            return
        parameter, outputs = function.trigger.name, {binding.name: OutValue() for binding in function.outputs}
        converter = converter_of("activityTrigger")

        def arguments() -> dict[str, Any]:
            metadata = {"instanceId": Datum(instance_id, "string")}
            return {parameter: converter.decode(Datum(input_text, "string"), trigger_metadata=metadata), **outputs}

        def encoded(value: Any) -> str:
            text = str(converter.encode(value, expected_type=None).value)
            return compact(json.loads(text)) if text[:1] in "{[" else text

        names = {"function": function.name, "instance": instance_id}
        self._start(self._activities, function, arguments, names, encoded, done)

    def _start(self, pool: ThreadPoolExecutor, function: Function, arguments: Callable[[], dict[str, Any]],
               names: dict[str, str], finish: Callable[[Any], Any], done: Callable[[Any], None]) -> None:  # fmt: skip
        """Call a function off the host's loop; `done` gets on that what `finish` makes of the result, or the error."""
        names["invocation"] = str(uuid.uuid4())
        call = _Call(function, names, finish, done)

        def given() -> dict[str, Any]:
            if not function.wants_context:
                return arguments()
            return {**arguments(), "context": Context(function.name, self._directory, names["invocation"])}

        def run() -> None:
            with call:
                call.result = function.call(**given())

        async def run_async() -> None:
            with call:
                call.result = await function.call(**given())

        if function.is_async:
            asyncio.run_coroutine_threadsafe(run_async(), self._loop)
        else:
            pool.submit(run)

    # -- durable functions --------------------------------------------------------------------------
    def is_quick(self, name: str) -> bool:
        """True if the orchestrator's last call took less than QUICK_SECONDS; False before the first."""
        return self._seconds.get(name, QUICK_SECONDS) < QUICK_SECONDS

    def replay(self, name: str, instance_id: str, body: str) -> tuple[Reply, float]:
        """Run an orchestrator in this thread; gives its reply and the CPU seconds that it took."""
        function = self.index.durable("orchestrator", name)
        if function is None:
            return Reply(fault=f"The function '{name}' doesn't exist any more in this app."), 0.0
        names = {"function": function.name, "instance": instance_id}
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

    def run_entity(self, name: str, scheduler_id: str, body: str) -> str:
        """Run an entity's batch in this thread; gives the SDK's reply."""
        function = self.index.durable("entity", name)
        if function is None:
            raise LookupError(f"The function '{name}' doesn't exist any more in this app.")
        invocation.set({"function": function.name, "instance": scheduler_id})
        return str(function.call(**{function.trigger.name: EntityContext(body)}))


class _Call:
    """Around one call of a function: its log line, and its outcome for the host."""

    def __init__(self, function: Function, names: dict[str, str], finish: Callable[[Any], Any],
                 done: Callable[[Any], None]) -> None:  # fmt: skip
        self._function, self._names, self._finish, self._done = function, names, finish, done
        self._host = asyncio.get_running_loop()
        self.result: Any = None

    def __enter__(self) -> None:
        invocation.set(self._names)
        self._began = time.perf_counter()

    def __exit__(self, _kind: object, problem: BaseException | None, _trace: object) -> bool:
        outcome: Any = problem
        if problem is None:
            try:
                outcome = self._finish(self.result)
            except Exception as unfit:
                outcome = unfit
        ms = round((time.perf_counter() - self._began) * 1000, 1)
        if isinstance(outcome, BaseException):
            log.error("failed", outcome, **self._names, ms=ms)
        else:
            log.info("succeeded", **self._names, trigger=self._function.trigger.type, ms=ms)
        with contextlib.suppress(RuntimeError):  # the host has ended; the next one runs the activity again
            self._host.call_soon_threadsafe(self._done, outcome)
        return True
