"""The tcp plane: a frame is a message on a connection that is kept, its ack comes before the handler runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from reqplane.interfaces import Accept, Host, Listener, RequestTransport
from reqplane.model import Capabilities, Headers, Instance, Served
from reqplane.settings import load
from reqplane.wire.frame import Frame

from reqplane_tcp.asking import Asking, Target
from reqplane_tcp.chunk import Chunk
from reqplane_tcp.server import TcpServer
from reqplane_tcp.settings import TcpSettings
from reqplane_tcp.target import parse


class TcpTransport(RequestTransport[Target]):
    """Sends by a few connections to each address; listens by one server a process.

    It does not claim `shared_address`: the path that a worker announces names that worker alone.
    """

    name: ClassVar[str] = "tcp"
    capabilities: ClassVar[Capabilities] = Capabilities(
        headers=True, refusals=True, notices_dead_worker=True, reconnects=True
    )
    settings: ClassVar[type[Any] | None] = TcpSettings
    loopback: ClassVar[Mapping[str, str]] = {"DYN_TCP_RPC_HOST": "127.0.0.1", "DYN_TCP_RPC_PORT": "0"}

    def __init__(self, host: Host, settings: TcpSettings) -> None:
        self._host = host
        self._settings = settings
        self._chunk = Chunk()
        self._asking = Asking(host, settings, self._chunk)
        self._send = self._asking.send
        self._server: TcpServer | None = None
        self._opening = asyncio.Lock()

    @classmethod
    async def open(cls, host: Host) -> Self:
        return cls(host, load(TcpSettings, host.env))

    @property
    def max_frame_bytes(self) -> int:
        return self._host.limits.max_frame_bytes

    def target(self, instance: Instance) -> Target | None:
        found = parse(instance.transport, self._settings.host)
        return None if found is None else self._asking.target(*found)

    def send(self, target: Target, frame: Frame, headers: Headers, deadline: float) -> asyncio.Future[None]:
        """A plain function that returns a future: no task for a request."""
        return self._send(target, frame, headers, deadline)

    async def listen(self, served: Served, accept: Accept) -> Listener:
        async with self._opening:
            if self._server is not None and self._server.closing:
                await self._server.close()  # it is on its way; the address must be free first
                self._server = None
            if self._server is None:
                self._server = await TcpServer.open(self._host, self._settings, self._chunk)
            return self._server.listen(served, accept)

    async def aclose(self) -> None:
        await self._asking.close()
        if self._server is not None:
            await self._server.close()
