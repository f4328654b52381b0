"""The first frames of a connection: who is let in, and what they may do before."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest
import reqplane_tcp_stream.arrival
import reqplane_tcp_stream.transport
from reqplane.errors import CannotConnect
from reqplane.interfaces import HomeStream
from reqplane.model import Control, End, SharedOffer
from reqplane.wire import shared
from reqplane.wire.frame import Frame
from reqplane_tcp_stream.transport import TcpStreamTransport

from .conftest import HERE, OpenPair, OpenTransport, Pair, host_of, opened, until
from .scripted import Raw, RawFrontend, RawWorker, frame, subject_of

OTHER = "0" * 32


async def test_a_worker_of_another_process_is_turned_away(frontend: TcpStreamTransport):
    async with RawWorker.connected(frontend) as peer:
        peer.raw(shared.opening(OTHER, 7))
        with pytest.raises((EOFError, ConnectionError)):
            await peer.opening()
    await until(lambda: not frontend._connections)


async def test_call_home_to_another_process_cannot_connect(pair: Pair):
    pending = pair.frontend.expect("r")
    info = pending.info
    stale = replace(info, shared=SharedOffer(OTHER, 1000))
    with pytest.raises(CannotConnect, match="restarted") as caught:
        await pair.worker.call_home(stale, lambda control: None)
    assert caught.value.address == info.address
    assert caught.value.transport == "tcp_stream"
    assert not pending.opened.done()


async def test_a_restarted_frontend_never_meets_frames_for_its_predecessor(transport: OpenTransport):
    worker = await transport()
    async with opened() as first:
        await first.listen()
        old = first.expect("old")
        told: list[Control] = []
        home = await worker.call_home(old.info, told.append)
        address = first.advertised
    await until(lambda: told)
    async with opened({**HERE, "DYN_TCP_RESPONSE_STREAM_PORT": address.rpartition(":")[2]}) as second:
        await second.listen()
        assert second.advertised == address
        home.write(b"for the first one")
        pending = second.expect("new")
        with pytest.raises(CannotConnect):
            await worker.call_home(old.info, lambda control: None)
        again = await worker.call_home(pending.info, lambda control: None)
        again.end()
        assert await pending.receive() == [End()]
    assert told == [Control.GONE]


async def test_two_processes_behind_one_address_are_two_connections(transport: OpenTransport):
    worker = await transport()
    async with RawFrontend.listening() as frontend:
        first = asyncio.create_task(worker.call_home(frontend.info(), lambda control: None))
        one = await frontend.welcome()
        await first
        frontend.process = OTHER
        second = asyncio.create_task(worker.call_home(frontend.info(), lambda control: None))
        another = await frontend.welcome()
        await second
        assert (await one.next())[:2] == (shared.OPEN, 1)
        assert (await another.next())[:2] == (shared.OPEN, 1)


async def test_the_connection_without_a_stream_for_longest_makes_room(transport: OpenTransport):
    """Anybody may send requests that each lead to another process, and hold the connections open."""
    worker = await transport()
    worker._homes._most = 3
    homes: list[HomeStream] = []
    async with RawFrontend.listening() as frontend:

        async def call(process: int) -> Raw:
            frontend.process = f"{process:032x}"
            task = asyncio.create_task(worker.call_home(frontend.info(), lambda control: None))
            peer = await frontend.welcome()
            homes.append(await task)
            return peer

        peers = [await call(process) for process in range(3)]
        frontend.process = f"{3:032x}"
        with pytest.raises(CannotConnect, match="answers to 3 other frontends"):
            await worker.call_home(frontend.info(), lambda control: None)
        homes[1].end()
        await call(3)
        assert [kind for kind, _, _ in await peers[1].closed()] == [shared.OPEN, shared.END, shared.BYE]
        homes[0].end()
        homes[2].end()
        frontend.process = f"{0:032x}"
        (await worker.call_home(frontend.info(), lambda control: None)).end()
        await call(4)
        assert (await peers[2].closed())[-1][0] == shared.BYE
        assert len(worker._homes._all) == 3


# ── before the opening is complete ──


async def test_the_opening_and_frames_may_come_in_one_segment_or_byte_by_byte(
    frontend: TcpStreamTransport,
):
    for size in (1, 7, 10_000):
        pending = frontend.expect("r")
        data = shared.opening(host_of(frontend).process, 7)
        data += frame(shared.OPEN, 1, subject_of(pending)) + frame(shared.ITEM, 1, b"item")
        data += frame(shared.END, 1)
        async with RawWorker.connected(frontend) as peer:
            for at in range(0, len(data), size):
                peer.raw(data[at : at + size])
                if size < 100:
                    await asyncio.sleep(0)
            parts = await pending.receive()
            while End() not in parts:
                parts += await pending.receive()
            assert parts == [b"item", End()]


async def test_the_welcome_tells_the_heartbeat(transport: OpenTransport):
    frontend = await transport(heartbeat=0.25)
    await frontend.listen()
    async with RawWorker.connected(frontend) as peer:
        peer.raw(shared.opening(host_of(frontend).process, 7))
        assert await peer.opening() == b'{"shared":1,"heartbeat_ms":250}'


JUNK = {
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a Dynamo handshake": Frame(b'{"subject":"d3b3","stream_type":"response"}').head,
    "zeros": bytes(24),
    "a long opening": Frame(b'{"shared":1,"process":"%s"}' % (b"0" * 4096)).head,
    "an announced length": (1 << 40).to_bytes(8, "big") + bytes(16),
    "a body": Frame(b'{"shared":1,"process":"x","worker":"1"}').head[:15] + b"\x01" + b"x" * 64,
    "no worker": Frame(b'{"shared":1,"process":"x"}').head,
    "a list": Frame(b"[" * 3000).head,
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
async def test_junk_before_the_opening_closes_that_connection_only(pair: Pair, junk: bytes):
    call = await pair.call()
    await call.pending.opened
    async with RawWorker.connected(pair.frontend) as peer:
        peer.raw(junk)
        with pytest.raises((EOFError, ConnectionError)):
            await peer.opening()
    call.home.end()
    assert await call.rest() == [End()]
    await until(lambda: pair.connections == 1)


LATE_JUNK = {
    "a header of another length": Frame(b"1234", b"").head,
    "no header": bytes(24),
    "a frame above the limit": shared.head(shared.ITEM, 1, 1 << 40),
    "text": b"GET / HTTP/1.1\r\nHost: example\r\n\r\n",
}


@pytest.mark.parametrize("junk", LATE_JUNK.values(), ids=LATE_JUNK)
async def test_junk_after_the_opening_closes_that_connection_only(pair: Pair, junk: bytes):
    call = await pair.call()
    async with RawWorker.welcomed(pair.frontend) as peer:
        peer.raw(junk)
        await peer.closed()
    call.home.end()
    assert await call.rest() == [End()]
    await until(lambda: pair.connections == 1)


async def test_a_report_that_is_none_costs_nobody_an_answer(pair: Pair, caplog: pytest.LogCaptureFixture):
    call = await pair.call()
    async with RawWorker.welcomed(pair.frontend) as peer:
        peer.raw(frame(shared.REPORT, 0, b"?") + frame(shared.PING, 0))
        kind, _, _ = await peer.next()
        assert kind == shared.PONG
    assert "load report" in caplog.text
    call.home.end()
    assert await call.rest() == [End()]


async def test_an_opening_that_does_not_come_is_not_waited_for(
    transport: OpenTransport, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reqplane_tcp_stream.arrival, "_TIME", 0.1)
    frontend = await transport()
    await frontend.listen()
    async with RawWorker.connected(frontend) as silent, RawWorker.connected(frontend) as slow:
        slow.raw(shared.opening(host_of(frontend).process, 7)[:30])
        for peer in (silent, slow):
            with pytest.raises((EOFError, ConnectionError)):
                await peer.opening()
    async with RawWorker.welcomed(frontend) as peer:
        await asyncio.sleep(0.2)
        assert await peer.sync() == []


async def test_the_oldest_of_too_many_unproven_connections_goes(
    frontend: TcpStreamTransport, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reqplane_tcp_stream.transport, "_MAX_UNPROVEN", 3)
    async with contextlib.AsyncExitStack() as stack:
        proven = await stack.enter_async_context(RawWorker.welcomed(frontend))
        peers: list[RawWorker] = []
        for count in range(5):
            peers.append(await stack.enter_async_context(RawWorker.connected(frontend)))
            await until(lambda wanted=count + 1: len(frontend._unproven) == min(wanted, 3))
        for peer in peers[:2]:
            with pytest.raises((EOFError, ConnectionError)):
                await peer.opening()
        for peer in peers[2:]:
            peer.raw(shared.opening(host_of(frontend).process, 7))
            await peer.opening()
        assert not frontend._unproven
        assert await proven.sync() == []


async def test_a_burst_of_connections_leaves_no_more_than_may_be_unproven(
    frontend: TcpStreamTransport, monkeypatch: pytest.MonkeyPatch
):
    """They are accepted in one turn, so some are given up before they stand."""
    monkeypatch.setattr(reqplane_tcp_stream.transport, "_MAX_UNPROVEN", 4)
    async with contextlib.AsyncExitStack() as stack:
        peers = await asyncio.gather(
            *(stack.enter_async_context(RawWorker.connected(frontend)) for _ in range(40))
        )
        closed = 0

        async def wait(peer: RawWorker) -> None:
            nonlocal closed
            with contextlib.suppress(EOFError, ConnectionError):
                await peer.opening()
            closed += 1

        waiting = [asyncio.create_task(wait(peer)) for peer in peers]
        await until(lambda: closed == 36)
        assert len(frontend._connections) == 4
        await frontend.aclose()
        await asyncio.wait_for(asyncio.gather(*waiting), 10)


# ── the frontend's answer ──


WRONG_ANSWERS = {
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "zeros": bytes(24),
    "no heartbeat": Frame(b'{"shared":1}').head,
    "another version": Frame(b'{"shared":2,"heartbeat_ms":1000}').head,
    "too long": Frame(b" " * 5000).head,
}


@pytest.mark.parametrize("answer", WRONG_ANSWERS.values(), ids=WRONG_ANSWERS)
async def test_a_frontend_that_answers_something_else_cannot_be_called(
    transport: OpenTransport, answer: bytes
):
    worker = await transport()
    async with RawFrontend.listening() as frontend:
        calls = [
            asyncio.create_task(worker.call_home(frontend.info(), lambda control: None)) for _ in range(3)
        ]
        peer = await frontend.accept()
        peer.raw(answer)
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(error) for error in errors] == [CannotConnect] * 3
        assert len(set(map(id, errors))) == 3  # each caller may write its request into its own
        await peer.opening()
        assert await peer.closed() == []


async def test_a_welcome_that_is_followed_by_the_end_cannot_be_called(transport: OpenTransport):
    worker = await transport()
    async with RawFrontend.listening() as frontend:
        for last in (b"", frame(shared.BYE, 0)):
            calling = asyncio.create_task(worker.call_home(frontend.info(), lambda control: None))
            peer = await frontend.accept()
            peer.raw(shared.welcome(1000) + last)
            await peer.aclose()
            with pytest.raises(CannotConnect):
                await calling


async def test_control_frames_in_the_segment_of_the_welcome(make_pair: OpenPair):
    pair = await make_pair()
    async with RawFrontend.listening() as frontend:
        calling = asyncio.create_task(pair.worker.call_home(frontend.info(), lambda control: None))
        peer = await frontend.accept()
        peer.raw(shared.welcome(1000) + frame(shared.PING, 0) + frame(99, 0))
        await calling
        await peer.opening()
        assert {(await peer.next())[0], (await peer.next())[0]} == {shared.PONG, shared.OPEN}
