"""Structured logs: one line an event, `key=value`, with the invocation and instance it belongs to."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

invocation: ContextVar[dict[str, Any] | None] = ContextVar("invocation", default=None)
_HOST_FRAMES = (str(Path(__file__).parent), "concurrent/futures", "/asyncio/")
_NOISY = ("azure", "aiohttp.access", "asyncio", "urllib3", "opentelemetry")


class EventLog:
    """A logger of events: a word or two, and fields."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        self.debug = partial(self._log, logging.DEBUG)  # what only --verbose shows
        self.info = partial(self._log, logging.INFO)
        self.warning = partial(self._log, logging.WARNING)  # what somebody should look at

    def _log(self, level: int, event: str, **fields: Any) -> None:
        self._logger.log(level, event, extra={"fields": fields})

    def error(self, event: str, problem: BaseException | None = None, **fields: Any) -> None:
        """Log what went wrong, with the traceback of `problem` from where user code begins."""
        info = None if problem is None else (type(problem), problem, of_user(problem.__traceback__))
        self._logger.error(event, extra={"fields": fields}, exc_info=info)


def of_user(trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback below the host's own frames; all of it if there is no other."""
    found = trace
    while found is not None and any(part in found.tb_frame.f_code.co_filename for part in _HOST_FRAMES):
        found = found.tb_next
    return found or trace


class LineFormatter(logging.Formatter):
    """time level logger message key=value ...; line breaks inside a message are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the record as one line (tracebacks of user code follow in the same line, escaped)."""
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        fields: dict[str, Any] = {**(invocation.get() or {}), **getattr(record, "fields", {})}
        message = record.getMessage()
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        tail = "".join(f" {key}={_value(value)}" for key, value in fields.items() if value is not None)
        return f"{moment} {record.levelname:<7} {record.name} {_line(message)}{tail}"


def _line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _value(value: Any) -> str:
    text = _line(str(value))
    return '"' + text.replace('"', '\\"') + '"' if not text or any(c in text for c in ' "=') else text


def set_up(*, verbose: bool) -> None:
    """Send every log line of the host and of user code to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("devhost").setLevel(logging.DEBUG if verbose else logging.INFO)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
