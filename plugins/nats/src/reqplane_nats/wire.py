"""One TCP connection to a NATS server: cut into messages and lines as the bytes come.

Messages go to their handlers in the same turn of the loop, without a queue, a task or an object for each.
All other lines, except the answers to pings of ours, are left for nats-py, which logs in and keeps the
connection alive.  What is written in one turn goes out as one piece.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from reqplane.model import Body

Handler: TypeAlias = Callable[[bytes, bytes, bytes, bytes], None]
"""Takes a message: its subject, where to reply (empty: nowhere), its header block (or empty), its payload."""

_PING = b"PING\r\n"
_MOST_LINE = 1024 * 1024
_MOST_UNSENT = 4 * 1024 * 1024
"""Bytes that may wait in this process before `full` is set."""
_M, _H, _I, _P, _MINUS, _O = b"MHIP-O"


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

    def lost(self, wire: Wire) -> None:
        """The connection is over."""


class Wire(asyncio.Protocol):
    """The connection."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._handlers = owner.handlers
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.full = False
        """Too much waits to be sent."""
        self.over: asyncio.Future[None] = self._loop.create_future()
        """Done when the connection is gone."""
        self.failure: Exception | None = None
        """What it went of, where the system tells."""
        self._parts: list[bytes] = []  # of what is not whole yet
        self._missing = 0
        self._lines: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._pings: deque[asyncio.Future[None] | None] = deque()  # None: nats-py's own
        self._out: list[Body] = []
        self._flushing = False

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
        self._parts.clear()
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

    def data_received(self, data: bytes) -> None:
        if self._parts:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        try:
            rest, self._missing = self._cut(data)
        except (ValueError, IndexError) as error:
            self._owner.complained(f"it sent what is not NATS: {error}")
            self.abort()
            return
        if rest < len(data):
            self._parts.append(data[rest:] if rest else data)
        if self._out:
            self.flush()

    def _cut(self, data: bytes) -> tuple[int, int]:
        """Hand over what is whole; where the rest starts, and how many bytes it lacks at least."""
        handlers = self._handlers
        at, size = 0, len(data)
        while at < size:
            end = data.find(b"\r\n", at)
            if end < 0:
                if size - at > _MOST_LINE:
                    raise ValueError("a line without an end")
                return at, 1
            kind = data[at]
            if kind in (_M, _H):
                words = data[at:end].split()
                start = end + 2
                stop = start + int(words[-1])
                if stop + 2 > size:
                    return at, stop + 2 - size
                handler = handlers.get(words[2])
                at = stop + 2
                if handler is None:
                    continue  # unsubscribed meanwhile
                if kind == _M:
                    handler(words[1], words[3] if len(words) == 5 else b"", b"", data[start:stop])
                else:
                    body = start + int(words[-2])
                    reply = words[3] if len(words) == 6 else b""
                    handler(words[1], reply, data[start:body], data[body:stop])
            else:
                self._line(kind, data[at : end + 2])
                at = end + 2
        return at, 0

    def _line(self, kind: int, line: bytes) -> None:
        if kind == _P and line == b"PONG\r\n" and self._pings:
            ping = self._pings.popleft()
            if ping is not None:
                if not ping.done():
                    ping.set_result(None)
                return
        elif kind == _I:
            self._owner.informed(json.loads(line[5:]))
        elif kind == _MINUS:
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
        self.write(piece)

    def flush(self) -> None:
        """Hand over to the system what was written."""
        self._flushing = False
        if not self._out or self.transport is None:
            return
        out, self._out = self._out, []
        if len(out) == 1:
            self.transport.write(out[0])
        else:
            self.transport.writelines(out)


def subscribe(subject: str, queue: str, number: bytes) -> bytes:
    """The line that subscribes."""
    return b"SUB %s %s %s\r\n" % (subject.encode(), queue.encode(), number)


def publish(subject: bytes, payload: Body) -> Sequence[Body]:
    """A message without headers."""
    return b"PUB %s %d\r\n" % (subject, len(payload)), payload, b"\r\n"
