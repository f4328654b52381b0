"""One worker's address: its connection, and those who wait for one."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Callable

from reqplane.errors import describe
from reqplane.interfaces import Host
from reqplane.sockets import host_and_port

from reqplane_http.connection import Connection
from reqplane_http.exchange import Exchange
from reqplane_http.settings import HttpSettings
from reqplane_http.watch import Watch


class Origin:
    """Hands exchanges to the connection, and makes one when there is none.

    All requests that come while it is being made wait for the one attempt, and share its failure.
    """

    def __init__(
        self, host: Host, settings: HttpSettings, place: tuple[str, int], unused: Callable[[Origin], None]
    ) -> None:
        self._host, self._settings = host, settings
        self.place = place
        self._unused = unused
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._connections: set[Connection] = set()  # also those that take no more requests
        self._waiting: list[Exchange] = []
        self._attempt: asyncio.Task[Connection | str] | None = None

    def submit(self, exchange: Exchange) -> None:
        connection = self._connection
        if connection is not None:
            connection.submit(exchange)
            return
        self._waiting.append(exchange)
        if self._attempt is None:
            self._attempt = self._host.spawn(self._connect(), f"connect to {self.address}")
            self._attempt.add_done_callback(self._attempted)

    @property
    def address(self) -> str:
        return host_and_port(*self.place)

    async def close(self) -> None:
        """Free everything; what is under way fails."""
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.wait({self._attempt})
        closing = list(self._connections)
        for connection in closing:
            connection.close("the transport was closed")
        for connection in closing:
            await connection.closed

    async def _connect(self) -> Connection | str:
        """A connection, or why there is none."""
        limit = self._settings.request_timeout
        try:
            async with asyncio.timeout(limit):
                _, connection = await self._loop.create_connection(self._new_connection, *self.place)
        except TimeoutError:
            return f"no connection within {limit:g} s (DYN_HTTP_REQUEST_TIMEOUT)"
        except OSError as error:
            return _reason(error)
        return connection

    def _new_connection(self) -> Connection:
        return Connection(self.address, self._retired)

    def _attempted(self, attempt: asyncio.Task[Connection | str]) -> None:
        """Let those who waited go on, or tell them why they can't."""
        outcome = "the transport was closed" if attempt.cancelled() else attempt.result()
        self._attempt = None
        if isinstance(outcome, Connection):
            self._adopt(outcome)
            if not outcome.usable:
                outcome = "it closed the connection at once"
        waiting, self._waiting = self._waiting, []
        for exchange in waiting:
            if exchange.done():
                continue
            if isinstance(outcome, Connection):
                self.submit(exchange)
            else:
                exchange.unreachable(outcome)
        self._leave_if_unused()

    def _adopt(self, connection: Connection) -> None:
        self._connections.add(connection)
        connection.closed.add_done_callback(lambda _: self._gone(connection))
        if connection.usable:
            self._connection = connection
        Watch(connection, self._host.timers, self._settings)

    def _retired(self, connection: Connection, queued: list[Exchange]) -> None:
        """The connection takes no more requests; those it did not start get another one."""
        if self._connection is connection:
            self._connection = None
        for exchange in queued:
            exchange.connection = None
            self.submit(exchange)

    def _gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._leave_if_unused()

    def _leave_if_unused(self) -> None:
        if not self._connections and self._attempt is None:
            self._unused(self)


def _reason(error: OSError) -> str:
    """The system's words: "Connection refused", where asyncio says "Connect call failed"."""
    if isinstance(error, socket.gaierror):
        return describe(error)
    if error.errno:
        return os.strerror(error.errno)
    # A name with several addresses: asyncio puts what each of them met into one text.
    numbers = dict.fromkeys(re.findall(r"\[Errno (\d+)\]", str(error)))
    return " / ".join(os.strerror(int(number)) for number in numbers) or describe(error)
