"""Why and what to train: one recorded decision per segment (R57)."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import Any

from domain import lake_paths
from domain.errors import BadRequest
from domain.ports import ModelVersion
from domain.runs import ISOLATED_KINDS
from domain.sales_weeks import SalesWeek
from domain.training_decision import Champion, decide_training
from orchestrators.costing import estimate_run
from orchestrators.drifting import drifted_models
from orchestrators.ledger import RunLedger
from orchestrators.registry_names import production_of, segment_of
from orchestrators.services import RunServices


def decide_run(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Decide for every segment that has something to forecast, note the decisions, return counts."""
    ledger = RunLedger(services.lake)
    run = ledger.run(request["run_id"])
    container, folder = lake_paths.parse_datastore_uri(run["folder"])
    curated, _ = services.lake.read_json(container, folder + "manifest.json")
    wanted = wanted_keys(services, curated, run["request"]["segments"])
    production = {segment_of(version.name): version for version in production_of(services.registry.models())}
    asked = run["request"]["reason"] or "forced" if run["forced_by"] else ""
    if run["kind"] in ISOLATED_KINDS:
        # The model in production may know weeks that this run must not know, or come from other code.
        production, asked = {}, asked or f"a {run['kind']} run trains its own models"
    drifted = drifted_models(ledger, run, production)
    decisions = [
        decide_training(
            key, _champion(production.get(key)),
            data_version=run["as_of_version"], code_version=run["code_version"],
            scored_on=SalesWeek.parse(run["sales_week"]).monday,
            stale_after_days=services.scenario.stale_after_days, asked=asked, drift=drifted.get(key),
        )
        for key in wanted
    ]
    noted = ledger.note_once(run["run_id"], "decisions", [decision.to_dict() for decision in decisions])
    counts = Counter(decision["action"] for decision in noted)
    return {
        "counts": {"train": counts["train"], "keep": counts["keep"]},
        "message": _summary(noted),
        "facts": {"estimate": estimate_run(services, run, noted)},
    }


def wanted_keys(services: RunServices, curated: dict[str, Any], asked: list[str]) -> list[str]:
    """Return the segments and baselines that a run covers: those with active pairs, or the ones asked for.

    Raises BadRequest for an asked segment that the scenario does not have.
    """
    known = {segment.key for segment in services.scenario.segments()}
    unknown = sorted(set(asked) - known)
    if unknown:
        raise BadRequest(f"unknown segments {', '.join(unknown[:5])}", field="segments", value=unknown[0])
    covered = [segment for segment in services.scenario.segments() if segment.key in curated["segments"]]
    if asked:
        covered = [segment for segment in covered if segment.key in asked]
    baselines = {segment.baseline for segment in covered}
    return sorted({segment.key for segment in covered} | {baseline.key for baseline in baselines})


def _champion(version: ModelVersion | None) -> Champion | None:
    if version is None or "trained_on" not in version.tags:
        return None  # registered by somebody else: nothing is known of its data
    return Champion(
        version=version.version, data_version=version.tags.get("data_version", ""),
        code_version=version.tags.get("code_version", ""),
        trained_on=date.fromisoformat(version.tags["trained_on"]),
    )


def _summary(decisions: list[dict[str, Any]]) -> str:
    reasons = Counter(reason.split(":")[0] for d in decisions if d["action"] == "train" for reason in d["reasons"])
    return ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common()) or "nothing to train"
