"""A worker's side: one port for all endpoints of the process, open from the first to the last of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from reqplane.interfaces import Accept, Host, Listener
from reqplane.model import Served
from reqplane.sockets import host_and_port, listening_socket, most_connections, told_address

from reqplane_tcp.chunk import Chunk
from reqplane_tcp.incoming import Incoming
from reqplane_tcp.settings import TcpSettings
from reqplane_tcp.target import path_of

_BACKLOG = 4096
_MOST_CONNECTIONS = 10_000
_SHARE = 0.75
"""Of the descriptors that this process may have; the others are for calling home."""
_CLOSE_LIMIT = 1.0
"""Seconds that frontends get to close their connections, after which that is done here."""
_DRAIN_LIMIT = 2.0
"""Seconds that they get to read their answers."""


class TcpServer:
    """Its listener and connections."""

    def __init__(self, host: Host, settings: TcpSettings, chunk: Chunk, listener: socket.socket) -> None:
        port: int = listener.getsockname()[1]
        self._listener = listener
        self.accepts: dict[bytes, Accept] = {}
        self.chunk = chunk
        self._host = host
        self._unproven: dict[Incoming, None] = {}  # no request on them was accepted yet; the oldest first
        self._proven: dict[Incoming, None] = {}  # the one that was silent for longest first
        self._most = most_connections(_MOST_CONNECTIONS, _SHARE)
        self._accepting: asyncio.Server | None = None
        self._closing: asyncio.Task[None] | None = None
        told = settings.advertise_host or host.advertise(settings.host)
        self.address = host_and_port(*told_address(told, port))

    @classmethod
    async def open(cls, host: Host, settings: TcpSettings, chunk: Chunk) -> TcpServer:
        """Bind and serve.  SettingsError if the address can't be used."""
        listener = await listening_socket(
            settings.host,
            settings.port,
            host_variable="DYN_TCP_RPC_HOST",
            port_variable="DYN_TCP_RPC_PORT",
            backlog=_BACKLOG,
        )
        try:
            server = cls(host, settings, chunk, listener)
            await server._start()
        except BaseException:
            listener.close()
            raise
        where = host_and_port(settings.host, listener.getsockname()[1])
        host.log.info("Starting TCP endpoint server on %s", where)
        return server

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        accepting = self._accepting = await loop.create_server(
            self._arrived, sock=self._listener, backlog=_BACKLOG, start_serving=False
        )
        try:
            await accepting.start_serving()
        except BaseException:
            accepting.close()
            raise

    @property
    def _connections(self) -> list[Incoming]:
        return [*self._unproven, *self._proven]

    def _arrived(self) -> Incoming:
        """One more connection.  Where it is one too many, another one goes."""
        if len(self._unproven) + len(self._proven) >= self._most:
            crowd = self._unproven or self._proven
            one = next(iter(crowd))
            crowd[one] = crowd.pop(one)  # the next time it is another one's turn
            one.leave()
        connection = Incoming(self, self._host)
        self._unproven[connection] = None
        return connection

    def _arrived_late(self) -> Incoming:
        connection = self._arrived()
        connection.leave()
        return connection

    def proven(self, connection: Incoming) -> None:
        self.lost(connection)
        self._proven[connection] = None

    def lost(self, connection: Incoming) -> None:
        self._unproven.pop(connection, None)
        self._proven.pop(connection, None)

    def listen(self, served: Served, accept: Accept) -> TcpListener:
        """Serve one more endpoint."""
        path = path_of(served.endpoint, served.incarnation)
        if path.encode() in self.accepts:
            raise ValueError(f"this process already serves {served.endpoint}")
        self.accepts[path.encode()] = accept
        return TcpListener(self, path)

    async def leave(self, path: str) -> None:
        """Serve one endpoint less; with the last one the server closes."""
        if list(self.accepts) == [path.encode()]:
            await self.close()
        else:
            self.accepts.pop(path.encode(), None)

    async def drained(self) -> None:
        """Wait until every answer is on the wire, but not for a peer that does not read."""
        unwritten = [one.written for one in self._connections if one.written is not None]
        if unwritten:
            await asyncio.wait(unwritten, timeout=_DRAIN_LIMIT)

    # ── its end ──

    @property
    def closing(self) -> bool:
        return self._closing is not None

    async def close(self) -> None:
        """Free the address; idempotent.  A close that is cancelled goes on by itself."""
        if self._closing is None:
            late = self._late()
            if self._accepting is not None:
                self._accepting.close()
            for connection in self._connections:
                connection.leave()
            self.accepts.clear()
            self._closing = self._host.spawn(self._shut_down(late), "tcp server's close")
        await asyncio.shield(self._closing)

    def _late(self) -> list[socket.socket]:
        """Those that have connected and are not here yet: the system would reset them, whatever they sent."""
        late: list[socket.socket] = []
        with suppress(OSError):
            while True:
                late.append(self._listener.accept()[0])
        return late

    async def _shut_down(self, late: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        for one in late:
            with suppress(OSError):  # it is gone again
                await loop.connect_accepted_socket(self._arrived_late, one)
        await _ended(self._connections)
        for connection in self._connections:
            connection.cut()
        await _ended(self._connections)


class TcpListener(Listener):
    """One endpoint on the server."""

    def __init__(self, server: TcpServer, path: str) -> None:
        self._server, self._path = server, path
        self._closed = False

    def record(self, instance_id: int) -> Mapping[str, Any]:
        return {"tcp": f"{self._server.address}/{self._path}"}

    async def drain(self) -> None:
        await self._server.drained()

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._server.leave(self._path)
        elif self._server.closing:
            await self._server.close()


async def _ended(connections: Iterable[Incoming]) -> None:
    ended = [connection.ended for connection in connections]
    if ended:
        await asyncio.wait(ended, timeout=_CLOSE_LIMIT)
