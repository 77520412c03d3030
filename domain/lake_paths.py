"""Every path in the lake is built and parsed here. A zone is a container."""

from __future__ import annotations

import re
from dataclasses import dataclass

from domain.errors import BadRequest
from domain.sales_weeks import SalesWeek

LANDING = "landing"
CONDITIONED = "conditioned"
QUARANTINE = "quarantine"
CURATED = "curated"
MODELS = "models"
STAGING = "staging"
PUBLISHED = "published"
RUNS = "runs"
AUDIT = "audit"
PIPELINE_RUNS = "adf"  # folder in `runs`: records of Data Factory's own runs
ROLLOUTS = "rollouts"  # folder in `runs`: rollouts of deployments
CONTAINERS = (LANDING, CONDITIONED, QUARANTINE, CURATED, MODELS, STAGING, PUBLISHED, RUNS, AUDIT)

_SEGMENT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._ @()+=-]{0,199}$")
_DATASTORE = re.compile(r"^azureml://datastores/([a-z0-9-]+)/paths/(.+?)/?$")


@dataclass(frozen=True)
class LandingFile:
    """A raw file in the landing zone: `{source}/{sales_week}/{name}`."""

    source: str
    sales_week: SalesWeek
    name: str

    @classmethod
    def parse(cls, path: str) -> LandingFile:
        """Read a path inside the landing container; raise BadRequest naming what is wrong."""
        parts = path.removeprefix(f"{LANDING}/").split("/")
        if len(parts) != 3 or not all(_SEGMENT.match(part) for part in parts):
            raise BadRequest(
                f"{path!r} is not a landing path; drop files at landing/SOURCE/YYYY-Www/FILE",
                field="blob_path", value=path, remedy="use landing/SOURCE/YYYY-Www/FILE",
            )
        return cls(parts[0], SalesWeek.parse(parts[1]), parts[2])

    @property
    def path(self) -> str:
        """Path inside the landing container."""
        return f"{self.source}/{self.sales_week}/{self.name}"


def week_folder(source: str, week: SalesWeek) -> str:
    """Prefix of one source's week, in landing, conditioned and quarantine alike."""
    return f"{source}/{week}/"


def conditioned_data(source: str, week: SalesWeek, data_version: str) -> str:
    """Standard CSV of one data version."""
    return f"{source}/{week}/{data_version}.csv"


def conditioned_manifest(source: str, week: SalesWeek, data_version: str) -> str:
    """Outcome document of one data version."""
    return f"{source}/{week}/{data_version}.manifest.json"


def conditioned_current(source: str, week: SalesWeek) -> str:
    """Pointer to the data version that readers take."""
    return f"{source}/{week}/current.json"


def quarantined(source: str, week: SalesWeek, data_version: str) -> str:
    """Rejected rows of one data version."""
    return f"{source}/{week}/{data_version}.csv"


def raw_row_index(folder: str) -> str:
    """Index of the raw rows behind a curated folder: beside it, because jobs are given the folder."""
    return folder.rstrip("/") + ".raw_rows.csv"


def curated_folder(week: SalesWeek, as_of_version: str) -> str:
    """Folder of plain CSVs that the jobs of week `week` read (prefix, with the final slash)."""
    return f"{week}/{as_of_version}/"


def model_folder(job_name: str) -> str:
    """Folder that a training job writes its models to (prefix, with the final slash)."""
    return f"{job_name}/"


def deployment_folder(deployment: str) -> str:
    """Folder of a deployment's models, features and sample (prefix, with the final slash)."""
    return f"deployments/{deployment}/"


def deployment_document(deployment: str) -> str:
    """What is in a deployment's folder, written when the folder is whole."""
    return f"deployments/{deployment}.json"


def rollout_document(rollout_id: str) -> str:
    """Ledger document of a rollout: plan, stages, outcome."""
    return f"{ROLLOUTS}/{rollout_id}.json"


def staging_folder(week: SalesWeek, run_id: str) -> str:
    """Folder of a run's forecasts before they are published (prefix, with the final slash)."""
    return f"{week}/{run_id}/"


def published_folder(week: SalesWeek, publish_version: str) -> str:
    """Immutable folder of one published version of a week (prefix, with the final slash)."""
    return f"{week}/{publish_version}/"


def published_current(week: SalesWeek) -> str:
    """Pointer to the published version that readers take."""
    return f"{week}/current.json"


def run_document(run_id: str) -> str:
    """Ledger document of a run: status, steps, pins, verdicts."""
    return f"{run_id}/run.json"


def run_jobs(run_id: str, phase: str) -> str:
    """Ledger of the jobs of one phase of a run: intents and their states."""
    return f"{run_id}/jobs-{phase}.json"


RUN_SLOTS = "slots.json"  # what each phase of each active run has in flight


def run_completeness(run_id: str) -> str:
    """Completeness ledger of a run."""
    return f"{run_id}/completeness.json"


def datastore_uri(container: str, prefix: str) -> str:
    """Return the Azure ML datastore URI of a folder in the lake (a datastore per container, R44)."""
    return f"azureml://datastores/{container}/paths/{prefix.rstrip('/')}/"


def parse_datastore_uri(uri: str) -> tuple[str, str]:
    """Return (container, prefix with final slash) of a datastore URI; raise BadRequest for anything else."""
    match = _DATASTORE.match(uri)
    if not match:
        raise BadRequest(f"{uri!r} is not azureml://datastores/NAME/paths/PREFIX", field="uri", value=uri)
    return match[1], match[2] + "/"
