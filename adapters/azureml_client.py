"""One azure-ai-ml client a process, made for short activities: few retries, no sleeping on 429, any cloud.

The SDK costs 1.2-2.4 s of CPU and 100 MB to import, so nothing here happens before the first call. Where Azure is comes
from settings that Azure itself documents (ARM_CLOUD_METADATA_URL; identity from DefaultAzureCredential); no host is
named in code.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from adapters.azure_errors import azure_errors
from adapters.azure_identity import app_identity
from adapters.azure_retries import short_retries
from domain.errors import Unavailable

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

METADATA_URL = "ARM_CLOUD_METADATA_URL"
CURRENT_CLOUD = "AZUREML_CURRENT_CLOUD"  # the SDK sets it as soon as a client is made
CONNECT_SECONDS = 10
READ_SECONDS = 30
TAG_VALUE_LENGTH = 1000  # limits of the service
TAG_LIMIT = 50


@dataclass
class AzureMl:
    """A workspace. Safe to share between threads."""

    subscription_id: str
    resource_group: str
    workspace: str

    def __post_init__(self) -> None:
        """Nothing is imported or sent yet."""
        self._lock = threading.Lock()

    @property
    def client(self) -> MLClient:
        """The SDK's client; made on first use. Raise Unavailable if the cloud's metadata cannot be read."""
        with self._lock:
            return self._made

    @contextmanager
    def errors(self, doing: str, **fields: Any) -> Iterator[None]:
        """Turn the SDK's errors inside the block into ours, as azure_errors does.

        A token that the service refuses although its time is not up (revoked, or clocks that differ) would be sent
        again for hours, and the identity's client remembers a refusal for up to an hour: after a 401, or without a
        token, the next call makes a new client, which asks for a new token.
        """
        try:
            with azure_errors(doing, **fields):
                yield
        except Unavailable as error:
            if error.fields.get("status") == 401:
                with self._lock:
                    self.__dict__.pop("_made", None)
            raise

    @cached_property
    def _made(self) -> MLClient:
        with azure_errors("opening Azure ML"):
            cloud = _cloud()
            if cloud:
                # The SDK looks up the current cloud while it is imported: over the network, or, if a parent process
                # or a test left its own cloud's name there, in vain for the life of this process.
                os.environ[CURRENT_CLOUD] = "AzureCloud"
            from azure.ai.ml import MLClient

            logging.getLogger("azure.ai.ml").setLevel(logging.ERROR)  # "experimental class" at every load
            return MLClient(
                app_identity(), self.subscription_id, self.resource_group, self.workspace,
                show_progress=False, enable_telemetry=False, retry_policy=short_retries(),
                connection_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, **cloud,
            )

    def token(self) -> str:
        """Return a bearer token for the workspace's endpoints; raise Unavailable if there is none now."""
        client = self.client
        with self.errors("signing in to Azure ML"):
            from azure.ai.ml._azure_environments import _get_aml_resource_id_from_metadata, _resource_to_scopes

            scopes = _resource_to_scopes(_get_aml_resource_id_from_metadata())  # as the SDK's own invoke has them
            return str(client._credential.get_token(*scopes).token)

    @property
    def scope(self) -> tuple[str, str]:
        """Resource group and workspace, as the SDK's REST layer wants them."""
        return self.resource_group, self.workspace


def read_document(url: str) -> Any:
    """Return the JSON document at an address that needs no token; raise what azure_errors understands."""
    from azure.core import PipelineClient
    from azure.core.rest import HttpRequest

    client: PipelineClient[Any, Any] = PipelineClient(url, retry_policy=short_retries())
    timeouts: dict[str, Any] = {"connection_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS}
    with client:
        answer = client.send_request(HttpRequest("GET", url), **timeouts)
        answer.raise_for_status()
        return answer.json()


def _cloud() -> dict[str, Any]:
    """Read the cloud's endpoints once.

    Left alone, the SDK reads ARM_CLOUD_METADATA_URL again on nearly every call, and takes public Azure when that fails.
    """
    url = os.environ.get(METADATA_URL)
    if not url:
        return {}
    document = read_document(url)
    clouds = [cloud for cloud in (document if isinstance(document, list) else [document]) if _is_whole(cloud)]
    cloud = next((cloud for cloud in clouds if cloud["resourceManager"].rstrip("/") in url), None)
    if cloud is None and len(clouds) == 1:
        (cloud,) = clouds  # metadata that are kept elsewhere than the resource manager
    if cloud is None:
        raise Unavailable(f"{METADATA_URL}={url} describes no cloud with that address completely", setting=METADATA_URL,
                          value=url)
    # The SDK keeps clouds by name for the whole process; the address makes the name ours.
    name = f"{cloud['name']}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    domain = ".".join(cloud["portal"].split(".")[2:]).replace("/", "")  # as the SDK derives it
    return {"cloud": name, "cloud_metadata": {
        "azure_portal": cloud["portal"], "resource_manager": cloud["resourceManager"],
        "active_directory": cloud["authentication"]["loginEndpoint"], "aml_resource_id": f"https://ml.azure.{domain}",
        "storage_endpoint": cloud["suffixes"]["storage"], "registry_discovery_endpoint": f"https://eastus.api.azureml.{domain}/",
    }}


def state_word(state: Any) -> str:
    """Return a provisioning state in small letters; the SDK has enums here whose text is not their value."""
    return str(getattr(state, "value", state)).lower()


def is_settled(state: Any) -> bool:
    """Whether no change of an endpoint is under way."""
    return state_word(state) in ("succeeded", "failed", "canceled")


def _is_whole(cloud: Any) -> bool:
    """Whether an entry of the metadata says all that is needed; clouds of others are listed in any state."""
    try:
        needed = (cloud["name"], cloud["portal"], cloud["resourceManager"], cloud["authentication"]["loginEndpoint"],
                  cloud["suffixes"]["storage"])
    except (KeyError, TypeError):
        return False
    return all(isinstance(text, str) for text in needed)


def tag_values(tags: Mapping[str, Any]) -> dict[str, str]:
    """Return tags as the service takes them: text, at most 1,000 characters each; the first 50."""
    return {str(key)[:100]: str(value)[:TAG_VALUE_LENGTH] for key, value in list(tags.items())[:TAG_LIMIT]}
