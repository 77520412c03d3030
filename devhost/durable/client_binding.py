"""What a durable client is handed: the URLs of the management routes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import quote

PATH = "/runtime/webhooks/durabletask"


@dataclass(frozen=True)
class ClientBinding:
    """Writes client bindings and check-status bodies."""

    origin: str  # http://host:port of the public listener
    rpc_base_url: str
    hub_name: str
    key: str
    connection: str = "Storage"

    @property
    def _query(self) -> str:
        return f"taskHub={quote(self.hub_name)}&connection={self.connection}&code={self.key}"

    def management_urls(self, instance_id: str, origin: str | None = None) -> dict[str, str]:
        """All URLs of an instance, as in the binding."""
        base = f"{origin or self.origin}{PATH}/instances/{instance_id}"
        query = self._query
        urls = {"id": instance_id, "statusQueryGetUri": f"{base}?{query}", "purgeHistoryDeleteUri": f"{base}?{query}",
                "sendEventPostUri": f"{base}/raiseEvent/{{eventName}}?{query}",
                "restartPostUri": f"{base}/restart?{query}"}  # fmt: skip
        for operation in ("terminate", "rewind", "suspend", "resume"):
            urls[f"{operation}PostUri"] = f"{base}/{operation}?reason={{text}}&{query}"
        return urls

    def check_status(self, instance_id: str, origin: str | None = None) -> dict[str, str]:
        """Body of a 202 answer: like the real host's, without rewindPostUri."""
        urls = self.management_urls(instance_id, origin)
        del urls["rewindPostUri"]
        return urls

    def text(self) -> str:
        """Write the JSON string that a durableClient parameter receives."""
        base = f"{self.origin}{PATH}"
        create = f"{base}/orchestrators/{{functionName}}[/{{instanceId}}]"
        return json.dumps({
            "taskHubName": self.hub_name,
            "connectionName": None,
            "rpcBaseUrl": self.rpc_base_url,
            "baseUrl": base,
            "requiredQueryStringParameters": f"code={self.key}",
            "httpBaseUrl": None,
            "creationUrls": {
                "createNewInstancePostUri": f"{create}?code={self.key}",
                "createAndWaitOnNewInstancePostUri":
                    f"{create}?timeout={{timeoutInSeconds}}&pollingInterval={{intervalInSeconds}}&code={self.key}",
            },
            "managementUrls": self.management_urls("INSTANCEID"),
        })  # fmt: skip
