"""Looks after a connection: closes one that is idle for long, asks a silent peer whether it is there."""

from __future__ import annotations

import asyncio

from reqplane.interfaces import Timer, Timers

from reqplane_http.connection import Connection
from reqplane_http.settings import HttpSettings

MOST_IDLE_SECONDS = 50.0
"""A worker closes a connection that was silent for 60 s, and a request that meets the closing may be lost.
So we close first, also where DYN_HTTP2_POOL_IDLE_TIMEOUT_SECS would allow more."""


class Watch:
    """Runs from the start until the connection is closed."""

    def __init__(self, connection: Connection, timers: Timers, settings: HttpSettings) -> None:
        self._connection = connection
        self._timers = timers
        self._settings = settings
        self._idle_limit = min(settings.pool_idle_timeout, MOST_IDLE_SECONDS)
        self._loop = asyncio.get_running_loop()
        self._pinged = False
        self._timer: Timer | None = None
        connection.closed.add_done_callback(self._stop)
        self._look_in(settings.keep_alive_interval)

    def _look_in(self, seconds: float) -> None:
        left = self._connection.last_used + self._idle_limit - self._loop.time()
        self._timer = self._timers.at(self._loop.time() + min(seconds, max(left, 0.1)), self._look)

    def _look(self) -> None:
        connection, settings = self._connection, self._settings
        idle = self._loop.time() - connection.last_used
        if idle >= self._idle_limit and not connection.busy:
            connection.close("it was idle")
        elif connection.heard:
            connection.heard = self._pinged = False
            self._look_in(settings.keep_alive_interval)
        elif self._pinged:
            connection.close(f"it did not answer a PING within {settings.keep_alive_timeout:g} s")
        else:
            connection.ping()
            self._pinged = True
            self._look_in(settings.keep_alive_timeout)

    def _stop(self, _: asyncio.Future[None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
