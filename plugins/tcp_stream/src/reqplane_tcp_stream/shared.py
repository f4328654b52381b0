"""One shared connection, the part that both ends have in common: writing, reading, heartbeat.

Writes are gathered.  What is written to a connection that was idle goes out at once; what follows within
the same turn of the event loop goes out together at the turn's end, so under load a system call carries
the items of many streams, and alone an item waits for nothing.
"""

from __future__ import annotations

import contextlib

from reqplane.errors import WireError
from reqplane.interfaces import Host, Timer
from reqplane.model import Body
from reqplane.wire.shared import BYE, KILL, PING, PONG, SharedDecoder, head

from reqplane_tcp_stream.connection import Connection

_SEND_ALONE_FROM = 64 * 1024
"""A body of this size is handed to the transport by itself: gathering it would copy it."""
_MOST_UNREAD = 1024 * 1024
"""Bytes of answers that may wait for a peer that provokes them and does not read them."""


class SharedConnection(Connection):
    """After the opening: frames out, frames in.  Subclasses say what a frame means."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._decoder = SharedDecoder(host.limits.max_frame_bytes)
        self._out: list[Body] = []
        self._armed = False
        self._heard = self._loop.time()
        self._checked = self._heard
        self._silent = 0.0
        self._beat = 0.0
        self._pulse: Timer | None = None

    # ── writing ──

    def send(self, kind: int, stream: int, body: Body = b"", urgent: bool = False) -> None:
        """Write one frame.  `urgent`: at once, if nothing else is waiting to go out.

        The caller sees to it that the body is not too large: the peer would give the connection up, with
        everybody's streams.
        """
        size = len(body)
        if size >= _SEND_ALONE_FROM:
            self._send_alone(head(kind, stream, size), body)
        else:
            self._out.append(head(kind, stream, size))
            if size:
                self._out.append(body)
        if not self._armed:
            self._armed = True
            self._loop.call_soon(self._end_of_turn)
            if urgent:
                self.flush()

    def flush(self) -> None:
        """Hand all that was gathered to the socket.

        Joined, not by `writelines`: that one forgets to pause the protocol in Python 3.12.0 to 3.12.8 and
        3.13.0 to 3.13.1.
        """
        out = self._out
        if out and self._transport is not None:
            self._out = []
            if not self.lost:
                self._transport.write(b"".join(out))

    def _end_of_turn(self) -> None:
        if self._out:
            self.flush()
            self._loop.call_soon(self._end_of_turn)  # still busy: go on gathering for one more turn
        else:
            self._armed = False

    def _send_alone(self, prefix: bytes, body: Body) -> None:
        self._out.append(prefix)
        self.flush()
        if self._transport is not None and not self.lost:
            self._transport.write(body)

    def refuse(self, number: int) -> None:
        """There is no such stream, or not any more."""
        if self.writable or self._waiting() < _MOST_UNREAD:
            self.send(KILL, number)
        else:
            self.give_up("the peer does not read what it is answered")

    def _waiting(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    # ── reading ──

    def data_received(self, data: bytes) -> None:
        if self.lost:
            return
        self._heard = self._loop.time()
        try:
            self.frames_received(self._decoder.feed(data))
            if self._decoder.failed is not None:
                raise self._decoder.failed
        except WireError as error:
            self.give_up(f"the peer broke the rules of the wire: {error}")

    def frames_received(self, frames: list[tuple[int, int, bytes | bytearray]]) -> None:
        """Act on frames, in order."""
        raise NotImplementedError

    # ── heartbeat ──

    def start_heartbeat(self, beat: float) -> None:
        """From now on notice a peer that has gone silent; it is asked after every `beat` seconds of that.

        It is asked at least twice before it is given up, however the times are set.
        """
        self._beat = min(beat, self._host.limits.stream_dead_after / 3)
        self._heard = self._checked = self._loop.time()
        self._pulse = self._host.timers.at(self._checked + self._beat, self._check)

    def _check(self) -> None:
        """Ping a silent peer; give it up after `stream_dead_after` of silence.

        Time in which our own loop stood still is not held against the peer: no check adds more than one
        beat to its silence.
        """
        now, beat = self._loop.time(), self._beat
        if self._heard >= self._checked:
            self._silent = min(now - self._heard, beat)
        else:
            self._silent += beat
        self._checked = now
        if self._silent >= self._host.limits.stream_dead_after:
            self._pulse = self._host.timers.at(now, self._last_look)
            return
        if self._silent >= beat / 2:
            self.send(PING, 0)
        self._pulse = self._host.timers.at(now + beat, self._check)

    def _last_look(self) -> None:
        """A turn later: what came while our own loop stood still has been read by now.

        Some loops run timers before they read.
        """
        if self._heard >= self._checked:
            self._check()
        else:
            self.give_up(f"nothing came for {self._host.limits.stream_dead_after:g} s")

    def answer_ping(self) -> None:
        if self.writable:  # else the peer has enough to hear, and may not be reading at all
            self.send(PONG, 0)

    # ── its end ──

    def close(self, reason: str) -> None:
        """Only our direction, the peer closes the other: closing a socket for which something unread has
        come would throw away what is still on its way out."""
        if self.lost:
            return
        if self._pulse is not None:  # it has been opened
            self.send(BYE, 0)
        self.flush()
        self.lost = True
        self.closed(reason)
        if self._transport is not None and not self._transport.is_closing():
            with contextlib.suppress(OSError):  # the peer has reset it, which we have not read yet
                self._transport.write_eof()

    def hang_up(self, reason: str) -> None:
        """Close without waiting for the peer to close too; the system delivers what it has been given."""
        self.close(reason)
        if self._waiting():
            self.cut()
        elif self._transport is not None:
            self._transport.close()

    def closed(self, reason: str) -> None:
        if self._pulse is not None:
            self._pulse.cancel()
        self._out.clear()
