"""After training: judge every model, register it, promote what was accepted, and note why (R84-R87, N12)."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from domain import lake_paths
from domain.acceptance import Verdict, judge
from domain.errors import NotFound, ShelfcastError, Unavailable
from domain.job_states import Phase
from domain.metrics import Tally, merge, metrics, value_added
from domain.ports import Lake, ModelVersion
from domain.runs import ISOLATED_KINDS
from domain.sales_weeks import SalesWeek
from orchestrators import job_plans, registry_names
from orchestrators.audit import AuditEntry, append_entries
from orchestrators.job_watch import disown
from orchestrators.ledger import Document, RunLedger
from orchestrators.scoring import has_files
from orchestrators.services import RunServices
from orchestrators.tracing import run_dimensions

READERS = 8
USELESS = "the job left no usable metrics"


def accept_models(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Judge, register and promote the models of a run's training jobs; safe to repeat.

    Every trained or failed segment ends in the run's `verdicts` with its reasons and numbers.
    """
    ledger = RunLedger(services.lake)
    run = ledger.run(request["run_id"])
    items = (ledger.jobs(run["run_id"], job_plans.TRAIN) or {"items": {}})["items"]
    trained = {unit: item for unit, item in items.items() if item["phase"] == Phase.SUCCEEDED.value}
    with ThreadPoolExecutor(READERS) as pool:
        documents = pool.map(lambda unit: _measured(services, unit, trained[unit]), trained)
        measured = dict(zip(trained, documents, strict=True))
    useless = {unit: found for unit, found in measured.items() if isinstance(found, str) and found.startswith(USELESS)}
    disown(ledger, run["run_id"], job_plans.TRAIN, useless, services.clock.now())
    registered = {(version.name, version.version): version for version in services.registry.models()}
    verdicts: list[dict[str, Any]] = []
    trail: list[AuditEntry] = []
    for unit in sorted(items):
        if unit not in trained or isinstance(measured[unit], str):
            why = measured.get(unit) or f"training failed: {items[unit]['error'] or items[unit]['status']}"
            verdicts.append(_untrained(unit, str(why)))
            continue
        verdict = _judge(services, unit, measured[unit])
        version = _version(services.lake, items[unit], unit, registered)
        verdicts.append(verdict.to_dict() | {"model_version": version, "job": items[unit]["name"],
                                             "weights": measured[unit].get("weights", {})})
        trail += _register(services, run, items[unit], verdict, version, registered)
    append_entries(services.lake, services.clock.now(), trail)
    ledger.note(run["run_id"], "verdicts", verdicts)
    quality = quality_summary(verdicts, measured)
    ledger.note(run["run_id"], "model_quality", quality)
    ensembles = [v for v in verdicts if v["kind"] == "ensemble"]
    accepted = sum(1 for v in ensembles if v["accepted"])
    return {
        "counts": {
            "ensembles": len(ensembles), "accepted": accepted, "refused": len(ensembles) - accepted,
            "baselines": len(verdicts) - len(ensembles),
            "meet_mission": sum(1 for v in ensembles if v["meets_mission"]),
        },
        "message": f"{accepted} of {len(ensembles)} ensembles accepted",
        "facts": {"model_quality": quality["overall"]},
    }


def _measured(services: RunServices, unit: str, item: Document) -> Any:
    """Return a job's metrics.json, or a sentence why there is none to judge."""
    container, prefix = lake_paths.parse_datastore_uri(item["output"])
    try:
        document, _ = services.lake.read_json(container, f"{prefix}{unit}/metrics.json")
    except ShelfcastError as error:
        return f"{USELESS}: {error.message}"
    if not isinstance(document, dict):
        return f"{USELESS}: they are no object"
    if document.get("status") != "trained":
        return f"not trained: {document.get('error') or document.get('status')}"
    try:
        members = {name: Tally.from_dict(sums) for name, sums in document["evaluation"]["members"].items()}
        needed = {"baseline"} if document["kind"] == "baseline" else {"baseline", "ensemble"}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return f"{USELESS}: {type(error).__name__}: {error}"
    if missing := needed - members.keys():
        return f"{USELESS}: no evaluation of {', '.join(sorted(missing))}"
    return document


def _judge(services: RunServices, unit: str, document: Document) -> Verdict:
    members = {name: Tally.from_dict(sums) for name, sums in document["evaluation"]["members"].items()}
    return judge(
        unit, document["kind"], members,
        mape_target=services.scenario.mape_target, mission_mape=services.scenario.mission_mape,
    )


def _untrained(unit: str, why: str) -> dict[str, Any]:
    kind = "baseline" if unit.endswith("-baseline") else "ensemble"
    empty = ("mape", "rmse_0", "rmse_all", "wape", "bias", "baseline_mape", "baseline_wape", "baseline_rmse_0",
             "baseline_rmse_all", "mape_reduction", "over_share", "under_share")
    return {"segment": unit, "kind": kind, "accepted": False, "reasons": [why], "meets_mission": False,
            "model_version": "", "job": "", "weights": {}, "mape_excluded": 0, "n": 0} | dict.fromkeys(empty)


