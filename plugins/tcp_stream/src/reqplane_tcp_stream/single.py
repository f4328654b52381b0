"""Dynamo's form: a connection of its own for each stream, whose bodies the core has wrapped.

    worker     handshake ─► prologue ─► item … ─► end marker ─► sentinel
    frontend   "stop", "kill" whenever it wants; closes after the sentinel

The end marker is a body like the items, so only the core can tell it: here the sentinel is the end.  There
is no credit and no heartbeat on the wire: a slow reader's socket is not read, and the system asks a peer
that has gone silent whether it is still there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from reqplane.errors import FrameTooLarge, WireError
from reqplane.interfaces import HomeStream, Host, Timer
from reqplane.model import Broken, Control, End, Part, Prologue
from reqplane.wire import response
from reqplane.wire.frame import FrameDecoder

from reqplane_tcp_stream.connection import LINGER, Connection
from reqplane_tcp_stream.inbox import WHY
from reqplane_tcp_stream.pending import PendingTcpStream
from reqplane_tcp_stream.single_request import RequestHome

_CONTROL_LIMIT = 1024
"""Bytes of what a frontend writes back: "stop" and "kill" have 30."""
_TAIL_TIME = 600.0
"""Seconds that a frontend has to read the last of an answer; the handler is long done."""


class SingleFrontend(Connection):
    """The frontend's end: one worker's answer to one request."""

    def __init__(self, host: Host, stream: PendingTcpStream, gone: Callable[[SingleFrontend], None]) -> None:
        super().__init__(host)
        self._stream = stream
        self._gone = gone
        self._reader = response.ResponseReader(host.limits.max_frame_bytes)
        self._paused = False
        self._deaf = False  # nothing that comes is wanted any more
        self._last: Timer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.keep_alive()
        self._stream.open(self, 0, enveloped=True)

    @property
    def sink(self) -> None:
        """A request that is a stream has a connection of its own (reqplane_tcp_stream.single_request)."""

    # ── what the worker says ──

    def data_received(self, data: bytes) -> None:
        if self._deaf or self.lost:
            return
        try:
            for part in self._reader.feed(data):
                if not self._deaf:
                    self._part(part)
            if self._reader.failed is not None:
                raise self._reader.failed
        except WireError as error:
            self.give_up(f"the worker broke the rules of the wire: {error}")
        else:
            self._hold_back()

    def _part(self, part: Part) -> None:
        if isinstance(part, bytes | bytearray):
            self._stream.part(part, len(part) or 1)
        elif isinstance(part, End) or (isinstance(part, Prologue) and part.error is not None):
            self._deaf = True
            self._stream.finish(part)
            assert self._transport is not None
            self._transport.close()
        else:
            self._stream.part(part)

    def _hold_back(self) -> None:
        """While the application has a window unread, what more comes stays with the worker."""
        if self._stream.full and not self._paused and self._transport is not None:
            self._paused = not self._transport.is_closing()
            if self._paused:
                self._transport.pause_reading()

    # ── what the stream says ──

    def credit(self, number: int, amount: int) -> None:
        if self._paused and not self._stream.full:
            self._read_on()

    def stop(self, number: int) -> None:
        self._write(Control.STOP)

    def kill(self, number: int) -> None:
        """Nothing more is wanted; the worker has a little time to hear of it and close."""
        self._deaf = True
        self._write(Control.KILL)
        self._last = self._host.timers.at(self._loop.time() + LINGER, self.cut)
        if self._paused:
            self._read_on()

    def _write(self, control: Control) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(response.control(control))

    def _read_on(self) -> None:
        self._paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # ── its end ──

    def close(self, reason: str) -> None:
        """The frontend leaves: so must the worker."""
        if not self.lost:
            self._write(Control.KILL)
            self.lost = True
            self.closed(reason)
            if self._transport is not None:
                self._transport.close()

    def closed(self, reason: str) -> None:
        if self._last is not None:
            self._last.cancel()
        self._stream.finish(Broken(reason))
        self._gone(self)


class SingleHomeStream(Connection, HomeStream):
    """The worker's end: one answer on its way home.  `request` is the request's, where that is a stream."""

    def __init__(
        self,
        host: Host,
        subject: str,
        gone: Callable[[SingleHomeStream], None],
        request: RequestHome | None = None,
    ) -> None:
        super().__init__(host)
        self.enveloped = True
        self._subject = subject
        self._request = request
        self._gone = gone
        self._limit = host.limits.max_frame_bytes
        self._decoder = FrameDecoder(_CONTROL_LIMIT)
        self._control: Callable[[Control], None] | None = None
        self._stopped = False  # before anybody could be told
        self._over = False
        self._ready: asyncio.Future[None] | None = None
        self._last: Timer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self.lost:
            self.keep_alive()
            self.write_frame(response.handshake(self._subject))

    def start(self, control: Callable[[Control], None]) -> None:
        """From now on tell `control` what the frontend says, and if it has said something already."""
        self._control = control
        if self._stopped:
            self._told(Control.STOP)
        if self._request is not None:
            self._request.start(self._told)

    # ── the core's side ──

    def prologue(self, error: str | None) -> None:
        if self._over:
            return
        if error is None:
            self.write_frame(response.prologue(None))
        else:
            self.write_frame(response.prologue(error or "the handler could not be started"))
            self._await_close()

    def write(self, body: bytes, annotated: bool = False) -> bool:
        if self._over:  # the control callback has told so
            return True
        if len(body) > self._limit:
            raise FrameTooLarge(len(body), self._limit, "DYN_MAX_FRAME_BYTES sets the limit")
        self.write_frame(*response.item(body))
        return self.writable

    async def ready(self) -> None:
        while not self._over and not self.writable:
            self._ready = self._loop.create_future()
            try:
                await self._ready
            finally:
                self._ready = None

    def end(self, body: bytes = b"") -> None:
        if self._over:
            return
        if body:
            self.write_frame(*response.item(body))
        self.write_frame(response.sentinel())
        self._await_close()

    def abort(self) -> None:
        """What was written still goes out, then the connection closes without the end."""
        if not self._over:
            self._over = True
            self._close()
            self._request_over("its answer has ended")

    async def receive(self) -> list[Part]:
        if self._request is None:
            return await super().receive()
        return await self._request.receive()

    def _request_over(self, reason: str) -> None:
        if self._request is not None:
            self._request.finish(reason)

    # ── what the frontend says ──

    def data_received(self, data: bytes) -> None:
        if self._over or self.lost:
            return
        try:
            for header, body in self._decoder.feed(data):
                self._told(response.read_control(header, body))
            if self._decoder.failed is not None:
                raise self._decoder.failed
        except WireError as error:
            self.give_up(f"the frontend broke the rules of the wire: {error}")

    def _told(self, control: Control) -> None:
        """STOP leaves the stream open; after KILL and GONE nothing that is written goes anywhere."""
        if self._over:
            return
        if control is Control.STOP:
            self._stopped = True
        else:
            self._over = True
        self._wake()
        self._request_over(WHY[control])
        if self._control is not None:
            try:
                self._control(control)
            except Exception:
                self._host.log.exception("telling a handler %s failed", control.name)
        if control is Control.KILL:
            self.give_up("the frontend gave the stream up")

    def resume_writing(self) -> None:
        super().resume_writing()
        self._wake()

    def _wake(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    # ── its end ──

    def eof_received(self) -> None:
        """After the end the frontend may close; what it has not read yet still goes out."""
        if not self._over:
            super().eof_received()

    def _await_close(self) -> None:
        """The answer is whole: the frontend closes; if it forgets to, we do."""
        self._over = True
        self._request_over("its answer has ended")
        self._last = self._host.timers.at(self._loop.time() + LINGER, self._close)

    def _close(self) -> None:
        """Close once everything is written, however slowly the frontend reads."""
        assert self._transport is not None
        if self._last is not None:
            self._last.cancel()
        self._last = self._host.timers.at(self._loop.time() + _TAIL_TIME, self.cut)
        self._transport.close()

    def close(self, reason: str) -> None:
        if not self.lost:
            self._told(Control.GONE)
            self._close()

    def closed(self, reason: str) -> None:
        if self._last is not None:
            self._last.cancel()
        self._told(Control.GONE)
        self._gone(self)
