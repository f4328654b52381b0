"""The worker's end of a shared connection, and the streams that handlers write to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from reqplane.errors import FrameTooLarge, WireError
from reqplane.interfaces import HomeStream, Host
from reqplane.model import Broken, Control, End, Part, SharedOffer
from reqplane.wire import shared
from reqplane.wire.frame import take_first

from reqplane_tcp_stream.dial import Key
from reqplane_tcp_stream.inbox import WHY, Inbox
from reqplane_tcp_stream.shared import SharedConnection

_LEAST_HEARTBEAT_MS = 50
"""However often a frontend wants to be asked whether it is there."""
_WHOLE = End()
_LONGEST_ERROR = 1000
"""Characters of the text that says why a handler could not start: within every limit, in any script."""


class HomeTcpStream(HomeStream):
    """One answer on its way home."""

    __slots__ = ("_connection", "_control", "_credit", "_largest", "_number", "_over", "_ready", "enveloped")

    def __init__(
        self,
        connection: WorkerConnection,
        number: int,
        offer: SharedOffer,
        control: Callable[[Control], None],
    ) -> None:
        self.enveloped = False
        self._connection = connection
        self._number = number
        self._credit = offer.window
        self._largest = connection.largest_for(offer)
        self._control = control
        self._over = False
        self._ready: asyncio.Future[None] | None = None

    def prologue(self, error: str | None) -> None:
        if self._over:
            return
        if error is None:
            self._connection.send(shared.PROLOGUE, self._number)
        else:  # an empty text would say that all is well
            text = error or "the handler could not be started"
            body = text[:_LONGEST_ERROR].encode(errors="replace")
            self._connection.send(shared.PROLOGUE, self._number, body)
            self._finish()

    def write(self, body: bytes, annotated: bool = False) -> bool:
        if self._over:  # the control callback has told so
            return True
        size = len(body)
        if size > self._largest:  # the frontend would give the connection up, with everybody's streams
            raise FrameTooLarge(
                size, self._largest, "the smaller DYN_MAX_FRAME_BYTES of worker and frontend sets the limit"
            )
        connection = self._connection
        connection.send(shared.ANNOTATED if annotated else shared.ITEM, self._number, body, True)
        self._credit -= size or 1
        return self._credit > 0 and connection.writable

    async def ready(self) -> None:
        while not self._over and (self._credit <= 0 or not self._connection.writable):
            self._ready = self._connection.waiter()
            try:
                await self._ready
            finally:
                self._ready = None

    def end(self, body: bytes = b"") -> None:
        if not self._over:
            self._connection.send(shared.END, self._number, body)
            self._finish()

    def abort(self) -> None:
        if not self._over:
            self._connection.send(shared.KILL, self._number)
            self._finish()

    def _finish(self) -> None:
        self._over = True
        self._connection.drop(self._number)

    # ── the connection's side ──

    def credit(self, amount: int) -> None:
        self._credit += amount
        self.wake()

    def told(self, control: Control) -> None:
        """STOP leaves the stream open; after KILL and GONE nothing that is written goes anywhere."""
        if control is not Control.STOP:
            self._over = True
        self.wake()
        try:
            self._control(control)
        except Exception:  # the other streams must not suffer
            self._connection.log.exception("telling a handler %s failed", control.name)

    def wake(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    def requested(self, body: bytes | bytearray) -> None:
        """An item of the request: of one that is no stream there are none."""

    def request_ended(self) -> None:
        """The request is whole."""


class StreamedHome(HomeTcpStream):
    """One answer to a request that is itself a stream."""

    __slots__ = ("_request",)

    def __init__(
        self,
        connection: WorkerConnection,
        number: int,
        offer: SharedOffer,
        control: Callable[[Control], None],
    ) -> None:
        super().__init__(connection, number, offer, control)
        self._request = _Request(self, offer.window, connection.loop)

    async def receive(self) -> list[Part]:
        return await self._request.receive()

    def _finish(self) -> None:
        super()._finish()
        self._request.finish(Broken("its answer has ended"))

    def give_credit(self, amount: int) -> None:
        if not self._over:
            self._connection.send(shared.CREDIT, self._number, shared.credit_body(amount))

    def overrun(self) -> None:
        """The frontend sends more than it may: it gets no answer, and the handler is cut off."""
        self.abort()
        self.told(Control.KILL)

    # ── the connection's side ──

    def told(self, control: Control) -> None:
        self._request.finish(Broken(WHY[control]))
        super().told(control)

    def requested(self, body: bytes | bytearray) -> None:
        self._request.item(body)

    def request_ended(self) -> None:
        self._request.finish(_WHOLE)


class _Request(Inbox):
    """What has come of a request."""

    __slots__ = ("_home",)

    def __init__(self, home: StreamedHome, window: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(window, loop)
        self._home = home

    def item(self, body: bytes | bytearray) -> None:
        if not self._over:
            super().item(body)

    def consumed(self, amount: int) -> None:
        self._home.give_credit(amount)

    def overrun(self) -> None:
        self.finish(Broken(f"the frontend sent more than the {self._window} bytes that may be unread"))
        self._home.overrun()


class WorkerConnection(SharedConnection):
    """This process's shared connection to one frontend process."""

    def __init__(self, host: Host, key: Key, gone: Callable[[WorkerConnection], None]) -> None:
        super().__init__(host)
        self.key = key
        self.log = host.log
        self._gone = gone
        self._first = b""
        self.welcomed: asyncio.Future[None] = self._loop.create_future()
        self._streams: dict[int, HomeTcpStream] = {}
        self._last = 0
        self.last_used = self._loop.time()
        self.leaving = False
        """The frontend takes no new streams here."""

    # ── opening ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self._transport is not None
        if not self.lost:
            largest = self._host.limits.max_frame_bytes
            self._transport.write(shared.opening(self.key[1], self._host.incarnation, largest))

    def data_received(self, data: bytes) -> None:
        if self.lost or self.welcomed.done():
            super().data_received(data)
            return
        self._first += data
        try:
            frame = take_first(self._first, shared.OPENING_LIMIT)
            if frame is None:
                return
            header, body, rest = frame
            heartbeat_ms = shared.read_welcome(header, body)
        except WireError as error:
            self.give_up(str(error))
            return
        self._first = b""
        self.welcomed.set_result(None)
        self.start_heartbeat(max(heartbeat_ms, _LEAST_HEARTBEAT_MS) / 1000)
        if rest:
            super().data_received(rest)

    # ── streams ──

    @property
    def idle(self) -> bool:
        """It has no stream."""
        return not self._streams

    def open_stream(
        self,
        subject: bytes,
        offer: SharedOffer,
        control: Callable[[Control], None],
        *,
        streamed: bool = False,
    ) -> HomeTcpStream:
        """Claim a subject; `streamed`: the request is a stream itself."""
        self._last += 1
        self.last_used = self._loop.time()
        form = StreamedHome if streamed else HomeTcpStream
        stream = self._streams[self._last] = form(self, self._last, offer, control)
        self.send(shared.OPEN, self._last, subject, urgent=True)  # the handler may compute for long now
        return stream

    def largest_for(self, offer: SharedOffer) -> int:
        """The largest item that both sides take."""
        ours = self._host.limits.max_frame_bytes
        return ours if offer.max_frame is None else min(ours, offer.max_frame)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def waiter(self) -> asyncio.Future[None]:
        return self._loop.create_future()

    def drop(self, number: int) -> None:
        self._streams.pop(number, None)

    def frames_received(self, frames: list[tuple[int, int, bytes | bytearray]]) -> None:
        for kind, number, body in frames:
            if number:
                self._stream_frame(kind, number, body)
            elif kind == shared.PING:
                self.answer_ping()
            elif kind == shared.BYE:
                self.leaving = True

    def _stream_frame(self, kind: int, number: int, body: bytes | bytearray) -> None:
        stream = self._streams.get(number)
        if stream is None:
            if number > self._last and kind != shared.KILL:  # or two such sides would never end
                self.refuse(number)
        elif kind == shared.CREDIT:
            stream.credit(shared.read_credit(body))
        elif kind == shared.STOP:
            stream.told(Control.STOP)
        elif kind == shared.KILL:
            self.drop(number)
            stream.told(Control.KILL)
        elif kind == shared.ITEM:
            stream.requested(body)
        elif kind == shared.END:
            stream.request_ended()

    def resume_writing(self) -> None:
        super().resume_writing()
        for stream in list(self._streams.values()):
            stream.wake()

    def closed(self, reason: str) -> None:
        super().closed(reason)
        if not self.welcomed.done():
            self.welcomed.set_exception(
                ConnectionError(f"the frontend closed the connection ({reason}); it may have been restarted")
            )
            self.welcomed.exception()  # retrieved here too: nobody may be waiting any more
        self._gone(self)
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.told(Control.GONE)