def _version(
    lake: Lake, item: Document, unit: str, registered: dict[tuple[str, str], ModelVersion]
) -> str:
    """Return the version to register a job's model under: the same code, data and configuration are the same version.

    A version never gets another path, so if the files of the registered one are gone, the model that was made anew
    gets the next free suffix.
    """
    name, wanted = registry_names.model_name(unit), registry_names.model_version(item["identity"])
    path, version, number = f"{item['output']}{unit}/", wanted, 1
    while (known := registered.get((name, version))) and known.path != path and not has_files(lake, known):
        number += 1
        version = f"{wanted}r{number}"
    return version


def _register(
    services: RunServices, run: Document, item: Document, verdict: Verdict, version: str,
    registered: dict[tuple[str, str], ModelVersion],
) -> list[AuditEntry]:
    """Register as candidate, then move to production or refused; the old production version retires last.

    Every write may be repeated, and a step that died between two of them is finished by the next one. Returns what
    the audit trail should say.
    """
    name = registry_names.model_name(verdict.segment)
    known = registered.get((name, version))
    promotes = verdict.accepted and run["kind"] not in ISOLATED_KINDS
    wanted = registry_names.PRODUCTION if promotes else (
        registry_names.CANDIDATE if verdict.accepted else registry_names.REFUSED
    )
    is_movable = known is None or known.stage in (registry_names.CANDIDATE, registry_names.REFUSED, wanted)
    is_ours = known is not None and (known.tags.get("run_id") == run["run_id"] or bool(item["adopted_from"]))
    if not is_movable and (is_ours or not promotes):
        return []  # an operator has moved it since, or other runs use it; a repeated step must not undo that
    if known is None:
        path = f"{item['output']}{verdict.segment}/"
        known = services.registry.register(name, version, path, _tags(services, run, item, verdict))
    if known.stage != wanted:
        try:
            services.registry.set_stage(name, version, wanted)
        except NotFound as error:
            raise Unavailable(f"{name}:{version} is registered, but cannot be read yet: {error.message}") from error
    if promotes:
        for (other_name, other_version), other in registered.items():
            if other_name == name and other_version != version and other.stage == registry_names.PRODUCTION:
                services.registry.set_stage(name, other_version, registry_names.RETIRED)
    services.telemetry.event(
        "model_evaluated",
        run_dimensions(run) | {"segment": verdict.segment, "model_version": version, "accepted": verdict.accepted,
                               "reasons": "; ".join(verdict.reasons)},
        {key: value for key, value in verdict.to_dict().items() if isinstance(value, float)},
    )
    if wanted == registry_names.CANDIDATE:
        return []
    action = "model_promoted" if promotes else "model_refused"
    return [AuditEntry(
        f"run {run['run_id']}", action, f"{name}:{version}",
        {"reasons": list(verdict.reasons), "mape": verdict.measured.mape, "wape": verdict.measured.wape,
         "baseline_mape": verdict.baseline.mape},
        key=f"{action}/{name}/{version}/{run['run_id']}",
    )]


def _tags(services: RunServices, run: Document, item: Document, verdict: Verdict) -> dict[str, str]:
    region, store_format, velocity = verdict.segment.split("-")
    cutoff = SalesWeek.parse(run["cutoff"])
    return {
        "segment": verdict.segment, "region": region, "store_format": store_format, "velocity": velocity,
        "kind": verdict.kind, "run_id": run["run_id"], "job": item["name"], "identity": item["identity"],
        "trained_on": cutoff.sunday.isoformat(), "data_version": run["as_of_version"],
        "code_version": run["code_version"], "curated": run["folder"],
        "registered_at": services.clock.now().isoformat(timespec="seconds"),
        "verdict": json.dumps(verdict.to_dict(), sort_keys=True),
    }


def quality_summary(verdicts: list[dict[str, Any]], measured: dict[str, Any]) -> dict[str, Any]:
    """Return metrics of all ensembles together and per format x velocity, from added tallies (exact)."""
    groups: dict[tuple[str, str], list[dict[str, Tally]]] = {}
    for verdict in verdicts:
        document = measured.get(verdict["segment"])
        if verdict["kind"] != "ensemble" or not isinstance(document, dict):
            continue
        _, store_format, velocity = verdict["segment"].split("-")
        members = {name: Tally.from_dict(sums) for name, sums in document["evaluation"]["members"].items()}
        groups.setdefault((store_format, velocity), []).append(members)
    everything = [members for group in groups.values() for members in group]
    return {
        "overall": _group_quality(everything),
        "groups": [
            {"store_format": store_format, "velocity": velocity} | _group_quality(group)
            for (store_format, velocity), group in sorted(groups.items())
        ],
    }


def _group_quality(group: list[dict[str, Tally]]) -> dict[str, Any]:
    own = merge(members["ensemble"] for members in group)
    baseline = merge(members["baseline"] for members in group)
    values, reference = metrics(own), metrics(baseline)
    return {
        "models": len(group), "mape": values.mape, "mape_excluded": values.n_excluded_from_mape,
        "rmse_0": values.rmse_zero, "rmse_all": values.rmse_all, "wape": values.wape, "bias": values.bias,
        "baseline_mape": reference.mape, "baseline_rmse_0": reference.rmse_zero,
        "baseline_rmse_all": reference.rmse_all, "baseline_wape": reference.wape,
        "mape_reduction": value_added(own, baseline),
    }
