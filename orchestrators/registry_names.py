"""Names and stages in the model registry."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from domain.ports import ModelVersion

CANDIDATE = "candidate"
PRODUCTION = "production"
RETIRED = "retired"
REFUSED = "refused"


def model_name(segment: str) -> str:
    """Return the registered model's name of a segment or baseline."""
    return f"demand-{segment}"


def segment_of(name: str) -> str:
    """Return the segment of a registered model's name."""
    return name.removeprefix("demand-")


def model_version(job_identity: str) -> str:
    """Return a model's version: the identity of the job that made it (code, data, configuration), shortened."""
    return hashlib.sha256(job_identity.encode()).hexdigest()[:12]


def production_of(versions: Iterable[ModelVersion]) -> list[ModelVersion]:
    """Return the newest production version of each model; versions come newest first.

    Promotion tags the new version before it retires the old one, so two at once is possible and harmless.
    """
    newest: dict[str, ModelVersion] = {}
    for version in versions:
        if version.stage == PRODUCTION:
            newest.setdefault(version.name, version)
    return list(newest.values())
