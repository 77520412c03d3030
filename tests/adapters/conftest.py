"""A loopback control plane and both platforms on top of it and of Azurite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.lake import BlobLake
from tests.adapters.platforms import AzurePlatform, LocalPlatform, Platform
from tests.control_plane.server import ControlPlane


def pytest_configure(config: pytest.Config) -> None:
    """The SDK's schemas announce changes of a library that the SDK pins."""
    config.addinivalue_line("filterwarnings", r"ignore:::(azure\.ai\.ml|marshmallow)(\..*)?")


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlPlane]:
    """A control plane that the process's environment points to."""
    with ControlPlane() as control_plane:
        for key, value in control_plane.environment.items():
            monkeypatch.setenv(key, value)
        yield control_plane


@pytest.fixture
def azure_platform(plane: ControlPlane) -> AzurePlatform:
    return AzurePlatform(plane)


@pytest.fixture
def local_platform(tmp_path: Path, azurite: str, lake: BlobLake) -> Iterator[LocalPlatform]:
    lake.write("curated", "2017-W45/v1/deliveries.csv", b"store_id,product_id,sales_week,units\n")
    lake.write("curated", "2017-W45/v1/extra/stores.csv", b"store_id\n")
    platform = LocalPlatform(tmp_path / "jobs", azurite)
    yield platform
    for folder in (platform.jobs.root / "jobs").iterdir():
        platform.jobs.cancel(folder.name)
    platform.jobs.close()


@pytest.fixture(params=["local", "azureml"])
def platform(request: pytest.FixtureRequest) -> Platform:
    name = "azure_platform" if request.param == "azureml" else "local_platform"
    found: Platform = request.getfixturevalue(name)
    return found
