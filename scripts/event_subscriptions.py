"""Subscribe the app's blob functions to the events of the lake; run after the app is deployed.

python -m scripts.event_subscriptions [--plan]

Event Grid asks the app for a handshake before it accepts a subscription, and the address carries the app's system key
`blobs_extension`, which exists only once the app has started. So this is a step of its own, safe to repeat. Names come
from the environment: AZURE_SUBSCRIPTION_ID, AZURE_RESOURCE_GROUP, FUNCTION_APP_NAME, FUNCTION_APP_URL and
LANDING_TOPIC_NAME.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.azure_rest import AzureRest, sign_in

ROOT = Path(__file__).resolve().parent.parent
TOPIC_API = "api-version=2025-02-15"
SITE_API = "api-version=2024-11-01"


@dataclass(frozen=True)
class Subscription:
    """One function and the landing folder whose new files it gets."""

    function: str
    source: str

    def body(self, app_url: str, key: str) -> dict[str, Any]:
        """The subscription as Event Grid takes it."""
        endpoint = f"{app_url}/runtime/webhooks/blobs?functionName=Host.Functions.{self.function}&code={key}"
        return {
            "properties": {
                "destination": {
                    "endpointType": "WebHook",
                    "properties": {
                        "endpointUrl": endpoint,
                        "maxEventsPerBatch": 1,
                        "preferredBatchSizeInKilobytes": 64,
                    },
                },
                "filter": {
                    "includedEventTypes": ["Microsoft.Storage.BlobCreated"],
                    "subjectBeginsWith": f"/blobServices/default/containers/landing/blobs/{self.source}/",
                    # a Data Lake account says a file is there when it is made and again when it is whole
                    "advancedFilters": [
                        {"operatorType": "NumberGreaterThan", "key": "data.contentLength", "value": 0}
                    ],
                },
                "eventDeliverySchema": "EventGridSchema",
                "retryPolicy": {"maxDeliveryAttempts": 30, "eventTimeToLiveInMinutes": 1440},
            }
        }


def subscriptions() -> list[Subscription]:
    """Return a subscription a source, as conditioning/functions.py names its functions."""
    sources = sorted(
        path.stem for path in (ROOT / "conditioning" / "sources").glob("*.py") if path.stem != "__init__"
    )
    return [Subscription(f"condition_{source}_arrived", source) for source in sources]


def subscribe(rest: AzureRest, names: Mapping[str, str]) -> list[str]:
    """Create or update every subscription; return their names. Raise AzureError where Azure refuses."""
    group = f"/subscriptions/{names['AZURE_SUBSCRIPTION_ID']}/resourceGroups/{names['AZURE_RESOURCE_GROUP']}"
    app = f"{group}/providers/Microsoft.Web/sites/{names['FUNCTION_APP_NAME']}"
    keys = rest.call("POST", f"{app}/host/default/listKeys?{SITE_API}")
    key = keys["systemKeys"]["blobs_extension"]
    topic = f"{group}/providers/Microsoft.EventGrid/systemTopics/{names['LANDING_TOPIC_NAME']}"
    done = []
    for one in subscriptions():
        name = one.function.replace("_", "-")
        rest.call("PUT", f"{topic}/eventSubscriptions/{name}?{TOPIC_API}", one.body(names["FUNCTION_APP_URL"], key))
        done.append(name)
    return done


def main(arguments: list[str] | None = None) -> int:
    """Subscribe, or print what would be subscribed (never the key)."""
    parser = argparse.ArgumentParser(description="Subscribe the blob functions to the lake's events.")
    parser.add_argument("--plan", action="store_true")
    if parser.parse_args(arguments).plan:
        print(json.dumps([one.body("{FUNCTION_APP_URL}", "{KEY}") for one in subscriptions()], indent=1))
        return 0
    print("\n".join(subscribe(AzureRest(sign_in()), os.environ)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
