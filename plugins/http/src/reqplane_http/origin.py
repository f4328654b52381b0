"""One worker's address: its connections, and those who wait for one or for a free stream."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from reqplane.interfaces import Host
from reqplane.sockets import host_and_port, reason

from reqplane_http.connection import STREAMS_BEFORE_SETTINGS, Connection
from reqplane_http.exchange import Exchange
from reqplane_http.settings import HttpSettings
from reqplane_http.watch import Watch

_MOST_CONNECTIONS = 8
"""To one address.  More are opened only when all streams of the others are taken."""
_MOST_FRUITLESS = 4
"""How often a request is sent to a peer that processes nothing.  While it takes at least some of what each
connection brings, as an nginx that ends its connections after a few requests, only the time is limited."""
_PAUSE = 1.0
"""Seconds until a further connection is tried again after one could not be made."""


class Origin:
    """Hands exchanges to the connections, and makes one when there is none with a free stream.

    The first connection is filled first, so those that a peak needed become idle after it and are closed.
    All requests that come while the first is being made wait for the one attempt, and share its failure.
    """

    def __init__(
        self,
        host: Host,
        settings: HttpSettings,
        place: tuple[str, int],
        unused: Callable[[Origin], None],
        only_http1: Callable[[tuple[str, int]], None],
    ) -> None:
        self._host, self._settings = host, settings
        self.place = place
        self._unused = unused
        self._only_http1 = only_http1
        self._loop = asyncio.get_running_loop()
        self._connections: list[Connection] = []  # those that take requests
        self._open: set[Connection] = set()  # also those that take no more
        self._waiting: deque[Exchange] = deque()
        self._attempt: asyncio.Task[Connection | str] | None = None
        self._most_streams = STREAMS_BEFORE_SETTINGS  # of the last connection that retired
        self._no_further_until = 0.0
        self._closed = False

    def submit(self, exchange: Exchange) -> None:
        connections = self._connections
        if self._waiting or not connections or not connections[0].submit(exchange):
            self._submit_to_others(exchange)

    def _submit_to_others(self, exchange: Exchange) -> None:
        if not self._waiting and any(other.submit(exchange) for other in self._connections[1:]):
            return
        exchange.lacks = "free stream" if self._connections else "connection"
        self._waiting.append(exchange)
        self._mark_crowded()
        self._reach_out()

    @property
    def address(self) -> str:
        return host_and_port(*self.place)

    async def close(self) -> None:
        """Free everything; what is under way fails."""
        self._closed = True
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.wait({self._attempt})
            await asyncio.sleep(0)  # one that has succeeded just now is adopted, to be closed
        closing = list(self._open)
        for connection in closing:
            connection.close("the transport was closed")
        for connection in closing:
            await connection.closed
        self._fail_waiting("the transport was closed")

    # ── what connections tell ──

    def freed(self, connection: Connection) -> None:
        """Start those whose turn it is; with nobody waiting, close idle connections that are too many."""
        while self._waiting and connection.usable:
            exchange = self._waiting.popleft()
            if not exchange.done() and not connection.submit(exchange):
                self._waiting.appendleft(exchange)
                return
        if not self._waiting:
            self._mark_crowded()
            self._close_surplus()

    def again(self, exchange: Exchange, why: str, *, fruitless: bool = True) -> None:
        """Send it by another connection, or by another stream, if that was not tried too often."""
        exchange.fruitless += fruitless
        if exchange.done() or self._closed or exchange.fruitless >= _MOST_FRUITLESS:
            exchange.unreachable(why)
        else:
            exchange.rewind()
            self.submit(exchange)

    def only_http1(self, exchanges: list[Exchange], why: str) -> None:
        """Those who wait here need not try it, too, nor is another connection of use."""
        self._only_http1(self.place)
        if self._attempt is not None:
            self._attempt.cancel()
        waiting, self._waiting = self._waiting, deque()
        for exchange in (*exchanges, *waiting):
            exchange.only_http1(why)

    def retired(self, connection: Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
            self._most_streams = connection.most_streams
        if self._waiting:
            self._reach_out()

    def _close_surplus(self) -> None:
        """Of the idle ones keep the first, which are filled first."""
        idle = [connection for connection in self._connections if not connection.busy]
        for connection in idle[self._settings.pool_max_idle_per_host :]:
            connection.leave()

    def _mark_crowded(self) -> None:
        """Have the connections tell of free streams, if somebody waits for one or there are several."""
        crowded = bool(self._waiting) or len(self._connections) > 1
        for connection in self._connections:
            connection.crowded = crowded

    # ── making connections ──

    def _reach_out(self) -> None:
        """Make a connection, unless one is being made or there are enough."""
        if self._attempt is not None or self._closed or len(self._connections) >= _MOST_CONNECTIONS:
            return
        if self._connections and self._loop.time() < self._no_further_until:
            return
        self._attempt = self._host.spawn(self._connect(), f"connect to {self.address}")
        self._attempt.add_done_callback(self._attempted)

    async def _connect(self) -> Connection | str:
        """A connection, or why there is none."""
        limit = self._settings.request_timeout
        try:
            async with asyncio.timeout(limit):
                _, connection = await self._loop.create_connection(self._new_connection, *self.place)
        except TimeoutError:
            return f"no connection within {limit:g} s (DYN_HTTP_REQUEST_TIMEOUT)"
        except OSError as error:
            return reason(error)
        return connection

    def _new_connection(self) -> Connection:
        guess = self._connections[0].most_streams if self._connections else self._most_streams
        return Connection(self.address, self, guess)

    def _attempted(self, attempt: asyncio.Task[Connection | str]) -> None:
        """Let those who waited go on, or tell them why they can't."""
        outcome = "the transport was closed" if attempt.cancelled() else attempt.result()
        self._attempt = None
        if isinstance(outcome, Connection):
            self._adopt(outcome)
            if outcome.usable:
                self.freed(outcome)
                if self._waiting:
                    self._reach_out()
                return
            outcome = "it closed the connection at once"
        if self._connections:
            self._no_further_until = self._loop.time() + _PAUSE
        else:
            self._fail_waiting(outcome)
        self._leave_if_unused()

    def _fail_waiting(self, why: str) -> None:
        waiting, self._waiting = self._waiting, deque()
        for exchange in waiting:
            exchange.unreachable(why)

    def _adopt(self, connection: Connection) -> None:
        self._open.add(connection)
        connection.closed.add_done_callback(lambda _: self._gone(connection))
        if connection.usable:
            self._connections.append(connection)
            self._mark_crowded()
        Watch(connection, self._host.timers, self._settings)

    def _gone(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._leave_if_unused()

    def _leave_if_unused(self) -> None:
        if not self._open and self._attempt is None:
            self._unused(self)
