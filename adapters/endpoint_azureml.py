"""A managed online endpoint of Azure ML as the rollout's port: traffic by get, change, put; requests by its address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from adapters.azureml_client import AzureMl, is_settled
from adapters.endpoint_probe import probe
from domain.errors import BadRequest, Conflict
from domain.rollout import Probe

if TYPE_CHECKING:
    from azure.ai.ml.entities import OnlineEndpoint


@dataclass(frozen=True)
class AzureMlEndpoint:
    """Implements domain.ports.OnlineEndpoint. The endpoint signs callers in with Entra ID (auth_mode aad_token)."""

    workspace: AzureMl
    name: str

    def set_traffic(self, live: Mapping[str, int], mirror: Mapping[str, int]) -> bool:
        """Start the change unless it is under way or done; return whether it is in force.

        The platform takes minutes, so nothing here waits: the caller comes again with the same shares.
        """
        endpoint = self._endpoint()
        if not is_settled(endpoint.provisioning_state):
            return False
        if _shares(endpoint.traffic) == _shares(live) and _shares(endpoint.mirror_traffic) == _shares(mirror):
            return True
        # Reading an endpoint lists every deployment as live (those without traffic as 0) or as mirrored.
        unknown = sorted((set(live) | set(mirror)) - set(endpoint.traffic) - set(endpoint.mirror_traffic))
        if unknown:
            raise BadRequest(f"endpoint {self.name} has no deployment {', '.join(unknown)}", field="candidate",
                             value=unknown[0], remedy="deploy it first, without traffic")
        endpoint.traffic, endpoint.mirror_traffic = dict(live), dict(mirror)
        try:
            with self.workspace.errors(f"setting the traffic of {self.name}", endpoint=self.name):
                self.workspace.client.online_endpoints.begin_create_or_update(endpoint)
        except Conflict:  # another change of the endpoint is under way; it ends
            return False
        return False

    def ask(self, body: Mapping[str, Any], deployment: str = "") -> Probe:
        """Send one request; the SDK's own invoke keeps the deployment's header for later calls, so it is not used.

        Raise Unavailable if there is no token or the endpoint cannot be found out: that says nothing of deployments.
        """
        return probe(self._address, body, {"Authorization": f"Bearer {self.workspace.token()}"}, deployment)

    def _endpoint(self) -> OnlineEndpoint:
        with self.workspace.errors(f"reading endpoint {self.name}", endpoint=self.name):
            found: OnlineEndpoint = self.workspace.client.online_endpoints.get(self.name)
        return found

    @cached_property
    def _address(self) -> str:
        return str(self._endpoint().scoring_uri)


def _shares(shares: Mapping[str, int] | None) -> dict[str, int]:
    return {name: int(share) for name, share in (shares or {}).items() if int(share)}
