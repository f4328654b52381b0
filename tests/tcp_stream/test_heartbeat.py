"""Peers that have gone silent are noticed, and only these."""

from __future__ import annotations

import asyncio
import time

import pytest
from reqplane.model import Broken, Control, End
from reqplane.wire import shared

from .conftest import OpenPair, OpenTransport, until
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
