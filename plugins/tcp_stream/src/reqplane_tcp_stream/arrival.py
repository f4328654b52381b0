"""A connection to the frontend's listener that has not said yet what it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from reqplane.errors import WireError
from reqplane.interfaces import Host
from reqplane.wire import response, shared
from reqplane.wire.frame import take_first

from reqplane_tcp_stream.connection import Connection

First: TypeAlias = shared.Opening | response.Handshake

_TIME = 5.0
"""Seconds from connecting to a complete first frame."""


class Arrival(Connection):
    """Takes at most 4 KiB in at most 5 s for the first frame, which decides what the connection becomes.

    `admit` makes that other connection, or refuses with a WireError; `gone` is called when this one is over,
    either way.
    """

    def __init__(
        self, host: Host, admit: Callable[[First], Connection], gone: Callable[[Arrival], None]
    ) -> None:
        super().__init__(host)
        self._admit, self._gone = admit, gone
        self._data = b""
        self._deadline = host.timers.at(self._loop.time() + _TIME, self._too_slow)

    def data_received(self, data: bytes) -> None:
        if self.lost:
            return
        self._data += data
        try:
            frame = take_first(self._data, shared.OPENING_LIMIT)
            if frame is not None:
                header, body, rest = frame
                self._become(self._admit(read_first(header, body)), rest)
        except WireError as error:
            self.give_up(str(error))

    def _become(self, connection: Connection, rest: bytes) -> None:
        self.lost = True  # there is nothing to do here any more
        self._leave()
        assert self._transport is not None
        self._transport.set_protocol(connection)
        connection.connection_made(self._transport)
        if rest:
            connection.data_received(rest)

    def _too_slow(self) -> None:
        self.give_up(f"no opening within {_TIME:g} s")

    def _leave(self) -> None:
        self._deadline.cancel()
        self._data = b""
        self._gone(self)

    def closed(self, reason: str) -> None:
        self._leave()
        self._host.log.info("a connection to the response listener was refused: %s", reason)


def read_first(header: bytes, body: bytes) -> First:
    """A first frame: of a connection for many streams, or in Dynamo's form for one."""
    try:
        return shared.read_opening(header, body)
    except WireError as neither:
        try:
            return response.read_handshake(header, body)
        except WireError:
            raise neither from None
