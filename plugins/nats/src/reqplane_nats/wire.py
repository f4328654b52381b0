"""One TCP connection to a NATS server.

Messages go to their handlers as the bytes come (see cutter.py).  All other lines, except the answers to pings
of ours, are left for nats-py, which logs in and keeps the connection alive.  What is written in one turn of
the loop goes out as one piece.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Mapping
from typing import Any, cast

from reqplane.model import Body

from reqplane_nats.cutter import Cutter, Handler

_PING = b"PING\r\n"
_LARGE = 32 * 1024
"""Bytes of a piece that is not worth copying to save a system call."""
_MOST_UNSENT = 4 * 1024 * 1024
"""Bytes that may wait in this process before `full` is set."""


class Owner:
    """Who hears what happens to a connection."""

    handlers: Mapping[bytes, Handler]
    """By the number of their subscription."""
    log: logging.Logger

    def informed(self, info: Mapping[str, Any]) -> None:
        """The server told about itself."""

    def complained(self, problem: str) -> None:
        """The server told of an error."""

    def emptied(self) -> None:
        """There is room for writing again."""

    def alive(self) -> None:
        """Bytes have moved since nats-py asked last: a ping that has no answer yet waits behind others."""

    def lost(self, wire: Wire) -> None:
        """The connection is over."""


class Wire(asyncio.BufferedProtocol):
    """The connection."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.full = False
        """Too much waits to be sent."""
        self.over: asyncio.Future[None] = self._loop.create_future()
        """Done when the connection is gone."""
        self.failure: Exception | None = None
        """What it went of, where the system tells."""
        self._cutter = Cutter(owner.handlers, self._line)
        self._lines: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._pings: deque[asyncio.Future[None] | None] = deque()  # None: nats-py's own
        self._out: list[Body] = []
        self._flushing = False
        self._received = False  # since nats-py's last ping
        self._unsent = 0  # at nats-py's last ping

    # ── the connection ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.begin(cast(asyncio.Transport, transport))  # uvloop's is none by its class

    def begin(self, transport: asyncio.Transport) -> None:
        """Use this transport: the plain one, or later the one that encrypts."""
        self.transport = transport
        transport.set_write_buffer_limits(_MOST_UNSENT)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.over.done():
            return
        self.failure = exc
        self.over.set_result(None)
        for ping in self._pings:
            if ping is not None and not ping.done():
                ping.cancel()
        self._pings.clear()
        self._out.clear()
        self._wake_reader()
        self._owner.lost(self)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self._owner.emptied()

    def close(self) -> None:
        """Send what waits, then close."""
        self.flush()
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()

    # ── receiving ──

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._cutter.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self._received = True
        try:
            self._cutter.filled(nbytes)
        except (ValueError, IndexError) as error:
            self._owner.complained(f"it sent what is not NATS: {error}")
            self.abort()
            return
        if self._out:
            self.flush()

    def _line(self, line: bytes) -> None:
        kind = line[:1]
        if line == b"PONG\r\n" and self._pings:
            ping = self._pings.popleft()
            if ping is not None:
                if not ping.done():
                    ping.set_result(None)
                return
        elif kind == b"I":
            self._owner.informed(json.loads(line[5:]))
        elif kind == b"-":
            self._owner.complained(line[4:].decode("utf-8", "replace").strip().strip("'"))
        self._lines.append(line)
        self._wake_reader()

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def line(self) -> bytes:
        """The next line that is none of ours; empty at the end."""
        while not self._lines and not self.over.done():
            self._reader = self._loop.create_future()
            await self._reader
        return self._lines.popleft() if self._lines else b""

    @property
    def drained(self) -> bool:
        """The connection is gone and every line of it was read."""
        return self.over.done() and not self._lines

    # ── sending ──

    def write(self, *pieces: Body) -> None:
        """Send these bytes with whatever else is written in this turn."""
        if self.over.done():
            return
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)
        self._out += pieces

    def reply(self, piece: bytes) -> None:
        """The same for a handler while messages are handed over: it goes out at the end of that."""
        self._out.append(piece)

    def ping(self) -> asyncio.Future[None]:
        """Done when the server has dealt with everything written so far; cancelled if it is lost."""
        answered: asyncio.Future[None] = self._loop.create_future()
        if self.over.done():
            answered.cancel()
            return answered
        self._pings.append(answered)
        self.write(_PING)
        return answered

    def write_for_client(self, piece: bytes) -> None:
        """What nats-py writes; its pings have answers of their own."""
        if piece == _PING:
            self._pings.append(None)
            self._look_for_life()
        self.write(piece)

    def _look_for_life(self) -> None:
        unsent = 0 if self.transport is None else self.transport.get_write_buffer_size()
        if self._received or unsent < self._unsent:
            self._owner.alive()
        self._received, self._unsent = False, unsent

    def flush(self) -> None:
        """Hand over to the system what was written."""
        self._flushing = False
        if not self._out or self.transport is None:
            return
        out, self._out = self._out, []
        small: list[Body] = []
        for piece in out:  # not `writelines`, which in some versions of asyncio never pauses the protocol
            if len(piece) < _LARGE:
                small.append(piece)
                continue
            if small:
                self.transport.write(b"".join(small))
                small.clear()
            self.transport.write(piece)
        if small:
            self.transport.write(b"".join(small))


def subscribe(subject: str, queue: str, number: bytes) -> bytes:
    """The line that subscribes."""
    return b"SUB %s %s %s\r\n" % (subject.encode(), queue.encode(), number)
