"""Retry policies of the orchestrators, each with its reason.

The bodies turn expected trouble (throttling, a service that is down) into waiting; these policies only cure an
activity that was lost with its host or hit a fault nobody expected.
"""

from __future__ import annotations

from azure.durable_functions import RetryOptions

# Reading and writing the ledger: storage recovers within minutes, and a run must outlive an hour of outage.
LEDGER = RetryOptions(first_retry_interval_in_milliseconds=5_000, max_number_of_attempts=720)
# Work that computes: the second and third try cure a lost host; more would only repeat a fault of ours.
WORK = RetryOptions(first_retry_interval_in_milliseconds=10_000, max_number_of_attempts=3)
