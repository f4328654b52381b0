"""Request and response planes in memory, whose order of events a test decides."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from reqplane.errors import CannotConnect, DeliveryUnknown, FrameTooLarge, ReqplaneError
from reqplane.interfaces import (
    Accept,
    Delivery,
    HomeStream,
    Host,
    Listener,
    PendingStream,
    RequestTransport,
    ResponseTransport,
)
from reqplane.model import (
    NEVER,
    Annotated,
    Body,
    Broken,
    Capabilities,
    ConnectionInfo,
    Control,
    End,
    Headers,
    Instance,
    Load,
    Part,
    Prologue,
    Served,
)
from reqplane.wire.frame import Frame


@dataclass
class Network:
    """What joins the planes of one test.

    `first` decides the race: "ack", or "home" (the ack waits until the worker has called home).
    """

    first: str = "ack"
    enveloped: bool = False
    accepts: dict[int, Accept] = field(default_factory=dict)
    waiting: dict[str, MemoryPending] = field(default_factory=dict)
    opened: dict[str, asyncio.Event] = field(default_factory=dict)
    homes: list[MemoryHome] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    """The incarnations that frames were sent to, in order."""
    fail: dict[int, ReqplaneError] = field(default_factory=dict)
    """Sending to this incarnation fails with this error, nothing is delivered."""
    late: dict[int, ReqplaneError] = field(default_factory=dict)
    """The frame is delivered, then its ack turns out to be this error."""
    turns_after_home: int = 3
    """Turns of the loop between the call-home and an ack that comes after it."""
    silent: set[int] = field(default_factory=set)
    """Sending to these incarnations is never acknowledged, nothing is delivered."""
    balancer: Iterator[int] | None = None
    """All workers are at its address, and it says who gets the next frame."""
    call_home: asyncio.Event = field(default_factory=asyncio.Event)
    """Workers wait for this before they call home; set unless a test clears it."""
    headers: list[Headers] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    reports: list[Load] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    """What happened to listeners and registrations."""

    def __post_init__(self) -> None:
        self.call_home.set()


class MemoryRequests(RequestTransport[int]):
    """Delivers a frame by calling the worker's accept."""

    name: ClassVar[str] = "memory"
    capabilities: ClassVar[Capabilities] = Capabilities(headers=True, refusals=True)

    def __init__(self, network: Network, name: str = "memory") -> None:
        self.network = network
        self.name = name  # type: ignore[misc]

    @classmethod
    async def open(cls, host: Host) -> Self:
        raise NotImplementedError

    @property
    def max_frame_bytes(self) -> int:
        return 1 << 20

    def target(self, instance: Instance) -> int | None:
        return instance.incarnation if self.name in instance.transport else None

    def address(self, target: int) -> str | None:
        return "balancer" if self.network.balancer is not None else None

    async def send(self, target: int, frame: Frame, headers: Headers, deadline: float) -> None:
        network = self.network
        target = target if network.balancer is None else next(network.balancer)
        network.sent.append(target)
        network.headers.append(headers)
        network.frames.append(frame)
        if target in network.fail:
            raise network.fail[target]
        if target in network.silent:
            await self._time_out(deadline)
        if target not in network.accepts:
            raise CannotConnect("nobody listens", address=str(target))
        network.accepts[target](Delivery(frame.join(), headers, self.name))
        if target in network.late or network.first == "home":
            info = json.loads(json.loads(frame.header)["connection_info"]["info"])
            await network.opened.setdefault(info["subject"], asyncio.Event()).wait()
            for _ in range(network.turns_after_home):
                await asyncio.sleep(0)
        if target in network.late:
            raise network.late[target]

    async def _time_out(self, deadline: float) -> None:
        """As a plane does: its own clock rings at the deadline, too."""
        if deadline == NEVER:
            await asyncio.Event().wait()
        while asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.001)
        raise DeliveryUnknown("timed_out", "no ack")

    async def listen(self, served: Served, accept: Accept) -> Listener:
        return MemoryListener(self, served, accept)

    async def aclose(self) -> None:
        pass


class MemoryListener(Listener):
    """Notes in `network.log` what is done to it, in order."""

    def __init__(self, transport: MemoryRequests, served: Served, accept: Accept) -> None:
        self._transport, self._served = transport, served
        self._log = transport.network.log
        transport.network.accepts[served.incarnation] = accept
        self._log.append(f"{transport.name} listens")

    def record(self, instance_id: int) -> dict[str, Any]:
        return {self._transport.name: f"{self._transport.name}:{instance_id}"}

    async def drain(self) -> None:
        self._log.append(f"{self._transport.name} drains")

    async def close(self) -> None:
        self._log.append(f"{self._transport.name} closes")
        self._transport.network.accepts.pop(self._served.incarnation, None)


class MemoryRequest:
    """A request that is a stream: at most `room` items that its handler has not read."""

    def __init__(self, room: int = 4) -> None:
        self.parts: list[Part] = []
        self.written: list[Part] = []
        self.over = False
        self._room = room
        self._changed = asyncio.Event()

    def put(self, part: Part) -> bool:
        if not self.over:
            self.parts.append(part)
            self.written.append(part)
            self._changed.set()
        return not self.over and len(self.parts) < self._room

    def finish(self, part: Part) -> None:
        self.put(part)
        self.over = True

    async def ready(self) -> bool:
        while not self.over and len(self.parts) >= self._room:
            self._changed.clear()
            await self._changed.wait()
        return not self.over

    async def receive(self) -> list[Part]:
        while not self.parts:
            if self.over:
                return [Broken("it is over")]
            self._changed.clear()
            await self._changed.wait()
        parts, self.parts = self.parts, []
        self._changed.set()
        return parts


