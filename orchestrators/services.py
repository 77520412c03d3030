"""What the bodies of this package are handed: ports only, so that tests and hosts decide what is behind them."""

from __future__ import annotations

from typing import Protocol

from domain.ports import BatchEndpoint, Clock, Jobs, Lake, OnlineEndpoint, Registry, Results, Telemetry
from domain.scenario import Scenario
from settings import Settings


class RunServices(Protocol):
    """Read-only view of bootstrap.Services."""

    @property
    def settings(self) -> Settings:
        """Settings of the app."""

    @property
    def scenario(self) -> Scenario:
        """The business scenario."""

    @property
    def clock(self) -> Clock:
        """The time."""

    @property
    def lake(self) -> Lake:
        """The data lake."""

    @property
    def jobs(self) -> Jobs:
        """The machine-learning platform."""

    @property
    def registry(self) -> Registry:
        """The model registry."""

    @property
    def online_endpoint(self) -> OnlineEndpoint:
        """The endpoint whose deployments are rolled out; raises BadRequest where none is named."""

    @property
    def batch_endpoint(self) -> BatchEndpoint:
        """The endpoint whose default deployment other batch clients get."""

    @property
    def results(self) -> Results:
        """The result tables."""

    @property
    def telemetry(self) -> Telemetry:
        """Business events."""
