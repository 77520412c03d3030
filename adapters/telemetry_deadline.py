"""HTTP connections that give up on a peer which trickles: each answer's head, too, has one deadline as a whole.

A socket's timeout starts anew with every byte, so a peer that sends one now and then could hold the sender for ever.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection


class _InTime(HTTPConnection):
    """To connect, and to read status and headers, may each take the connection's timeout and no longer."""

    def connect(self) -> None:
        with self._in_time():
            super().connect()

    def getresponse(self) -> Any:
        with self._in_time():
            return super().getresponse()

    @contextlib.contextmanager
    def _in_time(self) -> Iterator[None]:
        assert isinstance(self.timeout, int | float)  # no request is sent without a timeout
        timer = threading.Timer(self.timeout, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end(self) -> None:
        """End what is there: the reader in the other thread finds the end of the stream, a status without the rest."""
        if self.sock is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


class _InTimeTls(_InTime, HTTPSConnection):
    """The same over TLS."""


class InTime(HTTPAdapter):
    """Mount it in a session: its connections keep to the timeout of a request as a whole."""

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        """Return the pool for a request, directly or through a proxy, with connections of ours."""
        pool = super().get_connection_with_tls_context(*args, **options)
        pool.ConnectionCls = _InTimeTls if pool.scheme == "https" else _InTime
        return pool
