"""The app's identity on Azure: a managed identity there, whoever is signed in elsewhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from adapters.azure_retries import short_retries

if TYPE_CHECKING:
    from azure.identity import DefaultAzureCredential

MANAGED = "IDENTITY_ENDPOINT"  # set by Functions where the app has an identity


def app_identity() -> DefaultAzureCredential:
    """Return the credential; nothing is sent yet.

    Left alone it sleeps as long as a throttled identity service asks for, an hour say, inside an activity.
    """
    from azure.identity import DefaultAzureCredential

    options: dict[str, Any] = {"retry_policy_class": lambda **_: short_retries()} if os.environ.get(MANAGED) else {}
    return DefaultAzureCredential(**options)
