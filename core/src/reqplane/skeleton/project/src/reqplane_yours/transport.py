"""The frontend's side: a connection for each request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from reqplane.errors import CannotConnect, DeliveryUnknown, FrameTooLarge, RequestError, describe
from reqplane.interfaces import Accept, Host, Listener, RequestTransport
from reqplane.model import Capabilities, Headers, Instance, Served
from reqplane.settings import load
from reqplane.sockets import split_address
from reqplane.wire.frame import Frame

from reqplane_yours.wire import MOST, ask
from reqplane_yours.worker import Server, YoursSettings

_TIMEOUT = 5.0
"""Seconds until the answer, where the deadline is later."""


class YoursTransport(RequestTransport[str]):
    """The plane."""

    name: ClassVar[str] = "yours"
    capabilities: ClassVar[Capabilities] = Capabilities()
    settings: ClassVar[type[Any] | None] = YoursSettings
    loopback: ClassVar[Mapping[str, str]] = {"DYN_YOURS_HOST": "127.0.0.1", "DYN_YOURS_PORT": "0"}

    def __init__(self, host: Host) -> None:
        self._most = host.limits.max_frame_bytes
        self._server = Server(host, load(YoursSettings, host.env))
        self._under_way: set[asyncio.Timeout] = set()
        self._closed = False

    @classmethod
    async def open(cls, host: Host) -> Self:
        return cls(host)

    @property
    def max_frame_bytes(self) -> int:
        return self._most

    def target(self, instance: Instance) -> str | None:
        place = instance.transport.get(self.name)
        return place if isinstance(place, str) else None

    async def send(self, target: str, frame: Frame, headers: Headers, deadline: float) -> None:
        address, _, endpoint = target.partition("/")
        try:
            if len(frame) > self._most:
                raise FrameTooLarge(len(frame), self._most, "DYN_MAX_FRAME_BYTES sets the limit")
            if self._closed:
                raise CannotConnect("the transport is closed")
            await self._send(address, endpoint, frame, headers, deadline)
        except RequestError as error:
            error.locate(transport=self.name, address=address)
            raise

    async def _send(
        self, address: str, endpoint: str, frame: Frame, headers: Headers, deadline: float
    ) -> None:
        now = asyncio.get_running_loop().time
        limit = asyncio.timeout_at(min(deadline, now() + _TIMEOUT))
        self._under_way.add(limit)
        connected = False
        try:
            async with limit:
                reader, writer = await asyncio.open_connection(*split_address(address), limit=MOST)
                connected = True
                try:
                    await ask(reader, writer, endpoint, frame, headers)
                finally:
                    writer.transport.abort()  # close() would wait until all is sent
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            timed_out, why = isinstance(error, TimeoutError) and not self._closed, self._why(error)
            if not connected and not (timed_out and now() >= deadline):
                raise CannotConnect(why) from error  # not one byte was sent
            raise DeliveryUnknown("timed_out" if timed_out else "connection_lost", why) from error
        finally:
            self._under_way.discard(limit)

    def _why(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return "the transport was closed" if self._closed else "no answer in time"
        return "closed without an answer" if isinstance(error, EOFError) else describe(error)

    async def listen(self, served: Served, accept: Accept) -> Listener:
        return await self._server.listen(served, accept)

    async def aclose(self) -> None:
        self._closed = True
        for limit in self._under_way:
            limit.reschedule(0)
        await self._server.close()
