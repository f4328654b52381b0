"""Dynamo's form of a request that is itself a stream: one more connection, from which the worker reads.

    worker     handshake
    frontend   item … ─► "sentinel"; or "stop" or "kill", where no more comes of it

What the items mean for the answer, the answer's own connection says (reqplane_tcp_stream.single).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from reqplane.errors import WireError
from reqplane.interfaces import Host, Timer
from reqplane.model import Body, Broken, Control, End, Part
from reqplane.wire import response
from reqplane.wire.frame import PREFIX_BYTES, FrameDecoder

from reqplane_tcp_stream.connection import LINGER, Connection
from reqplane_tcp_stream.inbox import WHY, Inbox
from reqplane_tcp_stream.outgoing import SendingTcpStream


class RequestFrontend(Connection):
    """The frontend's end: the items of one request on their way out.

    It is held open until the worker closes it or the answer is over: a system that delivers for a closed
    socket does so for a while only, and the worker may read slowly.
    """

    has_credit = False

    def __init__(self, host: Host, stream: SendingTcpStream, gone: Callable[[RequestFrontend], None]) -> None:
        super().__init__(host)
        self.largest = host.limits.max_frame_bytes
        self._stream = stream
        self._gone = gone
        self._ended = False
        self._last: Timer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.keep_alive()
        self._stream.send_by(self)

    def data_received(self, data: bytes) -> None:
        """A worker has nothing to say here."""

    # ── what the stream says ──

    def request_item(self, number: int, body: Body) -> None:
        self.write_frame(*response.item(body))

    def request_end(self, number: int) -> None:
        self._ended = True
        self.write_frame(response.sentinel())

    def request_cut(self, number: int, control: Control) -> None:
        if not self._ended:
            self._ended = True
            self.write_frame(response.control(control))
            self._hang_up()
        elif control is Control.KILL:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._last is None and self._transport is not None:
            self._last = self._host.timers.at(self._loop.time() + LINGER, self.cut)
            self._transport.close()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stream.wake()

    # ── its end ──

    def close(self, reason: str) -> None:
        """The frontend leaves."""
        self.request_cut(0, Control.KILL)

    def closed(self, reason: str) -> None:
        self._ended = True
        self._stream.request_lost()
        if self._last is not None:
            self._last.cancel()
        self._gone(self)


class RequestHome(Connection):
    """The worker's end: what has come of one request, read no faster than the handler takes it."""

    def __init__(self, host: Host, subject: str, gone: Callable[[RequestHome], None]) -> None:
        super().__init__(host)
        self._subject = subject
        self._gone = gone
        self._decoder = FrameDecoder(host.limits.max_frame_bytes + PREFIX_BYTES)
        self._items = _Items(host.limits.stream_window_bytes, self._loop, self._read_on)
        self._control: Callable[[Control], None] | None = None
        self._said: Control | None = None  # before anybody could be told
        self._paused = False
        self._over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self.lost and self._transport is not None:
            self.keep_alive()
            self._transport.write(response.handshake(self._subject, "request"))

    def start(self, control: Callable[[Control], None]) -> None:
        """From now on tell `control` what the frontend says, and if it has said something already."""
        self._control = control
        if self._said is not None:
            control(self._said)

    async def receive(self) -> list[Part]:
        return await self._items.receive()

    def finish(self, reason: str) -> None:
        """No more of it is wanted."""
        self._items.finish(Broken(reason))
        self._hang_up()

    # ── what the frontend says ──

    def data_received(self, data: bytes) -> None:
        if self._over or self.lost:
            return
        try:
            for header, body in self._decoder.feed(data):
                self._came(response.read_requested(header, body))
                if self._over:
                    return
            if self._decoder.failed is not None:
                raise self._decoder.failed
        except WireError as error:
            self.give_up(f"the frontend broke the rules of the wire: {error}")
        else:
            self._hold_back()

    def _came(self, part: Part | Control) -> None:
        if isinstance(part, bytes | bytearray):
            self._items.part(part, len(part) or 1)
        elif isinstance(part, End):
            self._items.finish(part)
            self._hang_up()
        elif isinstance(part, Control):
            self._items.finish(Broken(WHY[part]))
            self._hang_up()
            self._said = part
            if self._control is not None:
                self._control(part)

    def _hold_back(self) -> None:
        if self._items.full and not self._paused and self._transport is not None:
            self._paused = not self._transport.is_closing()
            if self._paused:
                self._transport.pause_reading()

    def _read_on(self) -> None:
        if self._paused and not self._items.full and self._transport is not None:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    # ── its end ──

    def _hang_up(self) -> None:
        self._over = True
        if self._transport is not None:
            self._transport.close()

    def close(self, reason: str) -> None:
        self.finish(reason)

    def closed(self, reason: str) -> None:
        self._over = True
        self._items.finish(Broken(f"the request broke off: {reason}"))
        self._gone(self)


class _Items(Inbox):
    """What has come and is not read yet."""

    __slots__ = ("_read_on",)

    def __init__(self, window: int, loop: asyncio.AbstractEventLoop, read_on: Callable[[], None]) -> None:
        super().__init__(window, loop)
        self._read_on = read_on

    def consumed(self, amount: int) -> None:
        self._read_on()

    def overrun(self) -> None:
        """There is no credit on this wire: the socket holds back."""
