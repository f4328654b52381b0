"""One connection of the worker's HTTP server: hypercorn's, with an end to each of its waits.

A peer that is silent, that never comes to the end of a head, that has nothing to ask for or that does not
read its answers is cut off.  One timer a connection looks after all of that: nothing is paid for a read.
"""

from __future__ import annotations

import asyncio
import contextlib
import math

from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.typing import AppWrapper, ConnectionState
from reqplane.interfaces import Timers

from reqplane_http.strict import Http2, Protocols

SILENT_SECONDS = 60.0
"""Without a byte from the peer; frontends ping more often."""
IDLE_SECONDS = 75.0
"""Without a request, however many bytes come."""
WRITE_SECONDS = 30.0
"""For the peer to read what it was sent."""
CLOSE_SECONDS = 2.0
"""For the peer to read the last of it."""


class Connections:
    """The open connections of a server, at most `most`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.open: set[Connection] = set()
        self.idle: dict[Connection, float] = {}
        """Those without a request, and since when; the one that has been idle for longest is the first."""

    def add(self, connection: Connection, now: float) -> None:
        """One more.  Where it is one too many, the one that has been idle for longest goes."""
        self.open.add(connection)
        if len(self.open) > self.most:
            next(iter(self.idle), connection).cut()
        self.idle[connection] = now

    def discard(self, connection: Connection) -> None:
        self.open.discard(connection)
        self.idle.pop(connection, None)

    async def go_away(self) -> None:
        """Tell every HTTP/2 peer that nothing it has no answer to was looked at, or ever will be.

        All answers are on the wire before, so the last stream can be 0, and the senders of all other
        requests know that they may send them elsewhere.  Only a peer that does not take an answer must not
        hear that: what it asked may run.
        """
        protocols = [connection.http2 for connection in self.open]
        await asyncio.gather(
            *(one.go_away(last_stream=None if one.owes else 0) for one in protocols if one is not None)
        )

    def finish(self) -> None:
        """Close what is idle; the others close when they have answered."""
        for connection in list(self.idle):
            connection.cut()


class Connection(TCPServer):
    """A connection from its accept to its end; await it."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        timers: Timers,
        connections: Connections,
    ) -> None:
        super().__init__(app, asyncio.get_running_loop(), config, context, ConnectionState({}), *streams)
        self._timers = timers
        self._connections = connections
        self._protocols: Protocols | None = None
        self._heard = self.loop.time()

    @property
    def http2(self) -> Http2 | None:
        """Its protocol, if that is HTTP/2."""
        protocol = self._protocols and self._protocols.protocol
        return protocol if isinstance(protocol, Http2) else None

    async def run(self) -> None:
        self._timer = self._timers.at(self._due(), self._look)
        self._connections.add(self, self._heard)
        try:
            async with TaskGroup(self.loop) as self._task_group:
                self.protocol = self._protocols = self._open()
                await self.protocol.initiate()
                await self._read_data()
        except OSError:
            pass
        finally:
            self._timer.cancel()
            self._connections.discard(self)
            await self._close()

    def _open(self) -> Protocols:
        socket = self.writer.get_extra_info("socket")
        ssl = self.writer.get_extra_info("ssl_object")
        return Protocols(
            self.app,
            self.config,
            self.context,
            self._task_group,
            self.state,
            ssl is not None,
            socket.getpeername()[:2],
            socket.getsockname()[:2],
            self.protocol_send,
            ssl.selected_alpn_protocol() if ssl is not None else "http/1.1",
        )

    async def _read_data(self) -> None:
        with contextlib.suppress(OSError):
            while not (self.reader.at_eof() or self.writer.is_closing()):
                data = await self.reader.read(MAX_RECV)
                self._heard = self.loop.time()
                await self.protocol.handle(RawData(data))
        await self.protocol.handle(Closed())

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._write(event.data)
        elif isinstance(event, Updated):
            self._updated(event.idle)
        else:
            await self._close()

    def _updated(self, idle: bool) -> None:
        if not idle:
            self._connections.idle.pop(self, None)
        elif self.context.terminated.is_set():
            self.cut()
        else:
            self._connections.idle.setdefault(self, self.loop.time())

    async def _write(self, data: bytes) -> None:
        try:
            self.writer.write(data)
            if self.writer.transport.get_write_buffer_size():
                await self._drain()
        except (ConnectionError, RuntimeError):
            await self.protocol.handle(Closed())

    async def _drain(self) -> None:
        timer = self._timers.at(self.loop.time() + WRITE_SECONDS, self.writer.transport.abort)
        try:
            await self.writer.drain()
        finally:
            timer.cancel()

    async def _close(self) -> None:
        timer = self._timers.at(self.loop.time() + CLOSE_SECONDS, self.writer.transport.abort)
        try:
            await super()._close()
        finally:
            timer.cancel()

    def _due(self) -> float:
        """When the peer's time is over, if it goes on as it does now."""
        idle_since = self._connections.idle.get(self, math.inf)
        return min(self._heard + SILENT_SECONDS, idle_since + IDLE_SECONDS)

    def _look(self) -> None:
        due = self._due()
        if due <= self.loop.time():
            self.cut()
        else:
            self._timer = self._timers.at(due, self._look)

    def cut(self) -> None:
        """Close it now."""
        self.writer.close()
        self._timer.cancel()
        self._timer = self._timers.at(self.loop.time() + CLOSE_SECONDS, self.writer.transport.abort)
