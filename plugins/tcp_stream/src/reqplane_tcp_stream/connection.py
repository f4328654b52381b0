"""One shared connection, the part that both ends have in common: writing, reading, heartbeat, loss.

Writes are gathered.  What is written to a connection that was idle goes out at once; what follows within
the same turn of the event loop goes out together at the turn's end, so under load a system call carries
the items of many streams, and alone an item waits for nothing.
"""

from __future__ import annotations

import asyncio
from typing import cast

from reqplane.errors import WireError
from reqplane.interfaces import Host, Timer
from reqplane.model import Body
from reqplane.wire.shared import PING, PONG, SharedDecoder, head

_SEND_ALONE_FROM = 64 * 1024
"""A body of this size is handed to the transport by itself: gathering it would copy it."""


class Connection(asyncio.Protocol):
    """After the opening: frames out, frames in.  Subclasses say what a frame means."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._decoder = SharedDecoder(host.limits.max_frame_bytes)
        self._out: list[Body] = []
        self._armed = False
        self.writable = True
        self.lost = False
        self._heard = self._loop.time()
        self._checked = self._heard
        self._silent = 0.0
        self._pulse: Timer | None = None

    # ── writing ──

    def send(self, kind: int, stream: int, body: Body = b"", urgent: bool = False) -> None:
        """Write one frame.  `urgent`: at once, if nothing else is waiting to go out."""
        out = self._out
        out.append(head(kind, stream, len(body)))
        if body:
            if len(body) >= _SEND_ALONE_FROM:
                self._send_alone(body)
            else:
                out.append(body)
        if not self._armed:
            self._armed = True
            self._loop.call_soon(self._end_of_turn)
            if urgent:
                self.flush()

    def flush(self) -> None:
        """Hand all that was gathered to the socket."""
        out = self._out
        if out and self._transport is not None:
            self._out = []
            if not self.lost:
                self._transport.writelines(out)

    def _end_of_turn(self) -> None:
        if self._out:
            self.flush()
            self._loop.call_soon(self._end_of_turn)  # still busy: go on gathering for one more turn
        else:
            self._armed = False

    def _send_alone(self, body: Body) -> None:
        self.flush()
        if self._transport is not None and not self.lost:
            self._transport.write(body)

    # ── asyncio.Protocol ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        try:
            self.frames_received(self._decoder.feed(data))
        except WireError as error:
            self.give_up(f"the peer broke the rules of the wire: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self.give_up(f"the connection was lost: {exc}" if exc else "the connection was closed")

    # ── for subclasses ──

    def frames_received(self, frames: list[tuple[int, int, bytes | bytearray]]) -> None:
        """Act on frames, in order."""
        raise NotImplementedError

    def closed(self, reason: str) -> None:
        """The connection is gone; called once."""
        raise NotImplementedError

    # ── its life ──

    def start_heartbeat(self) -> None:
        """From now on notice a peer that has gone silent."""
        self._heard = self._checked = self._loop.time()
        self._pulse = self._host.timers.at(self._checked + self._host.limits.heartbeat, self._check)

    def _check(self) -> None:
        """Ping a silent peer; give it up after `stream_dead_after` of silence.

        Time in which our own loop stood still is not held against the peer: no check adds more than two
        heartbeats to its silence.
        """
        if self.lost:
            return
        now, beat = self._loop.time(), self._host.limits.heartbeat
        since = self._checked
        self._checked = now
        if self._heard >= since:
            self._silent = min(now - self._heard, beat)
        else:
            self._silent += min(now - since, 2 * beat)
        if self._silent >= self._host.limits.stream_dead_after:
            self.give_up(f"nothing came for {self._host.limits.stream_dead_after:g} s")
            return
        if self._silent >= beat / 2:
            self.send(PING, 0)
        self._pulse = self._host.timers.at(now + beat, self._check)

    def answer_ping(self) -> None:
        self.send(PONG, 0)

    def give_up(self, reason: str) -> None:
        """Close at once; idempotent."""
        if self.lost:
            return
        self.lost = True
        self._end(reason)
        if self._transport is not None:
            self._transport.abort()

    def close(self, reason: str) -> None:
        """Close after what was written has gone out; idempotent."""
        if self.lost:
            return
        self.flush()
        self.lost = True
        self._end(reason)
        if self._transport is not None:
            self._transport.close()

    def _end(self, reason: str) -> None:
        if self._pulse is not None:
            self._pulse.cancel()
        self._out.clear()
        self.closed(reason)
