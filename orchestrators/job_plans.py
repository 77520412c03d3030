"""Which jobs a phase of a run needs, under which names, with which inputs: pure, from the run's document.

A job's identity is the hash of everything that shapes its result. A later attempt adopts a job of an earlier one
exactly when the identities agree, so a replay never repeats what is done and never reuses what has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from domain import lake_paths
from domain.job_states import JobSpec
from domain.runs import Step
from domain.sales_weeks import SalesWeek
from domain.segments import Segment

PRETRAIN = "pretrain"
TRAIN = "train"
SCORE = "score"
STEP_OF_PHASE = {PRETRAIN: Step.PRETRAIN, TRAIN: Step.TRAIN, SCORE: Step.SCORE}
POOLED = "pooled"
SEED = 7


@dataclass(frozen=True)
class JobPlan:
    """One job of a phase. `unit` is a segment, a region or `pooled`; `segments` is what the job covers."""

    unit: str
    identity: str
    spec: JobSpec
    output: str

    def to_item(self) -> dict[str, Any]:
        """Return the ledger entry of a job that was not submitted yet."""
        return {
            "unit": self.unit, "identity": self.identity, "spec": self.spec.to_dict(), "name": self.spec.name,
            "output": self.output, "phase": "planned", "status": "", "submitted_at": "", "started_at": "",
            "ended_at": "", "error": "", "adopted_from": "", "preempted": 0, "lost": 0, "running_since": "",
            "queued_since": "", "blocked_since": "", "cancel_requested_at": "", "cancel_sent_at": "",
            "instead_of": None,
        }


def plan_pretrain(run: Mapping[str, Any], effort: str) -> list[JobPlan]:
    """Return the one job that trains the net over all segments."""
    facts = {"pipeline": PRETRAIN, "data": run["folder"], "cutoff": run["cutoff"], "effort": effort}
    name = f"{run['run_id']}-{POOLED}"
    output = lake_paths.datastore_uri(lake_paths.MODELS, lake_paths.model_folder(name))
    inputs: dict[str, str | int | float] = {
        "data": run["folder"], "cutoff": run["cutoff"], "seed": SEED, "effort": effort,
    }
    return [_plan(run, PRETRAIN, TRAIN, POOLED, name, inputs, {"models": output}, facts)]


def plan_training(
    run: Mapping[str, Any], segments: Iterable[str], pooled: Mapping[str, Any], effort: str
) -> list[JobPlan]:
    """Return a job per segment or baseline; `pooled` is the ledger entry of the pretraining job."""
    plans = []
    for key in segments:
        name = f"{run['run_id']}-{key}"
        inputs: dict[str, str | int | float] = {
            "data": run["folder"], "cutoff": run["cutoff"], "segments": key, "seed": SEED, "effort": effort,
        }
        facts: dict[str, Any] = {"pipeline": TRAIN, **inputs}
        if not Segment.parse(key).is_baseline:
            inputs["pooled"] = pooled["output"]
            facts["pooled"] = pooled["identity"]
        output = lake_paths.datastore_uri(lake_paths.MODELS, lake_paths.model_folder(name))
        plans.append(_plan(run, TRAIN, TRAIN, key, name, inputs, {"models": output}, facts))
    return plans


def plan_scoring(
    run: Mapping[str, Any], lineup: Mapping[str, Mapping[str, Any]], definition: str
) -> list[JobPlan]:
    """Return a job per region; `lineup` names the model that scores each segment."""
    by_region: dict[str, dict[str, str]] = {}
    for entry in lineup.values():
        if entry["model"]:
            models = by_region.setdefault(Segment.parse(entry["model"]).region, {})
            models[entry["model"]] = entry["version"]
    plans = []
    for region, models in sorted(by_region.items()):
        name = f"{run['run_id']}-score-{region}"
        inputs: dict[str, str | int | float] = {
            "data": run["folder"], "models": definition, "week": run["sales_week"],
            "segments": ",".join(sorted(models)),
        }
        facts = {"pipeline": SCORE, "data": run["folder"], "week": run["sales_week"], "models": models}
        week = SalesWeek.parse(run["sales_week"])
        output = lake_paths.datastore_uri(
            lake_paths.STAGING, f"{lake_paths.staging_folder(week, run['run_id'])}parts/{region}"
        )
        plans.append(_plan(run, SCORE, SCORE, region, name, inputs, {"forecasts": output}, facts))
    return plans


def _plan(
    run: Mapping[str, Any], pipeline: str, kind: str, unit: str, name: str,
    inputs: dict[str, str | int | float], outputs: dict[str, str], facts: dict[str, Any],
) -> JobPlan:
    facts = facts | {"code": run["code_version"]}
    identity = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    tags = {
        "run_id": run["run_id"], "segment": unit, "sales_week": run["sales_week"], "identity": identity,
        "correlation_id": run["correlation_id"], "traceparent": run.get("traceparent", ""),
        "as_of_version": run["as_of_version"],
    }
    spec = JobSpec(name, pipeline, run["run_id"], kind, unit, inputs, outputs, tags, run["code_version"])
    (output,) = outputs.values()
    return JobPlan(unit, identity, spec, output)
