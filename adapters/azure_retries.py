"""How the SDKs retry inside one call of ours: quickly, a few times, and never sleeping for as long as they are asked.

Whoever calls has durable retries for the rest.
"""

from __future__ import annotations

from typing import Any

RETRIES = 2
BACKOFF_SECONDS = 0.3


def short_retries() -> Any:
    """Return an azure-core policy that retries what fails at once, and leaves every wish to wait to the caller."""
    from azure.core.pipeline import PipelineResponse
    from azure.core.pipeline.policies import RetryPolicy

    class ShortRetry(RetryPolicy[Any, Any]):
        """Takes no 429 and no Retry-After for an invitation to sleep."""

        def is_retry(self, settings: dict[str, Any], response: PipelineResponse[Any, Any]) -> bool:
            answer = response.http_response
            if answer.status_code == 429 or "Retry-After" in answer.headers:
                return False
            return bool(super().is_retry(settings, response))

    return ShortRetry(retry_total=RETRIES, retry_read=1, retry_backoff_factor=BACKOFF_SECONDS, retry_backoff_max=2)
