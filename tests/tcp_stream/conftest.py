"""Frontends and workers of the tcp_stream plane, each on a host of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from reqplane.host import RuntimeHost
from reqplane.interfaces import HomeStream, PendingStream
from reqplane.model import Broken, Control, End, Limits, Load, Part, Prologue
from reqplane_tcp_stream.transport import TcpStreamTransport

HERE = {"DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1", "DYN_TCP_RESPONSE_STREAM_PORT": "0"}


class Host(RuntimeHost):
    """The runtime's host, which keeps the load reports."""

    def __init__(self, env: Mapping[str, str], limits: Limits) -> None:
        super().__init__(env, limits)
        self.reports: list[tuple[int, Load]] = []

    def reported(self, incarnation: int, load: Load) -> None:
        self.reports.append((incarnation, load))


def host_of(transport: TcpStreamTransport) -> Host:
    host = transport._host
    assert isinstance(host, Host)
    return host


@asynccontextmanager
async def opened(env: Mapping[str, str] | None = None, **limits: Any) -> AsyncGenerator[TcpStreamTransport]:
    """A transport; afterwards nothing of it may be left."""
    host = Host({**HERE, **(env or {})}, Limits(**limits))
    transport = await TcpStreamTransport.open(host)
    try:
        yield transport
    finally:
        await transport.aclose()
        timers = sum(map(len, host.timers._buckets.values()))
        await host.aclose()
        assert not timers
        assert not transport._connections
        assert not transport._unproven
        assert not transport._subjects._waiting
        assert not transport._subjects._requests
        assert not transport._homes._all
        assert not transport._homes._current
        assert not transport._homes._connecting
        assert not transport._homes._dialling
        assert not transport._homes._singles
        assert not transport._homes._dialler._tried


@dataclass
class Call:
    """Both ends of one stream, and what the worker was told."""

    pending: PendingStream
    home: HomeStream
    told: list[Control]

    async def rest(self) -> list[Part]:
        return await rest(self.pending)


class Pair:
    """A frontend that listens, and a worker."""

    def __init__(self, frontend: TcpStreamTransport, worker: TcpStreamTransport) -> None:
        self.frontend = frontend
        self.worker = worker

    async def call(self, request_id: str = "r", sends: bool = False) -> Call:
        """One attempt, up to the call home."""
        pending = self.frontend.expect(request_id, sends=sends)
        told: list[Control] = []
        home = await self.worker.call_home(pending.info, told.append)
        return Call(pending, home, told)

    @property
    def connections(self) -> int:
        """How many the frontend has."""
        return len(self.frontend._connections)

    @property
    def worker_end(self) -> Any:
        (connection,) = self.worker._homes._all
        return connection

    @property
    def frontend_end(self) -> Any:
        (connection,) = self.frontend._connections
        return connection


@asynccontextmanager
async def paired(**limits: Any) -> AsyncGenerator[Pair]:
    async with opened(**limits) as frontend, opened(**limits) as worker:
        await frontend.listen()
        yield Pair(frontend, worker)


async def rest(pending: PendingStream) -> list[Part]:
    """All parts up to the last one."""
    parts: list[Part] = []
    while not parts or not is_last(parts[-1]):
        parts += await asyncio.wait_for(pending.receive(), 20)
    return parts


def is_last(part: Part) -> bool:
    return isinstance(part, End | Broken) or (isinstance(part, Prologue) and part.error is not None)


async def until(condition: Callable[[], Any], within: float = 10.0) -> None:
    """Wait until it holds."""
    limit = asyncio.get_running_loop().time() + within
    while not condition():
        assert asyncio.get_running_loop().time() < limit, f"did not come true within {within} s"
        await asyncio.sleep(0.005)


async def a_turn() -> None:
    """Let the event loop's present turn end."""
    await asyncio.sleep(0)


OpenTransport = Callable[..., Awaitable[TcpStreamTransport]]
OpenPair = Callable[..., Awaitable[Pair]]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def transport(stack: AsyncExitStack) -> OpenTransport:
    """Opens a transport that is closed after the test."""

    async def open_one(env: Mapping[str, str] | None = None, **limits: Any) -> TcpStreamTransport:
        return await stack.enter_async_context(opened(env, **limits))

    return open_one


@pytest.fixture
async def frontend(transport: OpenTransport) -> TcpStreamTransport:
    one = await transport()
    await one.listen()
    return one


@pytest.fixture
async def pair(stack: AsyncExitStack) -> Pair:
    return await stack.enter_async_context(paired())


@pytest.fixture
async def make_pair(stack: AsyncExitStack) -> OpenPair:
    """Opens a pair with limits of its own."""

    async def make(**limits: Any) -> Pair:
        return await stack.enter_async_context(paired(**limits))

    return make
