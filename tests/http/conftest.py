"""A small host, and workers and frontends of the http plane on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from reqplane.errors import InvalidFrame, WireError
from reqplane.host import InflightBytes
from reqplane.interfaces import Delivery, Listener
from reqplane.model import EndpointId, Instance, Limits, Load, Served
from reqplane.timers import TimerWheel
from reqplane.wire.frame import Frame, split
from reqplane_http.target import Target
from reqplane_http.transport import HttpTransport

ENDPOINT = EndpointId("default", "backend", "generate")
PATH = "/v1/dynamo/namespace.default.component.backend.endpoint.generate"


class FakeHost:
    """The runtime as far as a plugin sees it."""

    def __init__(self, env: Mapping[str, str], limits: Limits) -> None:
        self.env = {"DYN_HTTP_RPC_HOST": "127.0.0.1", "DYN_HTTP_RPC_PORT": "0", **env}
        self.limits = limits
        self.process = "0" * 32
        self.incarnation = 7
        self.dynamo = self.env.get("DYN_WIRE_PROFILE") == "dynamo"
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
        return "127.0.0.1" if bind_host in ("0.0.0.0", "::") else bind_host

    def ssl_context(self, role: str) -> None:
        return None

    def reported(self, incarnation: int, load: Load) -> None: ...


@asynccontextmanager
async def opened(env: Mapping[str, str] | None = None, **limits: Any) -> AsyncGenerator[HttpTransport]:
    """A transport on a host of its own; nothing may be left of it afterwards."""
    host = FakeHost(env or {}, Limits(**limits))
    transport = await HttpTransport.open(host)
    try:
        yield transport
    finally:
        await transport.aclose()
        await asyncio.sleep(0)
        left = [task.get_name() for task in host.tasks]
        timers = sum(map(len, host.timers._buckets.values()))
        host.timers.close()
        assert not left
        assert not timers


class Worker:
    """One endpoint that keeps what it accepts; `refuse` makes it raise instead."""

    def __init__(self, transport: HttpTransport, limit: int) -> None:
        self.transport = transport
        self.limit = limit
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

    async def listen(self, endpoint: EndpointId = ENDPOINT) -> Worker:
        self.listener = await self.transport.listen(Served(endpoint, 7, 0, "127.0.0.1:9000"), self.accept)
        return self

    @property
    def url(self) -> str:
        """Its endpoint's URL, with instance 0."""
        return self.listener.record(0)["http_tcp"]["http_endpoint"]

    @property
    def origin(self) -> str:
        return self.url.split("/v1/")[0]

    @property
    def port(self) -> int:
        return int(self.origin.rpartition(":")[2])

    def bodies(self) -> list[bytes]:
        return [bytes(split(delivery.frame, self.limit)[1]) for delivery in self.got]


StartWorker = Callable[..., Awaitable[Worker]]
StartVictim = Callable[..., Awaitable[Worker]]
OpenTransport = Callable[..., Awaitable[HttpTransport]]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def transport(stack: AsyncExitStack) -> OpenTransport:
    """Opens a transport that is closed after the test."""

    async def open_one(env: Mapping[str, str] | None = None, **limits: Any) -> HttpTransport:
        return await stack.enter_async_context(opened(env, **limits))

    return open_one


@pytest.fixture
async def worker(transport: OpenTransport) -> StartWorker:
    """Starts a worker that is closed after the test."""

    async def start(env: Mapping[str, str] | None = None, **limits: Any) -> Worker:
        plane = await transport(env, **limits)
        return await Worker(plane, plane.max_frame_bytes).listen()

    return start


@pytest.fixture
async def victim(worker: StartWorker) -> AsyncIterator[StartVictim]:
    """Starts a worker that must be as good as new after the test."""
    from .hostile import check_as_good_as_new

    started: list[Worker] = []

    async def start(**limits: int) -> Worker:
        started.append(await worker(**limits))
        return started[-1]

    yield start
    for here in started:
        await check_as_good_as_new(here)


@pytest.fixture
async def http2() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(http1=False, http2=True, trust_env=False) as client:
        yield client


def target_of(url: str, transport: HttpTransport) -> Target:
    """What a frontend makes of a record with this URL."""
    target = transport.target(Instance(ENDPOINT, 0, 7, {"http_tcp": {"http_endpoint": url, "h2c": True}}))
    assert target is not None
    return target


def frame(body: bytes = b"hello", header: bytes = b'{"id":"1"}') -> Frame:
    return Frame(header, body)


def soon(seconds: float) -> float:
    """A deadline."""
    return asyncio.get_running_loop().time() + seconds
