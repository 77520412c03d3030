"""Signing in to Azure ML: the identity service and the list of clouds, when they fail, lie or ask for patience."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from domain.errors import Unavailable
from tests.adapters.platforms import RUN, AzurePlatform, job, submit_until_taken
from tests.control_plane.faults import Fault
from tests.control_plane.workspace import SUBSCRIPTION

ROOT = Path(__file__).resolve().parents[2]


def test_identity_and_cloud_metadata_may_fail_too(azure_platform: AzurePlatform) -> None:
    azure_platform.plane.faults.add(Fault("error", path="/metadata/", times=4))
    azure_platform.plane.faults.add(Fault("error", path="/identity/", times=2))
    assert submit_until_taken(azure_platform) > 1
    assert len(azure_platform.plane.workspace.jobs) == 1


def test_the_cloud_is_asked_for_once(azure_platform: AzurePlatform) -> None:
    for number in range(3):
        azure_platform.jobs.submit(job(f"{RUN}-s{number}"))
    azure_platform.jobs.statuses(RUN, [f"{RUN}-s{number}" for number in range(3)])
    assert len([call for call in azure_platform.plane.requests if "/metadata/" in call.path]) == 1


def test_a_cloud_that_another_process_left_in_the_environment_does_no_harm(azure_platform: AzurePlatform) -> None:
    plane = azure_platform.plane
    environment = os.environ | plane.environment | {"AZUREML_CURRENT_CLOUD": "GoneCloud-12345678"}
    program = f"from adapters.azureml_client import AzureMl; AzureMl({SUBSCRIPTION!r}, 'rg', 'ws').client.jobs"
    before = len(plane.requests)
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, check=True)
    assert [call.path.split("?")[0] for call in plane.requests[before:]] == ["/metadata/endpoints"]


def test_a_token_that_is_refused_before_its_time_is_replaced(azure_platform: AzurePlatform) -> None:
    azure_platform.jobs.submit(job())
    azure_platform.plane.faults.add(Fault("error", path="/jobs/", status=401))
    with pytest.raises(Unavailable):
        azure_platform.jobs.statuses(RUN, [job().name])
    tokens = len([call for call in azure_platform.plane.requests if "/identity/" in call.path])
    assert azure_platform.jobs.statuses(RUN, [job().name])
    assert len([call for call in azure_platform.plane.requests if "/identity/" in call.path]) > tokens


def test_an_identity_service_that_asks_for_an_hour_is_not_waited_for(azure_platform: AzurePlatform) -> None:
    azure_platform.plane.faults.add(Fault("throttle", path="/identity/", retry_after="3600"))
    began = time.monotonic()
    with pytest.raises(Unavailable, match="ClientAuthenticationError: ManagedIdentityCredential: "):
        azure_platform.jobs.submit(job())
    azure_platform.jobs.submit(job())
    assert time.monotonic() - began < 60


def test_clouds_of_others_may_be_listed_in_any_state(azure_platform: AzurePlatform) -> None:
    plane, answer = azure_platform.plane, azure_platform.plane.answer

    def listed(method: str, path: str, *rest: Any) -> tuple[int, Any, dict[str, str]]:
        status, document, headers = answer(method, path, *rest)
        return status, [{"name": "Half"}, *document] if "/metadata/" in path else document, headers

    plane.answer = listed  # type: ignore[method-assign]
    assert submit_until_taken(azure_platform, tries=1) == 1
