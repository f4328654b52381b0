"""A request transport in memory: frames go from one runtime of an event loop to another."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

from reqplane.errors import (
    CannotConnect,
    DeliveryUnknown,
    FrameTooLarge,
    RequestError,
    RequestRefused,
    UnknownEndpoint,
    WorkerBusy,
    refusal,
)
from reqplane.interfaces import Accept, Delivery, Host, Listener, RequestTransport
from reqplane.model import Capabilities, Headers, Instance, Peer, Served
from reqplane.settings import load, port, seconds, setting, settings_class
from reqplane.wire.frame import Frame

from reqplane_conformance.memory.network import Parcel, Place, network

_HOW = "DYN_MAX_FRAME_BYTES sets the limit, on both sides"
_clients = itertools.count(1)


@settings_class
class MemorySettings:
    """What the memory plane reads."""

    port: int = setting("MEMORY_PORT", default=0, parse=port)
    request_timeout: float = setting("MEMORY_REQUEST_TIMEOUT", default=5.0, parse=seconds)


@dataclass(frozen=True, slots=True)
class Target:
    """A worker: the address of its process, and which of the endpoints there."""

    address: str
    endpoint: str


class MemoryListener(Listener):
    """One endpoint of a process."""

    def __init__(self, owner: MemoryTransport, served: Served, place: Place) -> None:
        self._owner, self._endpoint, self._place = owner, str(served.endpoint), place

    def record(self, instance_id: int) -> Mapping[str, Any]:
        return {self._owner.name: {"address": self._place.address, "endpoint": self._endpoint}}

    async def drain(self) -> None:
        """Nothing to wait for: an ack leaves in the same step in which its frame is accepted."""

    async def close(self) -> None:
        self._owner.leave(self._endpoint, self)


class MemoryTransport(RequestTransport[Target]):
    """Reaches the runtimes of the same event loop; `memory.network()` disturbs it."""

    name: ClassVar[str] = "memory"
    capabilities: ClassVar[Capabilities] = Capabilities(
        headers=True, refusals=True, shared_address=True, notices_dead_worker=True, reconnects=True
    )
    settings: ClassVar[type[Any] | None] = MemorySettings
    loopback: ClassVar[Mapping[str, str]] = {"MEMORY_PORT": "0"}

    def __init__(self, host: Host, settings: MemorySettings) -> None:
        self._host, self._settings = host, settings
        self._peer = Peer(f"memory-client:{next(_clients)}")
        self._under_way: set[Parcel] = set()
        self._endpoints: dict[str, tuple[Accept, MemoryListener]] = {}
        self._place: Place | None = None
        self._closed = False

    @classmethod
    async def open(cls, host: Host) -> Self:
        return cls(host, load(MemorySettings, host.env))

    # ── sending ──

    @property
    def max_frame_bytes(self) -> int:
        return self._host.limits.max_frame_bytes

    def target(self, instance: Instance) -> Target | None:
        found: object = instance.transport.get(self.name)
        if not isinstance(found, Mapping):
            return None
        member = cast(Mapping[str, object], found)
        address, endpoint = member.get("address"), member.get("endpoint")
        if not isinstance(address, str) or not isinstance(endpoint, str):
            return None
        return Target(address, endpoint) if address.startswith("memory:") else None

    def address(self, target: Target) -> str:
        return target.address

    async def send(self, target: Target, frame: Frame, headers: Headers, deadline: float) -> None:
        where: dict[str, Any] = {"transport": self.name, "address": target.address}
        if len(frame) > self.max_frame_bytes:
            raise FrameTooLarge(len(frame), self.max_frame_bytes, _HOW, **where)
        if self._closed:
            raise CannotConnect("the transport is closed", **where)
        now = asyncio.get_running_loop().time()
        until = min(deadline, now + self._settings.request_timeout)
        if until <= now:
            raise DeliveryUnknown("timed_out", "the deadline had passed before it was sent", **where)
        lower = {name.lower(): value for name, value in headers.items()}
        parcel = Parcel(target.address, target.endpoint, frame.join(), lower, self._peer)
        self._under_way.add(parcel)
        try:
            async with asyncio.timeout_at(until):
                network().carry(parcel)
                await parcel
        except TimeoutError as error:
            raise DeliveryUnknown("timed_out", f"no ack within {until - now:.3g} s", **where) from error
        finally:
            self._under_way.discard(parcel)

    # ── listening ──

    async def listen(self, served: Served, accept: Accept) -> Listener:
        endpoint = str(served.endpoint)
        if endpoint in self._endpoints:
            raise ValueError(f"this process already serves {endpoint}")
        if self._place is None:
            self._place = network().listen(self._settings.port, self._hand_over)
            self._host.log.info("listening in memory at %s", self._place.address)
        listener = MemoryListener(self, served, self._place)
        self._endpoints[endpoint] = accept, listener
        return listener

    def leave(self, endpoint: str, listener: MemoryListener) -> None:
        """Serve one endpoint less; the last one's end frees the address."""
        if self._endpoints.get(endpoint, (None, None))[1] is listener:
            del self._endpoints[endpoint]
            if not self._endpoints:
                self._leave_place()

    def _leave_place(self) -> None:
        if self._place is not None:
            network().leave(self._place)
            self._place = None

    def _hand_over(self, parcel: Parcel) -> RequestError | None:
        """Whether the frame was accepted: None, or what its sender gets."""
        where: dict[str, Any] = {"transport": self.name, "address": parcel.address}
        size, limit, budget = len(parcel.frame), self.max_frame_bytes, self._host.inflight
        if size > limit:
            return FrameTooLarge(size, limit, _HOW, **where)
        if parcel.endpoint not in self._endpoints:
            return UnknownEndpoint(f"{parcel.endpoint!r:.200} is not served here", **where)
        if not budget.take(size):
            return WorkerBusy("it holds as many bytes as DYN_MAX_INFLIGHT_BYTES allows", **where)
        budget.give(size)  # `accept` reserves for itself, in this same turn
        accept, _ = self._endpoints[parcel.endpoint]
        return self._offer(accept, Delivery(parcel.frame, parcel.headers, self.name, parcel.peer), where)

    def _offer(self, accept: Accept, delivery: Delivery, where: Mapping[str, Any]) -> RequestError | None:
        try:
            accept(delivery)
        except RequestRefused as error:
            return refusal(error.code, error.problem, **where)
        except (Exception, asyncio.CancelledError):
            self._host.log.exception("accepting a request at %s failed", where["address"])
            return refusal("refused", "the worker could not take it; its log has the reason", **where)
        return None

    async def aclose(self) -> None:
        self._closed = True
        for parcel in list(self._under_way):
            parcel.lost("the transport was closed")
        self._endpoints.clear()
        self._leave_place()
