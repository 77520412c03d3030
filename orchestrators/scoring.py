"""Which model scores each segment, and the immutable scoring definition that the jobs read (R82, R117).

A segment whose own new model is missing or refused falls back: to the previous production model, else to the
baseline of its region and format. That is the failover state; it is named, counted and shown. Runs that look at the
past or at a change of code (validate, backfill) score with their own models only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

from domain import lake_paths
from domain.errors import Unavailable
from domain.ports import Lake, ModelVersion
from domain.runs import ISOLATED_KINDS, Step
from domain.segments import Segment
from orchestrators.deciding import wanted_keys
from orchestrators.ledger import Document, RunLedger
from orchestrators.registry_names import PRODUCTION, RETIRED, model_name
from orchestrators.services import RunServices

COPIERS = 8
LIST_LAG = timedelta(minutes=15)  # a registry's list may show a new version, or its new stage, minutes later
MODEL_FILE = "MLmodel"  # every model folder is in MLflow format
Lineup = dict[str, dict[str, Any]]


def build_lineup(services: RunServices, ledger: RunLedger, run: Document) -> tuple[Lineup, str]:
    """Return the lineup and the URI of its scoring definition; both are noted in the ledger once."""
    run_id = run["run_id"]
    noted = ledger.noted(run_id, "lineup")
    if noted is None:
        container, folder = lake_paths.parse_datastore_uri(run["folder"])
        curated, _ = services.lake.read_json(container, folder + "manifest.json")
        keys = wanted_keys(services, curated, run["request"]["segments"])
        chooser = _Chooser(services, run["kind"] in ISOLATED_KINDS, ledger.noted(run_id, "verdicts", []))
        chooser.check_listed(_since_accepted(services, run))
        with ThreadPoolExecutor(COPIERS) as pool:
            segments = [key for key in keys if not Segment.parse(key).is_baseline]
            lineup = dict(zip(segments, pool.map(chooser.choose, segments), strict=True))
        versions = {
            entry["model"]: chooser.version(entry["model"], entry["version"])
            for entry in lineup.values() if entry["model"]
        }
        definition = publish_definition(services.lake, versions)
        noted = ledger.note_once(run_id, "lineup", {"lineup": lineup, "definition": definition})
    return noted["lineup"], noted["definition"]


def _since_accepted(services: RunServices, run: Document) -> timedelta:
    ended = next((step["ended_at"] for step in run["steps"] if step["name"] == Step.ACCEPT.value), "")
    return services.clock.now() - datetime.fromisoformat(ended) if ended else timedelta.max


class _Chooser:
    """Chooses the model of each segment: the first of its line that has files."""

    def __init__(self, services: RunServices, is_isolated: bool, verdicts: list[dict[str, Any]]) -> None:
        self._lake = services.lake
        self._is_isolated = is_isolated
        self._verdicts = {verdict["segment"]: verdict for verdict in verdicts}
        self._versions: dict[str, list[ModelVersion]] = {}
        for version in services.registry.models():  # newest first within a model
            self._versions.setdefault(version.name, []).append(version)

    def check_listed(self, since: timedelta) -> None:
        """Raise Unavailable if a model that was accepted just now is not listed as what it is: lists lag."""
        if since > LIST_LAG:
            return
        for verdict in self._verdicts.values():
            listed = {found.version: found.stage for found in self._versions.get(model_name(verdict["segment"]), [])}
            stage = listed.get(verdict["model_version"])
            if verdict["accepted"] and (stage is None or (not self._is_isolated and stage != PRODUCTION)):
                name = f"{model_name(verdict['segment'])}:{verdict['model_version']}"
                raise Unavailable(f"{name} was accepted, but the registry lists it as {stage or 'unknown'} so far")

    def version(self, key: str, version: str) -> ModelVersion:
        """Return a registered version of a segment's or baseline's model."""
        return next(known for known in self._versions[model_name(key)] if known.version == version)

    def choose(self, key: str) -> dict[str, Any]:
        """Return the lineup's entry of a segment, with the reason if it is in failover state."""
        why: list[str] = []
        for model, version, source in self._line(key, why):
            if has_files(self._lake, version):
                return {
                    "model": model, "version": version.version, "source": source,
                    "reason": "" if source == "own" else "; ".join(why), "failover": source != "own",
                    "trained_on": version.tags.get("trained_on", ""),
                }
            why.append(f"the files of {version.name}:{version.version} are gone")
        reason = "; ".join([*why, "no baseline either"])
        return {"model": "", "version": "", "source": "none", "reason": reason, "failover": True, "trained_on": ""}

    def _line(self, key: str, why: list[str]) -> Iterator[tuple[str, ModelVersion, str]]:
        """Yield (model, version, source) in the order of preference; say in `why` what stands against the first."""
        own = self._own(key, why)
        if own:
            yield key, own, "own"
        if not self._is_isolated:
            for version in self._proven(key):
                if own is None or version.version != own.version:
                    yield key, version, "previous"
        baseline = Segment.parse(key).baseline.key
        if self._is_isolated:
            if fallback := self._own(baseline, why):
                yield baseline, fallback, "baseline"
            return
        for version in self._proven(baseline):
            yield baseline, version, "baseline"

    def _own(self, key: str, why: list[str]) -> ModelVersion | None:
        """Return the model that this run trained and accepted, or, if it trained none, the one in production."""
        versions = self._versions.get(model_name(key), [])
        verdict = self._verdicts.get(key)
        if verdict is None:
            production = next((version for version in versions if version.stage == PRODUCTION), None)
            if production is None or self._is_isolated:
                why.append("no model was trained")
                return None
            return production
        if not verdict["accepted"]:
            why.append(", ".join(verdict["reasons"]))
            return None
        found = next((version for version in versions if version.version == verdict["model_version"]), None)
        if found is None or (not self._is_isolated and found.stage != PRODUCTION):
            why.append(f"version {verdict['model_version']} is not in production any more")
            return None
        return found

    def _proven(self, key: str) -> list[ModelVersion]:
        """Return the versions that are or were in production, in the order of preference."""
        versions = self._versions.get(model_name(key), [])
        return [v for v in versions if v.stage == PRODUCTION] + [v for v in versions if v.stage == RETIRED]


def has_files(lake: Lake, version: ModelVersion) -> bool:
    """Whether the folder of a registered model still holds one; it may have been deleted behind the registry's back."""
    container, prefix = lake_paths.parse_datastore_uri(version.path)
    return lake.info(container, prefix + MODEL_FILE) is not None


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
