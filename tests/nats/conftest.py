"""A small host, and workers and frontends of the nats plane on it."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import nats as nats_py
import pytest
from nats.aio.client import Client
from reqplane.errors import InvalidFrame, WireError
from reqplane.host import InflightBytes
from reqplane.interfaces import Delivery, Listener
from reqplane.model import EndpointId, Instance, Limits, Load, Served
from reqplane.timers import TimerWheel
from reqplane.wire.frame import Frame, split
from reqplane_nats.target import Target
from reqplane_nats.transport import NatsTransport
from servers import Nats

_numbers = itertools.count(0x7000)


class FakeHost:
    """The runtime as far as a plugin sees it."""

    def __init__(self, env: Mapping[str, str], limits: Limits) -> None:
        self.env = env
        self.limits = limits
        self.process = "0" * 32
        self.incarnation = 7
        self.dynamo = env.get("DYN_WIRE_PROFILE") == "dynamo"
        self.timers = TimerWheel(asyncio.get_running_loop())
        self.inflight = InflightBytes(limits.max_inflight_bytes)
        self.log = logging.getLogger("reqplane.test")
        self.tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, object], name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def advertise(self, bind_host: str, toward: str = "") -> str:
        return bind_host

    def ssl_context(self, role: str) -> None:
        return None

    def reported(self, incarnation: int, load: Load) -> None: ...


@asynccontextmanager
async def opened(env: Mapping[str, str], **limits: Any) -> AsyncGenerator[NatsTransport]:
    """A transport on a host of its own; nothing may be left of it afterwards."""
    before = asyncio.all_tasks()
    host = FakeHost(env, Limits(**limits))
    transport = await NatsTransport.open(host)
    try:
        yield transport
    finally:
        await transport.aclose()
        await asyncio.sleep(0)
        timers = sum(map(len, host.timers._buckets.values()))
        host.timers.close()
        assert not host.tasks
        assert not transport._asking.under_way
        assert not timers
        of_nats = [task for task in asyncio.all_tasks() - before if "nats" in repr(task.get_coro())]
        assert not of_nats


class Worker:
    """One endpoint that keeps what it accepts; `refuse` makes it raise instead."""

    def __init__(self, transport: NatsTransport, limit: int) -> None:
        self.transport = transport
        self.limit = limit
        self.incarnation = next(_numbers)
        self.got: list[Delivery] = []
        self.refuse: Exception | None = None
        self.on_accept: Callable[[Delivery], None] | None = None
        self.listener: Listener

    def accept(self, delivery: Delivery) -> None:
        if self.refuse is not None:
            raise self.refuse
        try:
            split(delivery.frame, self.limit)
        except WireError as error:
            raise InvalidFrame(str(error)) from error
        self.got.append(delivery)
        if self.on_accept is not None:
            self.on_accept(delivery)

    async def listen(self, endpoint: EndpointId | None = None) -> Worker:
        """On an endpoint of its own, since all share a server."""
        endpoint = endpoint or EndpointId(f"ns{self.incarnation}", "backend", "generate")
        served = Served(endpoint, self.incarnation, 0, "127.0.0.1:9000")
        self.endpoint = endpoint
        self.listener = await self.transport.listen(served, self.accept)
        return self

    @property
    def subject(self) -> str:
        return self.listener.record(0)["nats_tcp"]

    def bodies(self) -> list[bytes]:
        return [bytes(split(delivery.frame, self.limit)[1]) for delivery in self.got]


StartWorker = Callable[..., Awaitable[Worker]]
OpenTransport = Callable[..., Awaitable[NatsTransport]]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def transport(stack: AsyncExitStack, nats: Nats) -> OpenTransport:
    """Opens a transport that is closed after the test; on the shared server if no other is named."""

    async def open_one(env: Mapping[str, str] | None = None, **limits: Any) -> NatsTransport:
        return await stack.enter_async_context(opened({"NATS_SERVER": nats.url, **(env or {})}, **limits))

    return open_one


@pytest.fixture
async def worker(transport: OpenTransport) -> StartWorker:
    """Starts a worker that is closed after the test."""

    async def start(env: Mapping[str, str] | None = None, **limits: Any) -> Worker:
        plane = await transport(env, **limits)
        return await Worker(plane, plane._asking._most).listen()

    return start


@pytest.fixture
async def bare(stack: AsyncExitStack, nats: Nats) -> Client:
    """A client of nats-py, on the shared server."""
    client = await nats_py.connect(nats.url)
    stack.push_async_callback(client.close)
    return client


async def subscribed(bare: Client, subject: str, cb: Callable[[Any], Awaitable[None]] | None = None) -> None:
    """Subscribe, and return when the server knows of it.

    nats-py's `flush` writes its PING past the commands that still wait in its own buffer; when it has
    returned they are written, and a second one follows them.
    """
    await bare.subscribe(subject, cb=cb)
    await bare.flush()
    await bare.flush()


def target_of(subject: str, transport: NatsTransport) -> Target:
    """What a frontend makes of a record with this subject."""
    target = transport.target(Instance(EndpointId("a", "b", "c"), 0, 7, {"nats_tcp": subject}))
    assert target is not None
    return target


def frame(body: bytes = b"hello", header: bytes = b'{"id":"1"}') -> Frame:
    return Frame(header, body)


def soon(seconds: float) -> float:
    """A deadline."""
    return asyncio.get_running_loop().time() + seconds


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
