"""The frontend's end: subjects that are waited for, and the streams of workers that called home."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from reqplane.errors import WireError
from reqplane.interfaces import Host, PendingStream
from reqplane.model import Annotated, Broken, ConnectionInfo, End, Event, Part, Prologue, SharedOffer
from reqplane.wire import shared
from reqplane.wire.frame import take_first

from reqplane_tcp_stream.connection import Connection

_STARTED = Prologue()
_WHOLE = End()
_OPENING_TIME = 5.0
"""Seconds from connecting to a complete opening frame."""


class Subjects:
    """The streams that are waited for, by the secret that lets a worker claim one."""

    def __init__(self, host: Host) -> None:
        self.offer = SharedOffer(host.process, host.limits.stream_window_bytes)
        self.address = ""
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[bytes, PendingTcpStream] = {}
        self._random = b""
        self._random_at = 0

    def expect(self, request_id: str) -> PendingTcpStream:
        """Reserve a subject for one attempt."""
        key = self._draw()
        text = key.hex()
        subject = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
        info = ConnectionInfo(self.address, subject, request_id, self.offer)
        stream = self._waiting[key] = PendingTcpStream(self, key, info, self._loop)
        return stream

    def claim(self, key: bytes) -> PendingTcpStream | None:
        """Give the stream out, once."""
        return self._waiting.pop(key, None)

    def forget(self, key: bytes) -> None:
        self._waiting.pop(key, None)

    def close(self) -> None:
        for stream in list(self._waiting.values()):
            stream.close()

    def _draw(self) -> bytes:
        """A random uuid (version 4), from a stock of random bytes: one system call for 256 of them."""
        if self._random_at >= len(self._random):
            self._random, self._random_at = os.urandom(16 * 256), 0
        raw = bytearray(self._random[self._random_at : self._random_at + 16])
        self._random_at += 16
        raw[6] = raw[6] & 0x0F | 0x40
        raw[8] = raw[8] & 0x3F | 0x80
        return bytes(raw)


class PendingTcpStream(PendingStream):
    """One attempt's answer, from its subject to its end."""

    __slots__ = (
        "_connection",
        "_handed",
        "_key",
        "_loop",
        "_number",
        "_over",
        "_parts",
        "_stopped",
        "_subjects",
        "_unread",
        "_used",
        "_waiter",
        "_window",
        "enveloped",
        "info",
        "opened",
    )

    def __init__(
        self, subjects: Subjects, key: bytes, info: ConnectionInfo, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.info = info
        self.opened = loop.create_future()
        self.enveloped = False
        self._subjects = subjects
        self._key = key
        self._loop = loop
        self._window = subjects.offer.window
        self._connection: FrontendConnection | None = None
        self._number = 0
        self._parts: list[Part] = []
        self._unread = 0  # bytes in _parts
        self._handed = 0  # bytes that the application got with the last receive
        self._used = 0  # bytes it has consumed and that were not given back as credit yet
        self._over = False
        self._stopped = False  # before the worker has called home
        self._waiter: asyncio.Future[None] | None = None

    # ── the core's side ──

    async def receive(self) -> list[Part]:
        self._give_credit()
        while not self._parts:
            if self._over:
                return [Broken("the stream has ended already")]
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        parts, self._parts = self._parts, []
        self._handed, self._unread = self._unread, 0
        return parts

    def _give_credit(self) -> None:
        """What the last `receive` handed out has been consumed by now."""
        self._used += self._handed
        self._handed = 0
        if self._used * 2 >= self._window and not self._over and self._connection is not None:
            self._connection.send(shared.CREDIT, self._number, shared.credit_body(self._used))
            self._used = 0

    def stop(self) -> None:
        if self._connection is None:
            self._stopped = True
        elif not self._over:
            self._connection.send(shared.STOP, self._number, urgent=True)

    def kill(self) -> None:
        self._end("it was killed here")

    def close(self) -> None:
        self._end("it was closed here")
        self.opened.cancel()

    def _end(self, reason: str) -> None:
        """Let the worker give up, now or when it calls home."""
        if self._over:
            return
        if self._connection is None:
            self._subjects.forget(self._key)
        else:
            self._connection.send(shared.KILL, self._number, urgent=True)
            self._connection.drop(self._number)
        self.finish(Broken(reason))

    # ── the connection's side ──

    def open(self, connection: FrontendConnection, number: int) -> None:
        """The worker has called home."""
        self._connection, self._number = connection, number
        if self._stopped:
            connection.send(shared.STOP, number)
        if not self.opened.done():
            self.opened.set_result(None)

    def item(self, body: bytes | bytearray) -> None:
        self._parts.append(body)
        self._unread += len(body)
        self._wake()

    def event(self, event: Event, size: int = 0) -> None:
        self._parts.append(event)
        self._unread += size
        self._wake()

    def finish(self, event: Event) -> None:
        """The last event; idempotent."""
        if not self._over:
            self._over = True
            self.event(event)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class FrontendConnection(Connection):
    """One worker process's shared connection.

    `proven` is called when its opening was right; until then at most 4 KiB and 5 s are granted.
    """

    def __init__(
        self,
        host: Host,
        subjects: Subjects,
        opened: Callable[[FrontendConnection], None],
        gone: Callable[[FrontendConnection], None],
    ) -> None:
        super().__init__(host)
        self._subjects = subjects
        self._opened, self._gone = opened, gone
        self._streams: dict[int, PendingTcpStream] = {}
        self._highest = 0
        self._first = b""
        self.worker: int | None = None
        self._deadline = host.timers.at(self._loop.time() + _OPENING_TIME, self._too_slow)

    @property
    def proven(self) -> bool:
        return self.worker is not None

    def data_received(self, data: bytes) -> None:
        if self.proven or self.lost:
            super().data_received(data)
            return
        self._first += data
        try:
            frame = take_first(self._first, shared.OPENING_LIMIT)
            if frame is not None:
                self._open(*frame)
        except WireError as error:
            self.give_up(str(error))

    def _open(self, header: bytes, body: bytes, rest: bytes) -> None:
        opening = shared.read_opening(header, body)
        if opening.process != self._host.process:
            self.give_up("a worker called for another process, perhaps this one's predecessor")
            return
        self._deadline.cancel()
        self.worker, self._first = opening.worker, b""
        assert self._transport is not None
        self._transport.write(shared.welcome(int(self._host.limits.heartbeat * 1000)))
        self.start_heartbeat(self._host.limits.heartbeat)
        self._opened(self)
        if rest:
            super().data_received(rest)

    def _too_slow(self) -> None:
        self.give_up(f"no opening within {_OPENING_TIME:g} s")

    def frames_received(self, frames: list[tuple[int, int, bytes | bytearray]]) -> None:
        streams = self._streams
        for kind, number, body in frames:
            if kind == shared.ITEM:
                stream = streams.get(number)
                if stream is not None:
                    stream.item(body)
                elif number > self._highest:
                    self.send(shared.KILL, number)
            elif number:
                self._stream_frame(kind, number, body)
            elif kind == shared.PING:
                self.answer_ping()
            elif kind == shared.REPORT:
                self._report(body)

    def _stream_frame(self, kind: int, number: int, body: bytes | bytearray) -> None:
        if kind == shared.OPEN:
            self._open_stream(number, bytes(body))
            return
        stream = self._streams.get(number)
        if stream is None:
            if number > self._highest and kind != shared.KILL:  # or two such sides would never end
                self.send(shared.KILL, number)
        elif kind == shared.PROLOGUE:
            self._prologue(stream, number, body)
        elif kind == shared.ANNOTATED:
            stream.event(Annotated(body), len(body))
        elif kind == shared.END:
            del self._streams[number]
            stream.finish(End(body) if body else _WHOLE)
            if body:
                self._report(body)
        elif kind == shared.KILL:
            del self._streams[number]
            stream.finish(Broken("the worker gave the stream up"))

    def _open_stream(self, number: int, subject: bytes) -> None:
        if number <= self._highest:
            raise WireError(f"stream {number} was opened after {self._highest}")
        self._highest = number
        stream = self._subjects.claim(subject)
        if stream is None:
            self.send(shared.KILL, number)
        else:
            self._streams[number] = stream
            stream.open(self, number)

    def _prologue(self, stream: PendingTcpStream, number: int, body: bytes | bytearray) -> None:
        if not body:
            stream.event(_STARTED)
            return
        del self._streams[number]
        stream.finish(Prologue(body.decode(errors="replace")))

    def _report(self, body: bytes | bytearray) -> None:
        """A report that can't be read costs nobody an answer."""
        assert self.worker is not None
        try:
            load = shared.read_load(body)
        except WireError as error:
            self._host.log.warning("a worker's load report is left out: %s", error)
        else:
            self._host.reported(self.worker, load)

    def drop(self, number: int) -> None:
        """Forget a stream; what still comes for it is ignored."""
        self._streams.pop(number, None)

    def closed(self, reason: str) -> None:
        self._deadline.cancel()
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.finish(Broken(reason))
        if not self.proven:
            self._host.log.info("a connection to the response listener was refused: %s", reason)
        self._gone(self)
