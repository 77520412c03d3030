"""Where the services that did the work show a run: Application Insights, Azure ML, Data Factory, each by its id."""

from __future__ import annotations

from urllib.parse import quote

from orchestrators.ledger import Document
from orchestrators.tracing import operation_id
from settings import Settings


def run_links(settings: Settings, run: Document) -> dict[str, str]:
    """Return the addresses that the settings allow: `trace` (what was logged) and `adf` (the pipeline run)."""
    links = {}
    if settings.applicationinsights_resource_id:
        query = f'union * | where operation_Id == "{operation_id(run)}" | order by timestamp asc'
        links["trace"] = (
            "https://portal.azure.com/#view/Microsoft_OperationsManagementSuite_Workspace/Logs.ReactView/resourceId/"
            f"{quote(settings.applicationinsights_resource_id, safe='')}/source/LogsBlade.AnalyticsShareLinkToQuery"
            f"/query/{quote(query, safe='')}"
        )
    if settings.data_factory_resource_id and run["correlation_id"]:
        factory = quote(settings.data_factory_resource_id, safe="")
        links["adf"] = f"https://adf.azure.com/monitoring/pipelineruns/{quote(run['correlation_id'])}?factory={factory}"
    return links


def job_link(settings: Settings, job_name: str) -> str:
    """Return where Azure ML shows a job; nothing for jobs of this machine."""
    if settings.ml_platform != "azureml":
        return ""
    workspace = (
        f"/subscriptions/{settings.aml_subscription_id}/resourcegroups/{settings.aml_resource_group}"
        f"/workspaces/{settings.aml_workspace}"
    )
    return f"https://ml.azure.com/runs/{quote(job_name)}?wsid={workspace}"
