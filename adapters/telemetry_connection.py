"""The Application Insights connection string, read so that no spelling of it can stop the app from loading.

OpenCensus raises on a trailing semicolon, an upper-case instrumentation key, an unresolved Key Vault
reference and an absent string. Here each gives a connection or a sentence that says why there is none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

DEFAULT_ENDPOINT = "https://dc.services.visualstudio.com"
_GUID = re.compile(r"^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$")


@dataclass(frozen=True)
class Connection:
    """Where telemetry goes, or in `fault` why it cannot go anywhere."""

    instrumentation_key: str = ""
    endpoint: str = ""
    fault: str = ""


def parse_connection(text: str) -> Connection:
    """Read a connection string; keys in any case, any order, empty parts allowed. Never raises."""
    text = (text or "").strip().strip("\"'")
    if not text:
        return Connection(fault="no connection string is set")
    if text.startswith("@Microsoft.KeyVault"):
        return Connection(fault="the Key Vault reference was not resolved")
    pairs = _pairs(text)
    key = pairs.get("instrumentationkey", "").lower()
    if not _GUID.match(key):
        return Connection(fault="InstrumentationKey is missing or is not a GUID")
    if pairs.get("authorization", "ikey").lower() != "ikey":
        return Connection(fault="Authorization must be ikey")
    endpoint = pairs.get("ingestionendpoint", "").rstrip("/") or _from_suffix(pairs)
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return Connection(fault="IngestionEndpoint is not a URL")
    return Connection(key, endpoint)


def _from_suffix(pairs: dict[str, str]) -> str:
    if not (suffix := pairs.get("endpointsuffix", "")):
        return DEFAULT_ENDPOINT
    location = f"{pairs['location']}." if pairs.get("location") else ""
    return f"https://{location}dc.{suffix}"


def parse_client_id(authentication: str) -> tuple[bool, str]:
    """Return whether Entra authentication is asked for, and the managed identity's client id ("" = system's)."""
    pairs = _pairs(authentication or "")
    return pairs.get("authorization", "").lower() == "aad", pairs.get("clientid", "")


def _pairs(text: str) -> dict[str, str]:
    parts = (part.partition("=") for part in text.split(";"))
    return {key.strip().lower(): value.strip() for key, separator, value in parts if separator}
