"""One TCP connection, from made to lost, whatever is spoken on it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Collection
from typing import cast

from reqplane.interfaces import Host
from reqplane.model import Body

LINGER = 2.0
"""Seconds that a peer has to take what was written before the close."""
_SEND_ALONE_FROM = 64 * 1024
"""A body of this size is not copied to stand behind its prefix."""
_PROBES = 3
"""How often the system asks a silent peer, within the time after which it is given up."""


class Connection(asyncio.Protocol):
    """What all connections here have in common.  Subclasses say what bytes mean."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.writable = True
        self.lost = False
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Done when the socket is closed."""

    # ── asyncio.Protocol ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self.lost:  # given up before it stood
            self._transport.abort()

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True

    def eof_received(self) -> None:
        self.give_up("the peer closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        self.give_up(f"the connection was lost: {exc}" if exc else "the connection was closed")
        if not self.ended.done():
            self.ended.set_result(None)

    # ── for subclasses ──

    def write_frame(self, head: bytes, body: Body = b"") -> None:
        """Write at once; on a connection that is closing it goes nowhere."""
        assert self._transport is not None
        if len(body) < _SEND_ALONE_FROM:
            self._transport.write(b"".join((head, body)))
        else:
            self._transport.write(head)
            self._transport.write(body)

    def closed(self, reason: str) -> None:
        """The connection is gone; called once."""
        raise NotImplementedError

    # ── its end ──

    def give_up(self, reason: str) -> None:
        """Close at once; idempotent."""
        if self.lost:
            return
        self.lost = True
        self.closed(reason)
        self.cut()

    def close(self, reason: str) -> None:
        """Close after what was written has gone out; idempotent.  `close_all` sees to it that this ends."""
        self.give_up(reason)

    def cut(self) -> None:
        """Close the socket now, after `close` too."""
        if self._transport is not None:
            self._transport.abort()

    def keep_alive(self) -> None:
        """Let the system notice a peer that has vanished, where the wire has no heartbeat."""
        assert self._transport is not None
        sock: socket.socket = self._transport.get_extra_info("socket")
        pause = max(1, int(self._host.limits.stream_dead_after / _PROBES))
        with contextlib.suppress(OSError):  # it is closed already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (
                ("TCP_KEEPIDLE", pause),
                ("TCP_KEEPALIVE", pause),  # macOS's name for it
                ("TCP_KEEPINTVL", pause),
                ("TCP_KEEPCNT", _PROBES - 1),
            ):
                option = getattr(socket, name, None)
                if option is not None:
                    sock.setsockopt(socket.IPPROTO_TCP, option, value)


async def close_all(connections: Collection[Connection], reason: str) -> None:
    """Close them, and return when their sockets are closed."""
    if not connections:
        return
    for connection in connections:
        connection.close(reason)
    ended = [connection.ended for connection in connections]
    try:
        await asyncio.wait(ended, timeout=LINGER)
    finally:
        for connection in connections:
            connection.cut()
    await asyncio.wait(ended, timeout=LINGER)
