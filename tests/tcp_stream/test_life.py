"""Open and close: nothing is left over, however often and in whatever state."""

from __future__ import annotations

import asyncio
import socket
import time

import psutil
import pytest
import reqplane_tcp_stream.connection
from reqplane.errors import CannotConnect
from reqplane.model import Control, End, Prologue
from reqplane.wire import shared
from reqplane_tcp_stream.transport import TcpStreamTransport

from .conftest import OpenPair, OpenTransport, Pair, opened, paired, until
from .scripted import RawFrontend, RawWorker


def descriptors() -> int:
    return psutil.Process().num_fds()


async def test_open_and_close_50_times():
    async def once() -> None:
        async with paired() as pair:
            call = await pair.call()
            call.home.prologue(None)
            call.home.end()
            assert await call.rest() == [Prologue(), End()]

    await once()
    before = descriptors()
    for _ in range(50):
        await once()
    await asyncio.sleep(0.01)
    assert descriptors() == before
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_in_mid_stream_leaves_nothing():
    before = descriptors()
    for worker_first in (True, False):
        async with opened() as frontend, opened() as worker:
            await frontend.listen()
            call = await Pair(frontend, worker).call()
            call.home.write(b"x" * 100_000)
            await (worker if worker_first else frontend).aclose()
            await until(lambda call=call: call.told)
            assert call.told == [Control.GONE]
    await asyncio.sleep(0.01)
    assert descriptors() == before
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_aclose_is_idempotent_and_frees_the_port(pair: Pair):
    await pair.call()
    port = int(pair.frontend.advertised.rpartition(":")[2])
    for transport in (pair.frontend, pair.worker):
        await asyncio.gather(transport.aclose(), transport.aclose())
        await transport.aclose()
    with socket.create_server(("127.0.0.1", port)):
        pass
    with pytest.raises(CannotConnect):
        await pair.call()


async def test_a_transport_that_did_nothing_closes():
    async with opened() as transport:
        assert transport.advertised == ""


@pytest.mark.parametrize("proven", [True, False])
async def test_a_worker_that_neither_reads_nor_closes_does_not_hold_the_frontend(
    transport: OpenTransport, monkeypatch: pytest.MonkeyPatch, proven: bool
):
    monkeypatch.setattr(reqplane_tcp_stream.connection, "LINGER", 0.2)
    frontend = await transport()
    await frontend.listen()
    connect = RawWorker.welcomed if proven else RawWorker.connected
    async with connect(frontend) as peer:
        await until(lambda: frontend._connections)
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        start = time.monotonic()
        await frontend.aclose()
        assert time.monotonic() - start < 5


async def test_a_frontend_that_does_not_read_does_not_hold_the_worker(
    transport: OpenTransport, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reqplane_tcp_stream.connection, "LINGER", 0.2)
    worker = await transport()
    async with RawFrontend.listening() as frontend:
        calling = asyncio.create_task(worker.call_home(frontend.info(1 << 30), lambda control: None))
        await frontend.welcome()
        home = await calling
        while home.write(b"x" * 200_000):
            await asyncio.sleep(0)
        start = time.monotonic()
        await worker.aclose()
        assert time.monotonic() - start < 5


async def test_a_peer_that_is_gone_just_before_its_connection_is_closed(frontend: TcpStreamTransport):
    host, _, port = frontend.advertised.rpartition(":")
    loop = asyncio.get_running_loop()
    with socket.create_connection((host, int(port))) as peer:
        peer.setblocking(False)
        await loop.sock_sendall(peer, shared.opening(frontend._host.process, 1))
        await loop.sock_recv(peer, 1000)
        (connection,) = frontend._connections
    connection.close("the frontend is leaving")  # what this writes, the system answers with a reset
    await asyncio.wait_for(connection.ended, 5)


async def test_connections_that_come_while_the_frontend_leaves(transport: OpenTransport):
    frontend = await transport()
    await frontend.listen()
    before = descriptors()
    host, _, port = frontend.advertised.rpartition(":")
    sockets = [socket.create_connection((host, int(port))) for _ in range(20)]
    await frontend.aclose()
    for one in sockets:
        one.close()
    await asyncio.sleep(0.05)
    assert not frontend._connections
    assert descriptors() <= before
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_connection_that_was_just_being_accepted_is_turned_away(frontend: TcpStreamTransport):
    frontend._leaving = True
    async with RawWorker.connected(frontend) as peer:
        assert await asyncio.wait_for(peer.closed(), 3) == []  # long before the time for an opening is over
    assert not frontend._connections


async def test_10_000_streams_leave_nothing(pair: Pair):
    async def some(count: int) -> None:
        for _ in range(count):
            call = await pair.call()
            call.home.prologue(None)
            call.home.write(b"item")
            call.home.end()
            assert await call.rest() == [Prologue(), b"item", End()]

    await asyncio.gather(*(some(100) for _ in range(100)))
    assert pair.connections == 1
    assert not pair.frontend._subjects._waiting
    assert not pair.frontend_end._streams
    assert not pair.worker_end._streams
    assert not pair.worker_end._out
    assert not pair.frontend_end._out


async def test_streams_that_are_closed_unopened_leave_nothing(pair: Pair):
    for index in range(1000):
        pair.frontend.expect(str(index)).close()
    assert not pair.frontend._subjects._waiting


async def test_frontends_that_are_gone_are_forgotten(transport: OpenTransport):
    worker = await transport()
    for _ in range(5):
        async with opened() as frontend:
            await frontend.listen()
            call = await Pair(frontend, worker).call()
        await until(lambda call=call: call.told)
    assert not worker._homes._all
    assert not worker._homes._current


async def test_a_burst_of_connects_and_losses_leaves_nothing(make_pair: OpenPair):
    pair = await make_pair()
    for _ in range(30):
        call = await pair.call()
        pair.worker_end._transport.abort()
        await until(lambda call=call: call.told)
    await until(lambda: not pair.connections)
    assert not pair.worker._homes._all


async def test_writes_after_the_loss_go_nowhere(frontend: TcpStreamTransport, pair: Pair):
    call = await pair.call()
    end = pair.worker_end
    end._transport.abort()
    await until(lambda: call.told)
    for _ in range(100):
        call.home.write(b"x" * 100_000)
        end.send(shared.PING, 0)
        end.send(shared.ITEM, 1, b"x" * 100_000)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not end._out
