"""Peers that have gone silent are noticed, and only these."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from reqplane.interfaces import HomeStream, PendingStream
from reqplane.model import Broken, Control, End
from reqplane.wire import shared

from .conftest import OpenPair, OpenTransport, opened, rest, until
from .scripted import RawFrontend, RawWorker

QUICK = {"heartbeat": 0.05, "stream_dead_after": 0.3}


async def test_a_silent_worker_is_asked_and_then_given_up(transport: OpenTransport):
    frontend = await transport(**QUICK)
    await frontend.listen()
    pending = frontend.expect("r")
    async with RawWorker.welcomed(frontend) as peer:
        peer.open(1, pending)
        start = time.monotonic()
        frames = await peer.closed()
        assert time.monotonic() - start >= 0.3
        assert len(frames) >= 3
        assert set(frames) == {(shared.PING, 0, b"")}
        (last,) = await pending.receive()
        assert isinstance(last, Broken)
        assert "0.3 s" in last.reason


async def test_a_silent_frontend_is_asked_and_then_given_up(transport: OpenTransport):
    worker = await transport(**QUICK)
    told: list[Control] = []
    async with RawFrontend.listening() as frontend:
        calling = asyncio.create_task(worker.call_home(frontend.info(), told.append))
        peer = await frontend.welcome(heartbeat_ms=50)
        home = await calling
        home.write(b"still there?")
        frames = await peer.closed()
        assert [frame for frame in frames if frame[0] == shared.PING]
        await until(lambda: told)
        assert told == [Control.GONE]


@pytest.mark.parametrize("sign", [shared.PONG, shared.PING, 99])
async def test_any_byte_is_a_sign_of_life(transport: OpenTransport, sign: int):
    frontend = await transport(**QUICK)
    await frontend.listen()
    async with RawWorker.welcomed(frontend) as peer:
        for _ in range(12):
            await asyncio.sleep(0.05)
            peer.send(sign, 0)
        assert {kind for kind, *_ in await peer.sync()} <= {shared.PING, shared.PONG}


async def test_idle_connections_live_on(make_pair: OpenPair):
    pair = await make_pair(**QUICK)
    call = await pair.call()
    await asyncio.sleep(0.7)
    call.home.end()
    assert await call.rest() == [End()]
    assert call.told == []


async def test_peers_are_asked_before_they_are_given_up_however_short_that_time_is(make_pair: OpenPair):
    pair = await make_pair(heartbeat=60.0, stream_dead_after=0.3)
    call = await pair.call()
    async with RawWorker.welcomed(pair.frontend) as silent:
        assert (shared.PING, 0, b"") in await silent.closed()
    await asyncio.sleep(0.4)
    call.home.end()
    assert await call.rest() == [End()]


async def test_a_loop_that_stood_still_is_not_held_against_the_peer(make_pair: OpenPair):
    pair = await make_pair(**QUICK)
    call = await pair.call()
    for _ in range(4):
        time.sleep(0.4)
        await asyncio.sleep(0.02)
    call.home.end()
    assert await call.rest() == [End()]
    assert call.told == []


class Elsewhere:
    """A worker with an event loop of its own, in a thread."""

    def __init__(self, **limits: Any) -> None:
        self._limits = limits
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._thread.start()
        assert self._ready.wait(10)

    async def _main(self) -> None:
        self.loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with opened(**self._limits) as self.transport:
            self._ready.set()
            await self._over.wait()

    async def call_home(self, pending: PendingStream, told: list[Control]) -> HomeStream:
        calling = self.transport.call_home(pending.info, told.append)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(calling, self.loop))

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._over.set)
        self._thread.join()


@pytest.fixture
async def elsewhere() -> AsyncIterator[Callable[..., Elsewhere]]:
    workers: list[Elsewhere] = []

    def start(**limits: Any) -> Elsewhere:
        workers.append(Elsewhere(**limits))
        return workers[-1]

    yield start
    for worker in workers:
        await asyncio.to_thread(worker.stop)


async def test_a_handler_that_computes_harms_nobody(transport: OpenTransport, elsewhere):
    """Its worker is silent for many heartbeats, though not for as long as the dead are."""
    limits = {"heartbeat": 0.05, "stream_dead_after": 6.0}
    frontend = await transport(**limits)
    await frontend.listen()
    computing, idle = elsewhere(**limits), elsewhere(**limits)
    told: list[Control] = []
    pending, other = frontend.expect("r"), frontend.expect("other")
    home, other_home = await computing.call_home(pending, told), await idle.call_home(other, told)
    await asyncio.gather(pending.opened, other.opened)

    def compute() -> None:
        home.write(b"before")
        time.sleep(1.5)
        home.write(b"after")
        home.end()

    computing.loop.call_soon_threadsafe(compute)
    assert await pending.receive() == [b"before"]
    idle.loop.call_soon_threadsafe(lambda: (other_home.write(b"meanwhile"), other_home.end()))
    assert await rest(other) == [b"meanwhile", End()]
    assert await rest(pending) == [b"after", End()]
    assert told == []


async def test_a_frontend_that_computes_longer_than_the_dead_are_silent_kills_nobody(
    transport: OpenTransport, elsewhere
):
    """Neither does it take its workers for dead, nor do they it: their own time is as long as it takes."""
    frontend = await transport(heartbeat=0.05, stream_dead_after=0.4)
    await frontend.listen()
    told: list[Control] = []
    workers = [elsewhere(heartbeat=0.05, stream_dead_after=30.0) for _ in range(2)]
    pendings = [frontend.expect(str(number)) for number in range(2)]
    homes = [await w.call_home(p, told) for w, p in zip(workers, pendings, strict=True)]
    for _ in range(3):
        time.sleep(1.0)
        await asyncio.sleep(0.03)
    for worker, home, pending in zip(workers, homes, pendings, strict=True):
        worker.loop.call_soon_threadsafe(home.end)
        assert await rest(pending) == [End()]
    assert told == []


async def test_the_worker_asks_as_often_as_the_frontend_wants(transport: OpenTransport):
    worker = await transport(heartbeat=60.0)
    async with RawFrontend.listening() as frontend:
        calling = asyncio.create_task(worker.call_home(frontend.info(), lambda control: None))
        peer = await frontend.welcome(heartbeat_ms=50)
        await calling
        assert (await peer.next_but(shared.OPEN))[0] == shared.PING


async def test_pings_are_answered(transport: OpenTransport):
    worker, frontend = await transport(), await transport()
    await frontend.listen()
    async with RawWorker.welcomed(frontend) as peer:
        peer.send(shared.PING, 0)
        assert await peer.next() == (shared.PONG, 0, b"")
    async with RawFrontend.listening() as raw:
        calling = asyncio.create_task(worker.call_home(raw.info(), lambda control: None))
        peer = await raw.welcome()
        await calling
        peer.send(shared.PING, 0)
        assert await peer.next_but(shared.OPEN) == (shared.PONG, 0, b"")


async def test_pongs_do_not_pile_up_for_a_peer_that_only_asks(transport: OpenTransport):
    frontend = await transport()
    await frontend.listen()
    async with RawWorker.welcomed(frontend) as peer:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        (connection,) = frontend._connections
        many = b"".join([shared.head(shared.PING, 0, 0)] * 50_000)
        for _ in range(30):
            peer.raw(many)
            await asyncio.wait_for(peer.writer.drain(), 10)
            if not connection.writable:
                break
        assert not connection.writable
        socket = connection._transport
        assert socket is not None
        before = socket.get_write_buffer_size()
        for _ in range(3):
            peer.raw(many)
            await asyncio.wait_for(peer.writer.drain(), 10)
        await asyncio.sleep(0.05)
        assert socket.get_write_buffer_size() < before + len(many)
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
