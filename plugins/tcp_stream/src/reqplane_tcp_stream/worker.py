"""The worker's end: calling home, and the streams that handlers write to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from reqplane.errors import CannotConnect, WireError, describe
from reqplane.interfaces import HomeStream, Host
from reqplane.model import ConnectionInfo, Control, Load
from reqplane.sockets import split_address
from reqplane.wire import shared
from reqplane.wire.frame import take_first

from reqplane_tcp_stream.connection import Connection, close_all

Key: TypeAlias = tuple[str, str]
"""What a connection leads to: a frontend's address and process."""

_CONNECT_TIME = 5.0
"""Seconds for the TCP connection and for the frontend's answer, together."""
_LEAST_HEARTBEAT_MS = 50
"""However often a frontend wants to be asked whether it is there."""


class HomeTcpStream(HomeStream):
    """One answer on its way home."""

    __slots__ = ("_connection", "_control", "_credit", "_number", "_over", "_ready", "enveloped")

    def __init__(
        self, connection: WorkerConnection, number: int, window: int, control: Callable[[Control], None]
    ) -> None:
        self.enveloped = False
        self._connection = connection
        self._number = number
        self._credit = window
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
            self._connection.send(shared.PROLOGUE, self._number, text.encode(errors="replace"))
            self._finish()

    def write(self, body: bytes, annotated: bool = False) -> bool:
        if self._over:  # the control callback has told so
            return True
        connection = self._connection
        connection.send(shared.ANNOTATED if annotated else shared.ITEM, self._number, body, True)
        self._credit -= len(body)
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


class WorkerConnection(Connection):
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
        self.leaving = False
        """The frontend takes no new streams here."""

    # ── opening ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self._transport is not None
        if not self.lost:
            self._transport.write(shared.opening(self.key[1], self._host.incarnation))

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

    def open_stream(self, subject: bytes, window: int, control: Callable[[Control], None]) -> HomeTcpStream:
        """Claim a subject."""
        self._last += 1
        stream = self._streams[self._last] = HomeTcpStream(self, self._last, window, control)
        self.send(shared.OPEN, self._last, subject)
        return stream

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
                self.send(shared.KILL, number)
        elif kind == shared.CREDIT:
            stream.credit(shared.read_credit(body))
        elif kind == shared.STOP:
            stream.told(Control.STOP)
        elif kind == shared.KILL:
            self.drop(number)
            stream.told(Control.KILL)

    def resume_writing(self) -> None:
        super().resume_writing()
        for stream in list(self._streams.values()):
            stream.wake()

    def closed(self, reason: str) -> None:
        if not self.welcomed.done():
            self.welcomed.set_exception(
                ConnectionError(f"the frontend closed the connection ({reason}); it may have been restarted")
            )
            self.welcomed.exception()  # retrieved here too: nobody may be waiting any more
        self._gone(self)
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.told(Control.GONE)


class HomeConnections:
    """The connections to all frontends, one for each of their processes."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._current: dict[Key, WorkerConnection] = {}  # where new streams go
        self._all: set[WorkerConnection] = set()  # those that take no new streams too
        self._connecting: dict[Key, asyncio.Task[WorkerConnection]] = {}
        self._closed = False

    async def call_home(self, info: ConnectionInfo, control: Callable[[Control], None]) -> HomeTcpStream:
        """A stream on the connection to `info`'s process, which is made if there is none."""
        offer = info.shared
        if offer is None:
            raise _cannot(info.address, "the frontend offers no shared response connection")
        try:
            subject = bytes.fromhex(info.subject.replace("-", ""))
        except ValueError:
            subject = b""
        if len(subject) != shared.SUBJECT_BYTES:
            raise _cannot(info.address, f"the subject {info.subject!r:.60} is not a uuid")
        connection = self._current.get((info.address, offer.process))
        if connection is None or connection.leaving:
            connection = await self._connect((info.address, offer.process))
        return connection.open_stream(subject, offer.window, control)

    async def _connect(self, key: Key) -> WorkerConnection:
        """Connect, together with all who want the same connection at this moment."""
        if self._closed:
            raise _cannot(key[0], "this process is leaving")
        task = self._connecting.get(key)
        if task is None:
            task = self._connecting[key] = asyncio.ensure_future(self._dial(key))
            task.add_done_callback(lambda _: self._connecting.pop(key, None))
            task.add_done_callback(_retrieve)
        await asyncio.wait([task])
        if task.cancelled():
            raise _cannot(key[0], "this process is leaving")
        error = task.exception()
        if error is not None:  # each caller gets an error of its own, to write its request into
            raise _cannot(key[0], describe(error)) from error
        connection = task.result()
        if connection.lost or connection.leaving:
            raise _cannot(key[0], "the frontend left as soon as it was reached")
        return connection

    async def _dial(self, key: Key) -> WorkerConnection:
        connection = WorkerConnection(self._host, key, self._gone)
        try:
            host, port = split_address(key[0])
            async with asyncio.timeout(_CONNECT_TIME):
                await asyncio.get_running_loop().create_connection(lambda: connection, host, port)
                await connection.welcomed
        except BaseException as error:
            connection.give_up("connecting failed")
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"no answer within {_CONNECT_TIME:g} s") from error
            raise
        if not connection.lost:
            self._all.add(connection)
            self._current[key] = connection
        return connection

    def _gone(self, connection: WorkerConnection) -> None:
        self._all.discard(connection)
        if self._current.get(connection.key) is connection:
            del self._current[connection.key]

    def report(self, load: Load) -> None:
        """Tell every frontend this worker's load."""
        body = shared.load_body(load)
        for connection in self._all:
            connection.send(shared.REPORT, 0, body)

    async def close(self) -> None:
        """Send what was written, then close every connection."""
        self._closed = True
        connecting = list(self._connecting.values())
        for task in connecting:
            task.cancel()
        await asyncio.gather(*connecting, return_exceptions=True)
        await close_all(list(self._all), "this process is leaving")


def _cannot(address: str, problem: str) -> CannotConnect:
    return CannotConnect(problem, address=address, transport="tcp_stream")


def _retrieve(task: asyncio.Task[WorkerConnection]) -> None:
    """Its exception is known, even if nobody waits for it any more."""
    if not task.cancelled():
        task.exception()
