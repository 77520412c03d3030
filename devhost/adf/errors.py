"""Everything that can go wrong, as one tree.

AdfError
├── ExpressionEngineUnavailable   the machine cannot load Microsoft's engine
├── ExpressionError               an expression does not parse or evaluate
├── FactoryError                  the folder is not a factory, or a name in it leads nowhere
├── ParameterError                a run was asked for with wrong parameters
├── NotModelled                   the pipeline needs something this runner does not do
└── ActivityFailure               an activity failed; the flow decides what that means
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class AdfError(Exception):
    """Base of every error of this package."""


class ExpressionEngineUnavailable(AdfError):
    """Microsoft's expression engine cannot be loaded; the text names the remedy."""


class ExpressionError(AdfError):
    """An expression does not parse or cannot be evaluated; the text is the engine's own."""


class FactoryError(AdfError):
    """The folder is not a factory, or a reference in it leads nowhere."""


class ParameterError(AdfError):
    """A pipeline was given unknown, missing or wrongly typed parameters."""


class NotModelled(AdfError):
    """The pipeline needs something this runner does not do. `names` lists every such thing, with its place."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        listed = "\n".join(f"  - {name}" for name in self.names)
        super().__init__(
            f"not modelled here:\n{listed}\n"
            "Give the activity an answer (--answer 'NAME=JSON'), make it Inactive, or run it in the service."
        )


class ActivityFailure(AdfError):
    """An activity failed. Code and message are what `activity('x').error` shows."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        failure_type: str = "UserError",
        output: dict[str, Any] | None = None,
        status: str = "Failed",
        retryable: bool = True,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.failure_type = failure_type
        self.output = output or {}
        self.status = status  # Failed or TimedOut, as the monitoring page names it
        self.retryable = retryable
