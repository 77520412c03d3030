"""Settings of the Function app, read once from the environment. No I/O here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from domain.errors import BadSetting

_CHOICES = {
    "ml_platform": ("local", "azureml"),
    "telemetry_backend": ("opencensus", "log", "none"),
    "http_auth": ("keys", "entra"),
    "train_effort": ("quick", "standard"),
}


@dataclass(frozen=True)
class Settings:
    """Every key that the app reads, with its meaning; local.settings.sample.json holds the local values."""

    lake: str  # LAKE: connection string (Azurite), or LAKE__blobServiceUri with managed identity
    scenario_file: str  # SCENARIO_FILE: the business scenario, relative to the app folder
    ml_platform: str  # ML_PLATFORM: local | azureml
    data_dir: str  # DATA_DIR: local platform's jobs, registry and results; unused by azureml + Azure SQL
    results_url: str  # RESULTS_URL: SQLAlchemy URL; empty = SQLite in DATA_DIR
    telemetry_backend: str  # TELEMETRY_BACKEND: opencensus | log | none
    applicationinsights_connection_string: str  # APPLICATIONINSIGHTS_CONNECTION_STRING: empty = local log
    applicationinsights_authentication_string: str  # same name; Authorization=AAD;ClientId=... for Entra
    applicationinsights_resource_id: str  # APPLICATIONINSIGHTS_RESOURCE_ID: for links to a run's trace; empty = none
    data_factory_resource_id: str  # DATA_FACTORY_RESOURCE_ID: for links to a pipeline run; empty = none
    http_auth: str  # HTTP_AUTH: keys (function keys) | entra (App Service signs callers in; nowhere else)
    code_version: str  # CODE_VERSION: commit of the deployed code; goes into every identity
    train_effort: str  # TRAIN_EFFORT: quick | standard
    max_jobs_in_flight: int  # MAX_JOBS_IN_FLIGHT: jobs that a run keeps submitted at once
    poll_first_seconds: float  # POLL_FIRST_SECONDS: first gap between two looks at the jobs
    poll_longest_seconds: float  # POLL_LONGEST_SECONDS: longest gap
    train_deadline_minutes: float  # TRAIN_DEADLINE_MINUTES: a training job that takes longer is cancelled and failed
    score_deadline_minutes: float  # SCORE_DEADLINE_MINUTES: the same for scoring jobs
    max_failed_share: float  # MAX_FAILED_SHARE: a run with more failed training jobs than this share fails
    node_price_per_hour: float  # NODE_PRICE_PER_HOUR: price of one compute node, in the currency of the budget
    run_budget: float  # RUN_BUDGET: a run whose estimate is above it is refused; 0 = no limit
    aml_subscription_id: str  # AML_SUBSCRIPTION_ID
    aml_resource_group: str  # AML_RESOURCE_GROUP
    aml_workspace: str  # AML_WORKSPACE
    aml_compute: str  # AML_COMPUTE: name of the compute cluster
    online_endpoint: str  # ONLINE_ENDPOINT: whose deployments are rolled out; a router's URL, with azureml a name
    batch_endpoint: str  # BATCH_ENDPOINT: name of the batch endpoint whose default deployment is switched

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read all settings; raise one BadSetting that lists everything missing or unusable."""
        faults: list[str] = []
        lake = env.get("LAKE") or env.get("LAKE__blobServiceUri") or ""
        if not lake:
            faults.append("LAKE (a storage connection string) or LAKE__blobServiceUri (an account URL) is missing")
        values: dict[str, str | int | float] = {"lake": lake}
        for field in fields(cls):
            if field.name == "lake":
                continue
            key = field.name.upper()
            raw = env.get(key, _DEFAULTS.get(key, ""))
            if field.type in ("int", "float"):
                try:
                    number = int(raw) if field.type == "int" else float(raw)
                    if number < 0:
                        raise ValueError(raw)
                    values[field.name] = number
                except ValueError:
                    faults.append(f"{key}={raw!r} is not a number >= 0")
            else:
                values[field.name] = raw
        faults += [
            f"{name.upper()}={values[name]!r} is not one of {', '.join(known)}"
            for name, known in _CHOICES.items() if values[name] not in known
        ]
        if values["ml_platform"] == "azureml":
            needed = ("aml_subscription_id", "aml_resource_group", "aml_workspace", "aml_compute")
            faults += [f"{name.upper()} is missing (azureml needs it)" for name in needed if not values[name]]
        if faults:
            raise BadSetting(
                "settings are not usable: " + "; ".join(faults) + ". Set them as app settings or in local.settings.json"
            )
        return cls(**values)  # type: ignore[arg-type]


_DEFAULTS = {
    "SCENARIO_FILE": "config/scenario.json",
    "ML_PLATFORM": "local",
    "DATA_DIR": ".data/local",
    "TELEMETRY_BACKEND": "opencensus",
    "HTTP_AUTH": "keys",
    "CODE_VERSION": "unversioned",
    "TRAIN_EFFORT": "standard",
    "MAX_JOBS_IN_FLIGHT": "20",
    "POLL_FIRST_SECONDS": "15",
    "POLL_LONGEST_SECONDS": "300",
    "TRAIN_DEADLINE_MINUTES": "120",
    "SCORE_DEADLINE_MINUTES": "60",
    "MAX_FAILED_SHARE": "0.1",
    "NODE_PRICE_PER_HOUR": "0.3",
    "RUN_BUDGET": "0",
    "BATCH_ENDPOINT": "shelfcast-batch",
}
