"""The worker's side: one listening socket for all endpoints of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from reqplane.errors import InvalidFrame, RequestRefused, UnknownEndpoint, WorkerBusy
from reqplane.interfaces import Accept, Delivery, Host, Listener
from reqplane.model import Headers, Peer, Served
from reqplane.settings import host, port, reachable_host, setting, settings_class
from reqplane.sockets import host_and_port, listening_socket

from reqplane_yours.wire import MOST, serve

_PATIENCE = 30.0
"""Seconds that a connection may take: a peer that stops in the middle is not waited for."""


@settings_class
class YoursSettings:
    """The variables of this plane."""

    host: str = setting("DYN_YOURS_HOST", default="0.0.0.0", parse=host)
    port: int = setting("DYN_YOURS_PORT", default=0, parse=port)
    advertise_host: str = setting("DYN_YOURS_ADVERTISE_HOST", default="", parse=reachable_host)


class Server:
    """Opened by the first listener, closed with the last."""

    def __init__(self, host: Host, settings: YoursSettings) -> None:
        self.host, self.settings = host, settings
        self.endpoints: dict[str, Accept] = {}
        self.address = ""
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[Any]] = set()
        self._opening = asyncio.Lock()

    async def listen(self, served: Served, accept: Accept) -> Listener:
        endpoint = str(served.endpoint)
        self.endpoints[endpoint] = accept
        try:
            async with self._opening:
                if self._server is None:
                    await self._open(self.settings.host, self.settings.port)
        except BaseException:  # cancelled perhaps
            await self.leave(endpoint, accept)
            raise
        return YoursListener(self, endpoint, accept)

    async def _open(self, host: str, port: int) -> None:
        names = {"host_variable": "DYN_YOURS_HOST", "port_variable": "DYN_YOURS_PORT"}
        listening = await listening_socket(host, port, **names, backlog=1024)
        told = self.settings.advertise_host or self.host.advertise(host)
        self.address = host_and_port(told, listening.getsockname()[1])
        # `start_server` alone, if it were cancelled, would leave a server that nobody knows.
        self._server = await asyncio.start_server(
            self._connected, sock=listening, limit=MOST, start_serving=False
        )
        await self._server.start_serving()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def over(task: asyncio.Task[Any]) -> None:  # a task that is cancelled early never gets to a `finally`
            self._connections.discard(task)
            writer.transport.abort()

        task = self.host.spawn(Incoming(self, reader, writer).run(), "yours connection")
        self._connections.add(task)
        task.add_done_callback(over)

    async def leave(self, endpoint: str, accept: Accept) -> None:
        if self.endpoints.get(endpoint) is accept:
            del self.endpoints[endpoint]
        if not self.endpoints:
            await self.close()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)


class YoursListener(Listener):
    """One endpoint on the server."""

    def __init__(self, server: Server, endpoint: str, accept: Accept) -> None:
        self._server, self._endpoint, self._accept = server, endpoint, accept

    def record(self, instance_id: int) -> Mapping[str, Any]:
        return {"yours": f"{self._server.address}/{self._endpoint}"}

    async def drain(self) -> None:
        """A frame is accepted and its ack is written in one step: nothing to wait for."""

    async def close(self) -> None:
        await self._server.leave(self._endpoint, self._accept)


class Incoming:
    """One connection, as `serve` sees it."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._server, self._host = server, server.host
        peer = writer.get_extra_info("peername")  # None if it is gone already
        self._peer = host_and_port(*peer[:2]) if peer else "nobody"

    async def run(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await serve(self)
                while await self.reader.read(2**16):  # to close with bytes unread would lose the answer
                    pass
        except (OSError, EOFError):
            pass  # the frontend is gone, or silent
        except Exception as error:
            self._host.log.warning("a connection from %s ended badly: %r", self._peer, error)

    async def read_frame(self, size: int) -> bytes:
        """Read a frame of that many bytes, if that is not too many."""
        most = self._host.limits.max_frame_bytes
        if not 0 <= size <= most:
            raise InvalidFrame(f"the frame has {size} bytes, at most {most} are allowed")
        if not self._host.inflight.take(size):
            raise WorkerBusy("it holds as many bytes of requests as it may")
        try:
            return await self.reader.readexactly(size)
        finally:
            self._host.inflight.give(size)

    def accept(self, endpoint: str, frame: bytes, headers: Headers) -> None:
        """Hand the frame to the endpoint's worker."""
        if endpoint not in self._server.endpoints:
            raise UnknownEndpoint(f"{endpoint} is not served here")
        try:
            self._server.endpoints[endpoint](Delivery(frame, headers, "yours", Peer(self._peer)))
        except RequestRefused:
            raise
        except (Exception, asyncio.CancelledError) as error:  # it is accept's own: nobody cancels us here
            self._host.log.exception("accepting a request for %s failed", endpoint)
            raise RequestRefused("the worker could not take the request; its log has the reason") from error
