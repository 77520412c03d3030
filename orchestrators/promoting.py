"""Promotion and rollback of one model by a person: explicit, audited, reversible in one call (R85)."""

from __future__ import annotations

from typing import Any

from domain.errors import BadRequest, Conflict, NotFound
from domain.segments import Segment
from orchestrators import registry_names
from orchestrators.audit import audit_operator
from orchestrators.reading import model_versions
from orchestrators.services import RunServices


def promote_model(services: RunServices, segment: str, version: str, actor: str, reason: str) -> dict[str, Any]:
    """Make a version the production model of its segment; the old one retires last. Raises NotFound, BadRequest."""
    name = registry_names.model_name(Segment.parse(segment).key)
    if not reason:
        raise BadRequest("a promotion needs a reason; it goes into the audit trail", field="reason", remedy="say why")
    versions = services.registry.versions(name)
    if not any(known.version == version for known in versions):
        known = ", ".join(v.version for v in versions) or "none"
        raise NotFound(f"{name} has no version {version!r}; it has {known}", segment=segment, value=version)
    services.registry.set_stage(name, version, registry_names.PRODUCTION)
    for other in versions:
        if other.version != version and other.stage == registry_names.PRODUCTION:
            services.registry.set_stage(name, other.version, registry_names.RETIRED)
    audit_operator(services, actor, "model_promoted", f"{name}:{version}", {"reason": reason})
    return model_versions(services, segment)


def roll_back_model(services: RunServices, segment: str, actor: str, reason: str) -> dict[str, Any]:
    """Make the newest retired version production again; raise Conflict if there is none."""
    name = registry_names.model_name(Segment.parse(segment).key)
    retired = [v for v in services.registry.versions(name) if v.stage == registry_names.RETIRED]
    if not retired:
        raise Conflict(f"{name} has no retired version to go back to", segment=segment, remedy="promote one by version")
    return promote_model(services, segment, retired[0].version, actor, reason)
