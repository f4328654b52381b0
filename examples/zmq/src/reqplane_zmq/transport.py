"""The frontend's side: a lane to each worker's process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Mapping
from typing import Any, ClassVar, Self
from weakref import WeakSet

import zmq
from reqplane.errors import CannotConnect, DeliveryUnknown, FrameTooLarge, RequestError
from reqplane.interfaces import Accept, Host, Listener, RequestTransport
from reqplane.model import Capabilities, Headers, Instance, Served
from reqplane.settings import load
from reqplane.sockets import split_address
from reqplane.wire.frame import Frame

from reqplane_zmq.lane import Lane
from reqplane_zmq.sockets import terminate
from reqplane_zmq.worker import Server, ZmqSettings


class ZmqTransport(RequestTransport[tuple[str, str]]):
    """The plane.  A target is a worker's address and the endpoint there."""

    name: ClassVar[str] = "zmq"
    capabilities: ClassVar[Capabilities] = Capabilities(
        headers=True, refusals=True, notices_dead_worker=True, reconnects=True
    )
    settings: ClassVar[type[Any] | None] = ZmqSettings
    loopback: ClassVar[Mapping[str, str]] = {"DYN_ZMQ_HOST": "127.0.0.1", "DYN_ZMQ_PORT": "0"}

    def __init__(self, host: Host) -> None:
        settings = load(ZmqSettings, host.env)
        self._most, self._timers = host.limits.max_frame_bytes, host.timers
        self._timeout = settings.request_timeout
        self._server = Server(host, settings)
        # It has no thread before its first socket.
        self._context: zmq.Context[zmq.Socket[bytes]] | None = zmq.Context()
        self._lanes: dict[str, Lane] = {}
        self._retired: WeakSet[Lane] = WeakSet()  # the event loop holds those that are still open
        self._closing = asyncio.Lock()

    @classmethod
    async def open(cls, host: Host) -> Self:
        return cls(host)

    @property
    def max_frame_bytes(self) -> int:
        return self._most

    def target(self, instance: Instance) -> tuple[str, str] | None:
        match instance.transport.get(self.name):
            case {"address": str(address), "endpoint": str(endpoint)}:
                try:
                    split_address(address)
                except ValueError:
                    return None
                return address, endpoint
            case _:
                return None

    def send(
        self, target: tuple[str, str], frame: Frame, headers: Headers, deadline: float
    ) -> Awaitable[None]:
        address, endpoint = target
        try:
            lane = self._lane(address, frame, deadline)
        except RequestError as error:
            error.locate(transport=self.name, address=address)
            failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed
        lower = json.dumps({name.lower(): value for name, value in headers.items()})
        return lane.send([endpoint.encode(), lower.encode(), *frame.buffers], deadline)

    def _lane(self, address: str, frame: Frame, deadline: float) -> Lane:
        """The lane for a frame, if it may be sent at all."""
        if len(frame) > self._most:
            raise FrameTooLarge(len(frame), self._most, "DYN_MAX_FRAME_BYTES sets the limit")
        if self._context is None:
            raise CannotConnect("the transport is closed")
        if deadline <= asyncio.get_running_loop().time():
            raise DeliveryUnknown("timed_out", "the deadline has passed")
        if address not in self._lanes:
            try:
                lane = Lane(address, self._context, self._timers, self._timeout, self._retire)
            except zmq.ZMQError as error:  # no descriptor is left, say
                raise CannotConnect(str(error)) from error
            self._lanes[address] = lane
        return self._lanes[address]

    def _retire(self, lane: Lane) -> None:
        if self._lanes.get(lane.address) is lane:
            del self._lanes[lane.address]
            self._retired.add(lane)

    async def listen(self, served: Served, accept: Accept) -> Listener:
        return await self._server.listen(served, accept)

    async def aclose(self) -> None:
        context, self._context = self._context, None
        for lane in [*self._lanes.values(), *self._retired]:
            lane.close("the transport was closed")
        async with self._closing:  # who calls again meanwhile waits for the first
            if context is not None:
                await terminate(context)
        await self._server.close()
