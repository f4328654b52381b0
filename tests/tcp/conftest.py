"""A small host, and workers and frontends of the tcp plane on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from reqplane.errors import InvalidFrame, WireError
from reqplane.host import RuntimeHost
from reqplane.interfaces import Delivery, Listener
from reqplane.model import EndpointId, Instance, Limits, Served
from reqplane.wire.frame import Frame, split
from reqplane_tcp.asking import Target
from reqplane_tcp.transport import TcpTransport

ENDPOINT = EndpointId("default", "backend", "generate")
INCARNATION = 0x43B7BCEDD4BE931F
PATH = "43b7bcedd4be931f/default/backend/generate"


@asynccontextmanager
async def opened(env: Mapping[str, str] | None = None, **limits: Any) -> AsyncGenerator[TcpTransport]:
    """A transport on a host of its own; nothing may be left of it afterwards."""
    host = RuntimeHost({**TcpTransport.loopback, **(env or {})}, Limits(**limits))
    transport = await TcpTransport.open(host)
    try:
        yield transport
    finally:
        await transport.aclose()
        await asyncio.sleep(0)
        left = [task.get_name() for task in host._tasks]
        timers = sum(map(len, host.timers._buckets.values()))
        await host.aclose()
        assert not left
        assert not timers
        assert not host.inflight.used


class Worker:
    """One endpoint that keeps what it accepts; `refuse` makes it raise instead."""

    def __init__(self, transport: TcpTransport) -> None:
        self.transport = transport
        self.limit = transport.max_frame_bytes
        self.got: list[Delivery] = []
        self.refuse: BaseException | None = None
        self.listener: Listener

    def accept(self, delivery: Delivery) -> None:
        if self.refuse is not None:
            raise self.refuse
        try:
            split(delivery.frame, self.limit)
        except WireError as error:
            raise InvalidFrame(error.problem) from error
        self.got.append(delivery)

    async def listen(self, endpoint: EndpointId = ENDPOINT) -> Worker:
        self.listener = await self.transport.listen(Served(endpoint, INCARNATION, 0, ""), self.accept)
        return self

    @property
    def record(self) -> str:
        return self.listener.record(0)["tcp"]

    @property
    def port(self) -> int:
        return int(self.record.partition("/")[0].rpartition(":")[2])

    @property
    def inflight(self) -> int:
        """Bytes that its process counts as unfinished."""
        host: Any = self.transport._host
        return host.inflight.used

    def bodies(self) -> list[bytes]:
        return [bytes(split(delivery.frame, self.limit)[1]) for delivery in self.got]


StartWorker = Callable[..., Awaitable[Worker]]
OpenTransport = Callable[..., Awaitable[TcpTransport]]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def transport(stack: AsyncExitStack) -> OpenTransport:
    """Opens a transport that is closed after the test."""

    async def open_one(env: Mapping[str, str] | None = None, **limits: Any) -> TcpTransport:
        return await stack.enter_async_context(opened(env, **limits))

    return open_one


@pytest.fixture
async def worker(transport: OpenTransport) -> StartWorker:
    """Starts a worker that is closed after the test."""

    async def start(env: Mapping[str, str] | None = None, **limits: Any) -> Worker:
        return await Worker(await transport(env, **limits)).listen()

    return start


def target_of(record: str, transport: TcpTransport) -> Target:
    """What a frontend makes of a record."""
    target = transport.target(Instance(ENDPOINT, 0, INCARNATION, {"tcp": record}))
    assert target is not None
    return target


def frame(body: bytes | bytearray | memoryview = b"hello", header: bytes = b'{"id":"1"}') -> Frame:
    return Frame(header, body)


def soon(seconds: float) -> float:
    """A deadline."""
    return asyncio.get_running_loop().time() + seconds


async def until(condition: Callable[[], object], within: float = 5.0) -> None:
    """Wait for something that another task, or process, brings about."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.002)
