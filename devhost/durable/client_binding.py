"""What a durable client is handed: the URLs of the management routes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import quote

PATH = "/runtime/webhooks/durabletask"
_OF_INSTANCE = {
    "statusQueryGetUri": "?", "sendEventPostUri": "/raiseEvent/{eventName}?", "purgeHistoryDeleteUri": "?",
    "terminatePostUri": "/terminate?reason={text}&", "rewindPostUri": "/rewind?reason={text}&",
    "restartPostUri": "/restart?", "suspendPostUri": "/suspend?reason={text}&",
    "resumePostUri": "/resume?reason={text}&",
}  # fmt: skip


@dataclass(frozen=True)
class ClientBinding:
    """Writes client bindings and the URLs of instances."""

    origin: str  # http://host:port of the public listener
    rpc_base_url: str
    hub_name: str
    key: str

    def management_urls(self, instance_id: str, origin: str | None = None) -> dict[str, str]:
        """All URLs of an instance, as in the binding."""
        base = f"{origin or self.origin}{PATH}/instances/{instance_id}"
        query = f"taskHub={quote(self.hub_name)}&connection=Storage&code={self.key}"
        return {"id": instance_id, **{name: f"{base}{rest}{query}" for name, rest in _OF_INSTANCE.items()}}

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
