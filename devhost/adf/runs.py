"""Pipeline runs: queueing, parameters, the run record, and each activity with its retries, timeout and masking."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from devhost.adf.calls import Call, Invocation, Services
from devhost.adf.errors import ActivityFailure, AdfError, ExpressionError, FactoryError, NotModelled, ParameterError
from devhost.adf.factory import Activity, Pipeline
from devhost.adf.flow import LevelOutcome, run_level
from devhost.adf.parameters import ParameterSpec, bind, masked
from devhost.adf.records import MASKED, ActivityRun, Event, PipelineRun
from devhost.adf.scope import Result, Scope, ancestors
from devhost.adf.spans import span_seconds, stamp

QUEUE_LIMIT: Final = 100  # queued runs of one pipeline, the service's limit
DEFAULT_TIMEOUT_SECONDS: Final = 12 * 3600.0
DEFAULT_RETRY_SECONDS: Final = 30.0
CONTAINERS: Final = frozenset({"ForEach", "Until", "IfCondition", "Switch", "ExecutePipeline"})
WITHOUT_POLICY: Final = CONTAINERS | {
    "Wait",
    "Fail",
    "SetVariable",
    "AppendVariable",
    "Filter",
    "WebHook",
    "Validation",
}


async def execute(
    services: Services,
    name: str,
    parameters: Mapping[str, Any],
    invocation: Invocation,
    *,
    path: tuple[str, ...] = (),
    strict: bool = False,
    run_id: str | None = None,
) -> PipelineRun:
    """Run one pipeline to its end and return its record.

    Raises FactoryError or ParameterError before anything runs; a failed run is a record, not an exception.
    """
    pipeline = services.factory.pipeline(name)
    values = bind(parameters, pipeline.parameters, owner=f"pipeline {pipeline.name!r}", strict=strict)
    execution = Execution(services, pipeline, values, invocation, path, run_id or str(uuid.uuid4()))
    slot = _slot(services, pipeline)
    if slot is None:
        return await execution.run()
    if services.queued.get(pipeline.name, 0) >= QUEUE_LIMIT:
        raise FactoryError(f"pipeline {pipeline.name!r} has {QUEUE_LIMIT} queued runs, the service's limit")
    services.queued[pipeline.name] = services.queued.get(pipeline.name, 0) + 1
    try:
        await slot.acquire()
    finally:
        services.queued[pipeline.name] -= 1
    try:
        return await execution.run()
    finally:
        slot.release()


def _slot(services: Services, pipeline: Pipeline) -> asyncio.Semaphore | None:
    if pipeline.concurrency is None:
        return None
    return services.slots.setdefault(pipeline.name, asyncio.Semaphore(pipeline.concurrency))


class Execution:
    """One pipeline run while it lasts."""

    def __init__(
        self,
        services: Services,
        pipeline: Pipeline,
        values: dict[str, Any],
        invocation: Invocation,
        path: tuple[str, ...],
        run_id: str,
    ) -> None:
        self.services = services
        self.pipeline = pipeline
        self.invocation = invocation
        now = services.clock.now()
        shown = masked(values, pipeline.parameters)
        self.record = PipelineRun(
            run_id=run_id,
            pipeline=pipeline.name,
            group_id=invocation.group_id or run_id,
            parameters=shown,
            invoked_by={
                "id": invocation.id or run_id,
                "name": invocation.name,
                "invokedByType": invocation.type,
                "pipelineName": invocation.pipeline,
                "pipelineRunId": invocation.run_id,
            },
            start=now,
        )
        self.scope = Scope(
            pipeline=self._system_variables(values, now),
            variables=bind({}, _optional(pipeline.variables), owner=f"pipeline {pipeline.name!r}", strict=False),
            path=path,
        )

    async def run(self) -> PipelineRun:
        """Run all activities, judge them, write the record."""
        record = self.record
        record.start = self.services.clock.now()
        self._tell("pipeline_started", record.status)
        self.services.store.save(record, now=True)
        try:
            outcome = await self.run_scope(self.pipeline.activities, self.scope)
            record.status = "Succeeded" if outcome.succeeded else "Failed"
            record.message = "\n".join(self._failure_line(name, self.scope) for name in outcome.failed)
        except asyncio.CancelledError:
            record.status, record.message = "Cancelled", "The pipeline run was cancelled"
            raise
        except AdfError as error:
            record.status, record.message = "Failed", str(error)
        finally:
            record.end = self.services.clock.now()
            self.services.store.save(record, now=True)
            self._tell("pipeline_ended", record.status)
        return record

    async def run_scope(self, activities: tuple[Activity, ...], scope: Scope) -> LevelOutcome:
        """Run one level of activities in a scope."""
        before = ancestors(activities)

        async def run(activity: Activity) -> str:
            return await self._run_activity(activity, scope, scope.seen_by(before[activity.name]))

        async def skip(activity: Activity) -> str:
            self._note(activity, scope, "Skipped")
            return "Skipped"

        return await run_level(activities, run, skip)

    def _failure_line(self, name: str, scope: Scope) -> str:
        error = scope.results().get(name, {}).get("error") or {}
        return f"Operation on target {name} failed: {error.get('message', 'no message')}"

    async def _run_activity(self, activity: Activity, scope: Scope, seen: Mapping[str, Result]) -> str:
        inactive = activity.inactive_as
        if inactive is not None:
            self._note(activity, scope, "Inactive")
            if inactive != "Skipped":
                scope.record(activity.name, {"status": inactive})
            return inactive
        try:
            retries, gap = self._retries(activity, scope, seen)
        except ActivityFailure as refused:
            return self._ended(Call(activity, self, scope, seen), self._started(activity, scope, None), {}, refused)
        attempt = 0
        while True:
            status, again = await self._try(activity, scope, seen, attempt if retries else None)
            if not again or attempt >= retries:
                return status
            attempt += 1
            await self.services.clock.wait(gap)

    async def _try(
        self, activity: Activity, scope: Scope, seen: Mapping[str, Result], attempt: int | None
    ) -> tuple[str, bool]:
        """One attempt: its status, and whether another one may help."""
        call = Call(activity, self, scope, seen)
        run = self._started(activity, scope, attempt)
        try:
            return self._ended(call, run, await self._attempt(call), None), False
        except ActivityFailure as failure:
            return self._ended(call, run, failure.output, failure), failure.retryable
        except (ExpressionError, FactoryError, NotModelled, ParameterError) as refused:
            wrong = ActivityFailure(str(refused), code="BadRequest", retryable=False)
            return self._ended(call, run, {}, wrong), False
        except asyncio.CancelledError:
            self._close(call, run, "Cancelled", {}, None)
            raise
        except Exception as error:  # odd JSON or a store's error: the activity fails, the run and its record go on
            odd = ActivityFailure(f"{type(error).__name__}: {error}", code="InternalError", failure_type="SystemError")
            return self._ended(call, run, {}, odd), True

    def _retries(self, activity: Activity, scope: Scope, seen: Mapping[str, Result]) -> tuple[int, float]:
        if activity.type in WITHOUT_POLICY:
            return 0, 0.0
        policy = Call(activity, self, scope, seen).resolve(
            {key: activity.policy.get(key) for key in ("retry", "retryIntervalInSeconds")}
        )
        gap = policy["retryIntervalInSeconds"]
        return int(policy["retry"] or 0), DEFAULT_RETRY_SECONDS if gap is None else float(gap)

    async def _attempt(self, call: Call) -> dict[str, Any]:
        activity = call.activity
        answers = self.services.answers
        for name in (f"{self.pipeline.name}/{activity.name}", activity.name):
            if name in answers:
                call.input = call.resolve(activity.own_properties())
                return dict(answers[name])
        handler = self.services.handlers.get(activity.type)
        if handler is None:
            raise NotModelled([f"{self.pipeline.name}/{activity.name}: activity type {activity.type}"])
        if activity.type in WITHOUT_POLICY:
            return await handler(call)
        given = call.resolve(activity.policy.get("timeout"))
        seconds = DEFAULT_TIMEOUT_SECONDS if given is None else span_seconds(given)
        try:
            async with asyncio.timeout(self.services.clock.limit(seconds)):
                return await handler(call)
        except TimeoutError:
            raise ActivityFailure(
                f"The activity did not end within its timeout of {given or '0.12:00:00'}",
                code="Timeout",
                status="TimedOut",
            ) from None

    def _started(self, activity: Activity, scope: Scope, attempt: int | None) -> ActivityRun:
        service = activity.linked_service or {}
        run = ActivityRun(
            activity_run_id=str(uuid.uuid4()),
            activity_name=activity.name,
            activity_type=activity.type,
            status="InProgress",
            start=self.services.clock.now(),
            path=(*scope.path, activity.name),
            retry_attempt=attempt,
            iteration=scope.iteration,
            linked_service=str(service.get("referenceName", "")) or None,
            user_properties=tuple(
                {"name": str(p.get("name")), "value": p.get("value")} for p in activity.user_properties
            ),
        )
        self.record.activities.append(run)
        self._tell_activity("activity_started", run)
        self.services.store.save(self.record)
        return run

    def _ended(self, call: Call, run: ActivityRun, output: dict[str, Any], failure: ActivityFailure | None) -> str:
        error = None
        if failure is not None:
            error = {
                "errorCode": failure.code,
                "message": failure.message,
                "failureType": failure.failure_type,
                "target": call.activity.name,
                "details": [],
            }
        status = "Succeeded" if failure is None else "Failed"
        self._close(call, run, status if failure is None else failure.status, output, error)
        result: Result = {
            "output": output,
            "status": status,
            "ActivityName": run.activity_name,
            "ActivityType": run.activity_type,
            "ActivityRunId": run.activity_run_id,
            "PipelineRunId": self.record.run_id,
            "PipelineName": self.pipeline.name,
            "ExecutionStartTime": stamp(run.start),
            "ExecutionEndTime": stamp(run.end or run.start),
            "DurationInMs": round(((run.end or run.start) - run.start).total_seconds() * 1000),
        }
        if error is not None:
            result["error"] = error
        call.scope.record(call.activity.name, result, call.inner)
        return status

    def _close(
        self, call: Call, run: ActivityRun, status: str, output: dict[str, Any], error: dict[str, Any] | None
    ) -> None:
        run.status = status
        run.end = self.services.clock.now()
        run.input = MASKED if call.secure("secureInput") and call.input is not None else call.input
        run.output = MASKED if call.secure("secureOutput") and output else output
        run.error = error
        self._tell_activity("activity_ended", run)
        self.services.store.save(self.record)

    def _note(self, activity: Activity, scope: Scope, status: str) -> None:
        """A line for an activity that does not run."""
        run = self._started(activity, scope, None)
        run.status, run.end = status, run.start
        self._tell_activity("activity_ended", run)

    def _tell_activity(self, kind: str, run: ActivityRun) -> None:
        self.services.watcher(
            Event(
                kind=kind,
                run_id=self.record.run_id,
                pipeline=self.pipeline.name,
                path=run.path,
                name=run.activity_name,
                type=run.activity_type,
                status=run.status,
                at=run.end or run.start,
                attempt=run.retry_attempt or 0,
                duration_seconds=None if run.end is None else (run.end - run.start).total_seconds(),
                output=run.output,
                error=run.error,
            )
        )

    def _tell(self, kind: str, status: str) -> None:
        record = self.record
        ended = kind == "pipeline_ended"
        self.services.watcher(
            Event(
                kind=kind,
                run_id=record.run_id,
                pipeline=record.pipeline,
                path=self.scope.path,
                name=record.pipeline,
                type="Pipeline",
                status=status,
                at=record.end or record.start,
                duration_seconds=(record.end - record.start).total_seconds() if ended and record.end else None,
                output=record.return_value if ended else None,
                error={"message": record.message} if record.message else None,
            )
        )

    def _system_variables(self, values: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        by = self.invocation
        return {
            "DataFactory": self.services.factory.name,
            "Pipeline": self.pipeline.name,
            "RunId": self.record.run_id,
            "GroupId": self.record.group_id,
            "TriggerType": by.type,
            "TriggerId": by.id or self.record.run_id,
            "TriggerName": by.name,
            "TriggerTime": stamp(by.time or now),
            "TriggeredByPipelineName": by.pipeline,
            "TriggeredByPipelineRunId": by.run_id,
            "TriggerEvent": dict(by.event) if by.event is not None else None,
            "parameters": dict(values),
            "globalParameters": self.services.factory.global_parameters,
        }


def _optional(declared: Mapping[str, ParameterSpec]) -> dict[str, ParameterSpec]:
    """Variables need no default: an array starts empty, text as empty text, a Boolean as false."""
    start: dict[str, Any] = {"array": [], "string": "", "boolean": False, "bool": False}
    return {
        name: replace(spec, required=False, default=start.get(spec.type) if spec.default is None else spec.default)
        for name, spec in declared.items()
    }
