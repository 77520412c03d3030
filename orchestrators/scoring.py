"""Which model scores each segment, and the immutable scoring definition that the jobs read (R82, R117).

A segment whose own new model is missing or refused falls back: to the previous production model, else to the
baseline of its region and format. That is the failover state; it is named, counted and shown.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from domain import lake_paths
from domain.ports import Lake, ModelVersion
from domain.segments import Segment
from orchestrators.deciding import wanted_keys
from orchestrators.ledger import Document, RunLedger
from orchestrators.registry_names import model_name, model_version, production_of
from orchestrators.services import RunServices

COPIERS = 8
Lineup = dict[str, dict[str, Any]]


def build_lineup(services: RunServices, ledger: RunLedger, run: Document) -> tuple[Lineup, str]:
    """Return the lineup and the URI of its scoring definition; both are noted in the ledger once."""
    run_id = run["run_id"]
    noted = ledger.noted(run_id, "lineup")
    if noted is not None:
        return noted["lineup"], noted["definition"]
    container, folder = lake_paths.parse_datastore_uri(run["folder"])
    curated, _ = services.lake.read_json(container, folder + "manifest.json")
    keys = wanted_keys(services, curated, run["request"]["segments"])
    production = {version.name: version for version in production_of(services.registry.models())}
    trained = _trained_here(ledger, run_id)
    lineup = {
        key: _choose(key, production, trained, ledger.noted(run_id, "verdicts", []))
        for key in keys if not Segment.parse(key).is_baseline
    }
    versions = {entry["model"]: production[model_name(entry["model"])] for entry in lineup.values() if entry["model"]}
    definition = publish_definition(services.lake, versions)
    ledger.note(run_id, "lineup", {"lineup": lineup, "definition": definition})
    return lineup, definition


def _trained_here(ledger: RunLedger, run_id: str) -> dict[str, str]:
    """Return the model version that each training job of the run makes."""
    items = (ledger.jobs(run_id, "train") or {"items": {}})["items"]
    return {unit: model_version(item["identity"]) for unit, item in items.items()}


def _choose(
    key: str, production: Mapping[str, ModelVersion], trained: Mapping[str, str], verdicts: list[dict[str, Any]]
) -> dict[str, Any]:
    own = production.get(model_name(key))
    if own is not None and trained.get(key, own.version) == own.version:
        return _entry(key, own, "own", "")
    why = next((", ".join(v["reasons"]) for v in verdicts if v["segment"] == key), "no model was trained")
    if own is not None:
        return _entry(key, own, "previous", why)
    baseline = Segment.parse(key).baseline.key
    fallback = production.get(model_name(baseline))
    if fallback is not None:
        return _entry(baseline, fallback, "baseline", why)
    return {"model": "", "version": "", "source": "none", "reason": f"{why}; no baseline either", "failover": True,
            "trained_on": ""}


def _entry(model: str, version: ModelVersion, source: str, reason: str) -> dict[str, Any]:
    return {
        "model": model, "version": version.version, "source": source, "reason": reason,
        "failover": source != "own", "trained_on": version.tags.get("trained_on", ""),
    }


def publish_definition(lake: Lake, versions: Mapping[str, ModelVersion]) -> str:
    """Copy the models of a lineup into one immutable folder and return its URI; an existing one is kept.

    Layout: `models/scoring/{definition_version}/{model}/...` and `definition.json`, written last.
    """
    content = {model: version.version for model, version in sorted(versions.items())}
    version = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    folder = f"scoring/{version}/"
    uri = lake_paths.datastore_uri(lake_paths.MODELS, folder)
    if lake.info(lake_paths.MODELS, folder + "definition.json") is not None:
        return uri
    files: list[tuple[str, str, str]] = []
    for model, registered in versions.items():
        container, prefix = lake_paths.parse_datastore_uri(registered.path)
        files += [
            (container, blob.path, f"{folder}{model}/{blob.path.removeprefix(prefix)}")
            for blob in lake.list(container, prefix)
        ]
    with ThreadPoolExecutor(COPIERS) as pool:
        list(pool.map(lambda file: _copy(lake, *file), files))
    lake.write_json(lake_paths.MODELS, folder + "definition.json", {"version": version, "models": content})
    return uri


def _copy(lake: Lake, container: str, path: str, to_path: str) -> None:
    lake.write(lake_paths.MODELS, to_path, lake.read(container, path).data)
