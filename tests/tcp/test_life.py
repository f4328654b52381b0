"""Opening, draining, closing, on each event loop that users run."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import socket
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import uvloop
from reqplane.errors import CannotConnect, UnknownEndpoint, WorkerDraining
from reqplane.model import NEVER, EndpointId, Served

from .conftest import (
    ENDPOINT,
    INCARNATION,
    OpenTransport,
    StartWorker,
    Worker,
    frame,
    opened,
    target_of,
    until,
)
from .scripted import RawFrontend, message

OTHER = EndpointId("default", "backend", "other")
Run = Callable[[Any], Any]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return request.param


def test_frames_of_all_sizes_at_once(run: Run):
    async def main() -> None:
        async with opened() as plane, opened() as frontend:
            here = await Worker(plane).listen()
            target = target_of(here.record, frontend)
            sizes = [0, 1, 1000, 60_000, 65_536, 300_000, 3_000_000]
            bodies = [os.urandom(size) for size in sizes * 12]
            await asyncio.gather(*(frontend.send(target, frame(body), {}, NEVER) for body in bodies))
            arrived = sorted(hashlib.sha256(body).digest() for body in here.bodies())
            assert arrived == sorted(hashlib.sha256(body).digest() for body in bodies)
            await here.listener.drain()
            await here.listener.close()

    run(main())


def test_a_worker_that_closes_under_load(run: Run):
    async def main() -> None:
        async with opened() as plane, opened() as frontend:
            here = await Worker(plane).listen()
            target = target_of(here.record, frontend)
            sends = [frontend.send(target, frame(bytes(size)), {}, NEVER) for size in [100, 100_000] * 100]
            await until(lambda: here.got)
            await here.listener.close()
            outcomes = await asyncio.gather(*sends, return_exceptions=True)
            assert outcomes.count(None) == len(here.got)
            assert {type(one) for one in outcomes if one is not None} <= {CannotConnect}
            with pytest.raises(CannotConnect):
                await frontend.send(target, frame(), {}, NEVER)

    run(main())


def test_a_frontend_that_goes_under_load(run: Run):
    async def main() -> None:
        async with opened() as plane:
            here = await Worker(plane).listen()
            async with opened() as frontend:
                target = target_of(here.record, frontend)
                sends = [frontend.send(target, frame(bytes(1_000_000)), {}, NEVER) for _ in range(30)]
                await until(lambda: here.got)
            outcomes = await asyncio.gather(*sends, return_exceptions=True)
            assert len(here.got) >= outcomes.count(None) > 0
            await until(lambda: not here.inflight)
            await until(lambda: not plane._server._connections)  # type: ignore[union-attr]

    run(main())


def test_fifty_workers_come_and_go(run: Run):
    process = psutil.Process()

    async def once(port: int) -> int:
        async with opened({"DYN_TCP_RPC_PORT": str(port)}) as plane, opened() as frontend:
            here = await Worker(plane).listen()
            await frontend.send(target_of(here.record, frontend), frame(), {}, NEVER)
            await here.listener.drain()
            await here.listener.close()
            return here.port

    async def main() -> None:
        port = await once(0)
        gc.collect()
        before = process.num_fds()
        for _ in range(49):
            await once(port)
        gc.collect()
        assert process.num_fds() <= before

    run(main())


async def test_drain_waits_for_who_reads_slowly(worker: StartWorker):
    here = await worker()
    here.refuse = WorkerDraining("x" * 900)
    async with RawFrontend.connected(here.port) as peer:
        filling = asyncio.ensure_future(peer.send(message() * 20_000))
        server: Any = here.transport._server
        await until(lambda: server._connections and server._connections[0].written is not None)
        draining = asyncio.ensure_future(here.listener.drain())
        await asyncio.sleep(0.02)
        assert not draining.done()
        reading = asyncio.ensure_future(peer.exactly(20_000 * 900))
        await draining
        await reading
        await filling


async def test_after_drain_frames_still_reach_accept(worker: StartWorker, transport: OpenTransport):
    here, frontend = await worker(), await transport()
    await here.listener.drain()
    here.refuse = WorkerDraining("the worker is leaving")
    with pytest.raises(WorkerDraining, match="the worker is leaving"):
        await frontend.send(target_of(here.record, frontend), frame(), {}, NEVER)


async def test_ipv6(worker: StartWorker, transport: OpenTransport):
    here, frontend = await worker({"DYN_TCP_RPC_HOST": "[::1]"}), await transport()
    assert here.record.startswith("[::1]:")
    await frontend.send(target_of(here.record, frontend), frame(), {}, NEVER)
    assert here.got[0].peer is not None
    assert here.got[0].peer.address.startswith("[::1]:")


async def test_a_host_name(worker: StartWorker, transport: OpenTransport):
    here, frontend = await worker({"DYN_TCP_RPC_HOST": "localhost"}), await transport()
    assert here.record.startswith("localhost:")
    await frontend.send(target_of(here.record, frontend), frame(), {}, NEVER)


async def test_two_endpoints_share_the_address_until_the_last_is_closed(transport: OpenTransport):
    plane, frontend = await transport(), await transport()
    first, second = await Worker(plane).listen(), await Worker(plane).listen(OTHER)
    assert first.port == second.port
    to_first, to_second = target_of(first.record, frontend), target_of(second.record, frontend)
    await frontend.send(to_first, frame(b"1"), {}, NEVER)
    await frontend.send(to_second, frame(b"2"), {}, NEVER)
    await first.listener.close()
    await first.listener.close()
    with pytest.raises(UnknownEndpoint):
        await frontend.send(to_first, frame(b"3"), {}, NEVER)
    await frontend.send(to_second, frame(b"4"), {}, NEVER)
    await second.listener.close()
    assert (first.bodies(), second.bodies()) == ([b"1"], [b"2", b"4"])
    with socket.create_server(("127.0.0.1", first.port)):
        pass


async def test_an_old_listener_does_not_close_a_new_one(transport: OpenTransport):
    plane, frontend = await transport(), await transport()
    old = await Worker(plane).listen()
    closing = asyncio.ensure_future(old.listener.close())
    await asyncio.sleep(0)
    new = await Worker(plane).listen()
    await closing
    await old.listener.close()
    await frontend.send(target_of(new.record, frontend), frame(), {}, NEVER)


async def test_a_close_that_is_cancelled_goes_on(worker: StartWorker):
    here = await worker()
    closing = asyncio.ensure_future(here.listener.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait({closing})
    await here.listener.close()
    with socket.create_server(("127.0.0.1", here.port)):
        pass


@pytest.mark.parametrize("turns", range(6))
async def test_a_listen_that_is_cancelled_leaves_nothing(turns: int, transport: OpenTransport):
    plane = await transport({"DYN_TCP_RPC_HOST": "localhost"})
    served = Served(ENDPOINT, INCARNATION, 0, "")
    for _ in range(5):
        listening = asyncio.ensure_future(plane.listen(served, lambda delivery: None))
        for _ in range(turns):
            await asyncio.sleep(0)
        listening.cancel()
        await asyncio.wait({listening})
        if not listening.cancelled():
            await listening.result().close()
    listener = await plane.listen(served, lambda delivery: None)
    await listener.close()
