"""What makes two submissions the same job: one hash for every machine-learning platform."""

from __future__ import annotations

import hashlib
import json
import re

from domain.errors import JobRejected
from domain.job_states import JobSpec

PAYLOAD_HASH = "payload_hash"  # name of the tag (Azure ML) or field (local) that holds the hash
JOB_NAME = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9\-_]{0,254}$")  # the pattern of the service; its SDK does not check it


def payload_hash(spec: JobSpec, component: str) -> str:
    """Return the hash of what the job runs on and where its results go.

    `component` is the exact reference (`azureml:NAME:VERSION`). Tags and code version are facts about a job that may
    be edited later; they do not make it another job.
    """
    document = {
        "pipeline": spec.pipeline, "component": component, "kind": spec.kind, "segment": spec.segment,
        "inputs": spec.inputs, "outputs": spec.outputs,
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:24]


def check_name(spec: JobSpec) -> None:
    """Raise JobRejected for a name that Azure ML would refuse."""
    if not JOB_NAME.match(spec.name):
        raise JobRejected(
            f"{spec.name!r} cannot be a job name: letters, digits, - and _ only, at most 255",
            job=spec.name, field="name", value=spec.name, remedy="use letters, digits, - and _",
        )


def other_payload(spec: JobSpec, found: str, wanted: str) -> JobRejected:
    """Return the error for a name that is taken by another job."""
    return JobRejected(
        f"job {spec.name} exists with another payload ({found or 'none recorded'}, wanted {wanted}); "
        "submit the changed job under a new attempt",
        job=spec.name, found=found, wanted=wanted, remedy="use a new attempt",
    )
