"""The worker's end: calling home, and the streams that handlers write to."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

from reqplane.errors import CannotConnect, WireError, describe
from reqplane.interfaces import HomeStream, Host
from reqplane.model import ConnectionInfo, Control, Load
from reqplane.wire import shared
from reqplane.wire.frame import take_first

from reqplane_tcp_stream.connection import Connection

_CONNECT_TIME = 5.0
"""Seconds for the TCP connection and for the frontend's answer, together."""


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
        self._connection.send(shared.PROLOGUE, self._number, (error or "").encode(errors="replace"))
        if error:
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
            self._ready = self._connection.wait()
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
        self._control(control)

    def wake(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)


class WorkerConnection(Connection):
    """This process's shared connection to one frontend process."""

    def __init__(self, host: Host, process: str) -> None:
        super().__init__(host)
        self._process = process
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
        self._transport.write(shared.opening(self._process, self._host.incarnation))

    def data_received(self, data: bytes) -> None:
        if self.welcomed.done():
            super().data_received(data)
            return
        self._first += data
        try:
            frame = take_first(self._first, shared.OPENING_LIMIT)
            if frame is None:
                if len(self._first) > shared.OPENING_LIMIT:
                    raise WireError(f"no answer within {shared.OPENING_LIMIT} bytes")
                return
            header, body, rest = frame
            shared.read_welcome(header, body)
        except WireError as error:
            self.give_up(str(error))
            return
        self._first = b""
        self.welcomed.set_result(None)
        self.start_heartbeat()
        if rest:
            super().data_received(rest)

    # ── streams ──

    def open_stream(self, info: ConnectionInfo, control: Callable[[Control], None]) -> HomeTcpStream:
        """Claim the subject of `info`."""
        try:
            subject = uuid.UUID(info.subject).bytes
        except ValueError:
            raise WireError(f"the subject {info.subject!r:.60} is not a uuid") from None
        assert info.shared is not None
        self._last += 1
        stream = self._streams[self._last] = HomeTcpStream(self, self._last, info.shared.window, control)
        self.send(shared.OPEN, self._last, subject)
        return stream

    def wait(self) -> asyncio.Future[None]:
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
            if number > self._last:
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
                CannotConnect(f"the frontend closed the connection ({reason}); it may have been restarted")
            )
            self.welcomed.exception()  # retrieved here too: nobody may be waiting any more
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.told(Control.GONE)


class HomeConnections:
    """The connections to all frontends, one for each of their processes."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._connections: dict[tuple[str, str], WorkerConnection] = {}
        self._connecting: dict[tuple[str, str], asyncio.Task[WorkerConnection]] = {}

    async def call_home(self, info: ConnectionInfo, control: Callable[[Control], None]) -> HomeTcpStream:
        """A stream on the connection to `info`'s process, which is made if there is none."""
        if info.shared is None:
            raise CannotConnect(
                "the frontend offers no shared response connection",
                address=info.address,
                transport="tcp_stream",
            )
        key = (info.address, info.shared.process)
        connection = self._connections.get(key)
        if connection is None or connection.lost or connection.leaving:
            connection = await self._connect(key)
        return connection.open_stream(info, control)

    async def _connect(self, key: tuple[str, str]) -> WorkerConnection:
        """Connect, together with all who want the same connection at this moment."""
        task = self._connecting.get(key)
        if task is None:
            task = self._connecting[key] = asyncio.ensure_future(self._dial(*key))
            task.add_done_callback(lambda _: self._connecting.pop(key, None))
            task.add_done_callback(_retrieve)
        return await asyncio.shield(task)

    async def _dial(self, address: str, process: str) -> WorkerConnection:
        loop = asyncio.get_running_loop()
        host, _, port = address.rpartition(":")
        connection = WorkerConnection(self._host, process)
        try:
            async with asyncio.timeout(_CONNECT_TIME):
                await loop.create_connection(lambda: connection, host.strip("[]"), int(port))
                await connection.welcomed
        except (OSError, ValueError, OverflowError) as error:
            connection.give_up("connecting failed")
            problem = (
                f"no answer within {_CONNECT_TIME:g} s"
                if isinstance(error, TimeoutError)
                else describe(error)
            )
            raise CannotConnect(problem, address=address, transport="tcp_stream") from error
        except CannotConnect as error:
            error.locate(address=address, transport="tcp_stream")
            raise
        self._connections[address, process] = connection
        return connection

    def report(self, load: Load) -> None:
        """Tell every frontend this worker's load."""
        self._forget_lost()
        body = shared.load_body(load)
        for connection in self._connections.values():
            connection.send(shared.REPORT, 0, body)

    def _forget_lost(self) -> None:
        self._connections = {key: one for key, one in self._connections.items() if not one.lost}

    async def close(self) -> None:
        """Send what was written, then close every connection."""
        for task in list(self._connecting.values()):
            task.cancel()
        await asyncio.gather(*self._connecting.values(), return_exceptions=True)
        for connection in self._connections.values():
            connection.close("this process is leaving")
        self._connections.clear()


def _retrieve(task: asyncio.Task[WorkerConnection]) -> None:
    if not task.cancelled():
        task.exception()
