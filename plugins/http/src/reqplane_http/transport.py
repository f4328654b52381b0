"""The http plane: a frame is the body of a POST, its ack a 202 that comes before the handler runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from reqplane.errors import FrameTooLarge
from reqplane.interfaces import Accept, Host, Listener, RequestTransport
from reqplane.model import Capabilities, Headers, Instance, Served
from reqplane.settings import load
from reqplane.wire.frame import Frame

from reqplane_http.client import H2Transport
from reqplane_http.plain import PlainClient
from reqplane_http.server import HttpServer
from reqplane_http.settings import HttpSettings
from reqplane_http.target import Target, parse_target, takes_batches, takes_h2, url_of


class HttpTransport(RequestTransport[Target]):
    """Sends by HTTP/2 where it is announced, else by HTTP/1.1; listens by one server a process."""

    name: ClassVar[str] = "http"
    capabilities: ClassVar[Capabilities] = Capabilities(
        headers=True, refusals=True, shared_address=True, notices_dead_worker=True, reconnects=True
    )
    settings: ClassVar[type[Any] | None] = HttpSettings
    loopback: ClassVar[Mapping[str, str]] = {"DYN_HTTP_RPC_HOST": "127.0.0.1", "DYN_HTTP_RPC_PORT": "0"}

    def __init__(self, host: Host, settings: HttpSettings) -> None:
        self._host = host
        self._settings = settings
        self._most = host.limits.max_frame_bytes
        self._plain = PlainClient(host, settings)
        self._client = H2Transport(host, settings, self._plain.post)
        self._post = self._client.post
        self._server: HttpServer | None = None
        self._opening = asyncio.Lock()

    @classmethod
    async def open(cls, host: Host) -> Self:
        return cls(host, load(HttpSettings, host.env))

    @property
    def max_frame_bytes(self) -> int:
        return self._most

    def target(self, instance: Instance) -> Target | None:
        url = url_of(instance.transport)
        if url is None:
            return None
        target = parse_target(url, self._settings.host, takes_h2(instance.transport))
        if target is not None:
            target.most_by_h2 = min(target.most_by_h2, self._most)
            if target.most_by_h2 and takes_batches(instance.transport):
                self._client.gather(target)
        return target

    def address(self, target: Target) -> str:
        return target.address

    def send(self, target: Target, frame: Frame, headers: Headers, deadline: float) -> asyncio.Future[None]:
        """A plain function that returns a future: no task for a request."""
        size = len(frame)
        if size <= target.most_by_h2:
            return self._post(target, frame, headers, deadline)
        if size <= self._most:
            return self._plain.post(target, frame, headers, deadline)
        return self._too_large(target, size)

    def _too_large(self, target: Target, size: int) -> asyncio.Future[None]:
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        how = "DYN_MAX_FRAME_BYTES sets the limit, on both sides"
        failed.set_exception(FrameTooLarge(size, self._most, how, transport="http", address=target.address))
        return failed

    async def listen(self, served: Served, accept: Accept) -> Listener:
        async with self._opening:
            if self._server is not None and self._server.closing:
                await self._server.close()  # it is on its way; the address must be free first
                self._server = None
            if self._server is None:
                self._server = await HttpServer.open(self._host, self._settings)
            return self._server.listen(served, accept)

    async def aclose(self) -> None:
        await self._client.aclose()
        await self._plain.aclose()
        if self._server is not None:
            await self._server.close()
