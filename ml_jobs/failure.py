"""How a job tells why it stopped: one sentence on stderr, with the remedy if there is one."""

from __future__ import annotations

from domain.errors import ShelfcastError


def explained(job: str, error: ShelfcastError) -> str:
    """Return the sentence that ends a job's log."""
    remedy = error.fields.get("remedy")
    return f"{job} failed: {error.message}" + (f"; {remedy}" if remedy else "")
