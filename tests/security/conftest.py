"""Hosts for the security tests: one that asks for keys, one behind App Service sign-in."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.host_process import HostProcess

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class GuardedHost:
    """A running host and the headers of its callers."""

    host: HostProcess
    key: str

    @property
    def with_key(self) -> dict[str, str]:
        return {"x-functions-key": self.key}


def principal(*roles: str, name: str = "tester@example.com") -> dict[str, str]:
    """The header that App Service sets for somebody who signed in."""
    claims = [{"typ": "name", "val": name}, *({"typ": "roles", "val": role} for role in roles)]
    document = {"auth_typ": "aad", "name_typ": "name", "role_typ": "roles", "claims": claims}
    return {"x-ms-client-principal": base64.b64encode(json.dumps(document).encode()).decode()}


def _host(folder: Path, env: dict[str, str], *options: str) -> HostProcess:
    settings = {"DATA_DIR": str(folder / "local"), "TELEMETRY_BACKEND": "none", **env}
    return HostProcess(ROOT, folder / "host", env=settings, options=list(options))


@pytest.fixture(scope="session")
def key_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedHost]:
    """Function keys are asked for, as an app without sign-in does."""
    folder = tmp_path_factory.mktemp("keys")
    with _host(folder, {}, "--auth") as host:
        yield GuardedHost(host, json.loads((folder / "host" / "keys.json").read_text("utf-8"))["function"])


@pytest.fixture(scope="session")
def sign_in_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """As in Azure with HTTP_AUTH=entra: the principal header decides, and no function key exists for anybody."""
    with _host(
        tmp_path_factory.mktemp("entra"), {"HTTP_AUTH": "entra", "WEBSITE_SITE_NAME": "func-test"}, "--auth"
    ) as host:
        yield host