class MemoryPending(PendingStream):
    """A queue of parts."""

    def __init__(self, network: Network, info: ConnectionInfo) -> None:
        self.info = info
        self.enveloped = network.enveloped
        self.opened = asyncio.get_running_loop().create_future()
        self.parts: list[Part] = []
        self.came = asyncio.Event()
        self.home: MemoryHome | None = None
        self.request = MemoryRequest() if info.request is not None else None
        self.closed = self.stopped = False
        self._network = network

    async def receive(self) -> list[Part]:
        if self.closed and not self.parts:
            return [Broken("closed here")]
        await self.came.wait()
        self.came.clear()
        parts, self.parts = self.parts, []
        return parts

    def put(self, part: Part) -> None:
        self.parts.append(part)
        self.came.set()

    def write(self, item: Body) -> bool:
        assert self.request is not None
        return self.request.put(bytes(item))

    async def ready(self) -> bool:
        assert self.request is not None
        return await self.request.ready()

    def end(self) -> None:
        assert self.request is not None
        self.request.finish(End())

    def break_request(self) -> None:
        if self.request is not None:
            self.request.finish(Broken("it broke off"))

    def stop(self) -> None:
        self.stopped = True
        self.break_request()
        if self.home is not None:
            self.home.control(Control.STOP)

    def kill(self) -> None:
        self.break_request()
        if self.home is not None and not self.home.over:
            self.home.over = True
            self.home.control(Control.KILL)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.kill()
        self._network.waiting.pop(self.info.subject, None)
        self.opened.cancel()
        self.put(Broken("closed here"))


class MemoryHome(HomeStream):
    """Writes straight into the frontend's queue."""

    def __init__(
        self, pending: MemoryPending | None, enveloped: bool, control: Callable[[Control], None]
    ) -> None:
        self.pending = pending
        self.enveloped = enveloped
        self.control = control
        self.over = pending is None
        self.writable = asyncio.Event()
        self.writable.set()
        self.written = 0

    def _put(self, part: Part) -> None:
        if not self.over and self.pending is not None:
            self.pending.put(part)

    def _finish(self) -> None:
        self.over = True
        if self.pending is not None:
            self.pending.break_request()

    async def receive(self) -> list[Part]:
        assert self.pending is not None
        assert self.pending.request is not None
        return await self.pending.request.receive()

    def prologue(self, error: str | None) -> None:
        self._put(Prologue(error))
        self.over = self.over or error is not None

    def write(self, body: bytes, annotated: bool = False) -> bool:
        if len(body) > 1 << 20:
            raise FrameTooLarge(len(body), 1 << 20)
        self.written += 1
        self._put(Annotated(body) if annotated and not self.enveloped else body)
        return self.writable.is_set()

    async def ready(self) -> None:
        await self.writable.wait()

    def end(self, body: bytes = b"") -> None:
        if self.enveloped:
            self._put(body)
        self._put(End() if self.enveloped else End(body))
        self._finish()

    def abort(self) -> None:
        self._put(Broken("the worker gave the stream up"))
        self._finish()

    def lose(self) -> None:
        """The connection breaks."""
        self._put(Broken("the connection was lost"))
        self._finish()
        self.control(Control.GONE)


class MemoryResponses(ResponseTransport):
    """Joins pending and home streams by their subject."""

    name = "memory_stream"

    def __init__(self, network: Network) -> None:
        self.network = network
        self.advertised = "memory:1"
        self._subjects = map(str, itertools.count())

    @classmethod
    async def open(cls, host: Host) -> Self:
        raise NotImplementedError

    async def listen(self) -> None:
        pass

    def expect(self, request_id: str, *, sends: bool = False) -> MemoryPending:
        subject = f"subject-{next(self._subjects)}"
        request = ConnectionInfo(self.advertised, f"{subject}-request", request_id) if sends else None
        info = ConnectionInfo(self.advertised, subject, request_id, request=request)
        pending = self.network.waiting[info.subject] = MemoryPending(self.network, info)
        return pending

    async def call_home(self, info: ConnectionInfo, control: Callable[[Control], None]) -> MemoryHome:
        network = self.network
        await network.call_home.wait()
        pending = network.waiting.pop(info.subject, None)
        home = MemoryHome(pending, network.enveloped, control)
        network.homes.append(home)
        network.opened.setdefault(info.subject, asyncio.Event()).set()
        if pending is None:
            asyncio.get_running_loop().call_soon(control, Control.KILL)
        else:
            pending.home = home
            if pending.stopped:
                asyncio.get_running_loop().call_soon(control, Control.STOP)
            pending.opened.set_result(None)
        return home

    def report(self, load: Load) -> None:
        self.network.reports.append(load)

    async def aclose(self) -> None:
        pass


Eventually = Callable[[Callable[[], Any]], Awaitable[None]]


async def eventually(condition: Callable[[], Any], within: float = 5.0) -> None:
    """Wait until it holds; AssertionError after `within` seconds."""
    limit = asyncio.get_running_loop().time() + within
    while not condition():
        assert asyncio.get_running_loop().time() < limit, f"did not come true within {within} s"
        await asyncio.sleep(0.005)
