"""A slow reader slows its own writer down, and nobody else."""

from __future__ import annotations

import asyncio

import pytest
from reqplane.model import Broken, Control, End, Prologue
from reqplane.wire import shared

from .conftest import Call, OpenPair, a_turn, until
from .scripted import RawFrontend, RawWorker

WINDOW = 1000


def fill(call: Call, size: int = 300) -> int:
    """Write until told to stop; how many items that were."""
    items = 1
    while call.home.write(b"x" * size):
        items += 1
    return items


async def test_a_writer_is_stopped_by_the_item_that_uses_the_window_up(make_pair: OpenPair):
    pair = await make_pair(stream_window_bytes=WINDOW)
    call, other = await pair.call(), await pair.call()
    assert fill(call) == 4  # 300, 600, 900, 1200
    ready = asyncio.create_task(call.home.ready())
    await until(lambda: call.pending._received == 1200)  # type: ignore[attr-defined]
    assert not ready.done()
    for _ in range(10):  # the other stream goes on
        if not other.home.write(b"y" * 400):
            ready_again = asyncio.create_task(other.home.ready())
            await other.pending.receive()
            reading = asyncio.create_task(other.pending.receive())  # says that the first batch is used
            await asyncio.wait_for(ready_again, 5)
            reading.cancel()
            await asyncio.wait([reading])
    assert not ready.done()
    assert len(await call.pending.receive()) == 4
    await a_turn()
    assert not ready.done()  # handed out is not consumed
    reading = asyncio.create_task(call.pending.receive())
    await asyncio.wait_for(ready, 5)
    call.home.end()
    assert await reading == [End()]


async def test_annotated_items_need_credit_and_everything_else_does_not(make_pair: OpenPair):
    pair = await make_pair(stream_window_bytes=WINDOW)
    call = await pair.call()
    call.home.prologue(None)
    assert call.home.write(b"x" * 998, annotated=True)
    assert call.home.write(b"")  # counts as 1, or an endless row of them would cost no credit
    assert not call.home.write(b"x", annotated=True)
    call.home.end(b'{"running":1,"queued":0,"capacity":null}')
    assert len(await call.rest()) == 5


async def test_an_item_larger_than_the_window_passes(make_pair: OpenPair):
    pair = await make_pair(stream_window_bytes=WINDOW)
    call = await pair.call()

    async def write() -> None:
        for _ in range(5):
            assert not call.home.write(b"z" * 70_000)
            await call.home.ready()
        call.home.end()

    writing = asyncio.create_task(write())
    assert await call.rest() == [b"z" * 70_000] * 5 + [End()]
    await writing


async def test_a_slow_reader_holds_a_window_and_one_item_at_most(make_pair: OpenPair):
    window, item = 10_000, b"i" * 3000
    pair = await make_pair(stream_window_bytes=window)
    call = await pair.call()

    async def write() -> None:
        for _ in range(300):
            if not call.home.write(item):
                await call.home.ready()
        call.home.end()

    writing = asyncio.create_task(write())
    items, most = 0, 0
    parts: list[object] = []
    while End() not in parts:
        parts = [*await call.pending.receive()]
        items += parts.count(item)
        most = max(most, parts.count(item))
        for _ in range(10):
            await a_turn()
    await writing
    assert items == 300
    assert most * len(item) <= window + len(item)


async def test_credit_is_given_at_half_the_window(make_pair: OpenPair):
    pair = await make_pair(stream_window_bytes=WINDOW)
    frontend = pair.frontend
    pending = frontend.expect("r")
    async with RawWorker.welcomed(frontend) as peer:
        peer.open(1, pending)
        peer.send(shared.ITEM, 1, b"x" * 499)
        await pending.receive()
        reading = asyncio.create_task(pending.receive())
        assert await peer.sync() == []
        peer.send(shared.ITEM, 1, b"x")
        await reading
        reading = asyncio.create_task(pending.receive())
        assert await peer.sync() == [(shared.CREDIT, 1, shared.credit_body(500))]
        peer.send(shared.PROLOGUE, 1)
        peer.send(shared.END, 1)
        assert await reading == [Prologue(), End()]
        assert await peer.sync() == []


async def test_credit_by_hand(transport):
    worker = await transport()
    async with RawFrontend.listening() as frontend:
        calling = asyncio.create_task(worker.call_home(frontend.info(window=10), lambda control: None))
        peer = await frontend.welcome()
        home = await calling
        await peer.next()
        assert not home.write(b"x" * 25)
        ready = asyncio.create_task(home.ready())
        peer.send(shared.CREDIT, 99, shared.credit_body(1000))  # for a stream that is not
        peer.send(shared.CREDIT, 0, shared.credit_body(1000))
        peer.send(shared.CREDIT, 1, shared.credit_body(15))  # 10 - 25 + 15 is not above zero
        await peer.sync()
        assert not ready.done()
        peer.send(shared.CREDIT, 1, shared.credit_body(1))
        await asyncio.wait_for(ready, 5)
        assert not home.write(b"x")
        peer.send(shared.CREDIT, 1, b"odd")  # breaks the rules
        assert [kind for kind, *_ in await peer.closed()][-1] == shared.ITEM


# ── a worker that does not care ──


@pytest.mark.parametrize("kind", [shared.ITEM, shared.ANNOTATED])
@pytest.mark.parametrize("size", [0, 1, 400, 70_000])
async def test_a_worker_that_ignores_its_credit_loses_that_stream_only(
    make_pair: OpenPair, kind: int, size: int
):
    frontend = (await make_pair(stream_window_bytes=WINDOW)).frontend
    pending, other = frontend.expect("r"), frontend.expect("other")
    allowed = -(-WINDOW // (size or 1))  # the last of them crosses the line
    async with RawWorker.welcomed(frontend) as peer:
        peer.open(1, pending)
        peer.open(2, other)
        for _ in range(allowed):
            peer.send(kind, 1, b"x" * size)
        assert await peer.sync() == []
        peer.send(kind, 1, b"x" * size)
        for _ in range(2000):
            peer.send(kind, 1, b"x" * size)
            await peer.writer.drain()
        assert await peer.sync() == [(shared.KILL, 1, b"")]
        *items, last = await pending.receive()
        assert len(items) == allowed
        assert isinstance(last, Broken)
        assert "DYN_STREAM_WINDOW_BYTES" in last.reason
        peer.send(shared.ITEM, 2, b"unharmed")
        peer.send(shared.END, 2)
        assert await peer.sync() == []
        assert await other.receive() == [b"unharmed", End()]


async def test_what_was_given_back_may_be_used_again_and_no_more(make_pair: OpenPair):
    frontend = (await make_pair(stream_window_bytes=WINDOW)).frontend
    pending = frontend.expect("r")
    async with RawWorker.welcomed(frontend) as peer:
        peer.open(1, pending)
        peer.send(shared.ITEM, 1, b"x" * 1500)
        assert await peer.sync() == []
        assert await pending.receive() == [b"x" * 1500]
        reading = asyncio.create_task(pending.receive())
        assert await peer.next() == (shared.CREDIT, 1, shared.credit_body(1500))
        for size in (999, 1):  # again a window …
            peer.send(shared.ITEM, 1, b"y" * size)
        assert await peer.sync() == []
        peer.send(shared.ITEM, 1, b"z")  # … and no byte more
        assert await peer.sync() == [(shared.KILL, 1, b"")]
        assert (await reading)[:1] == [b"y" * 999]


async def test_prologues_without_end_cost_nothing(make_pair: OpenPair):
    frontend = (await make_pair()).frontend
    pending = frontend.expect("r")
    async with RawWorker.welcomed(frontend) as peer:
        peer.open(1, pending)
        for _ in range(1000):
            peer.send(shared.PROLOGUE, 1)
        peer.send(shared.END, 1)
        assert await peer.sync() == []
        assert await pending.receive() == [Prologue(), End()]


async def test_a_writer_that_waits_is_never_taken_for_one_that_does_not(make_pair: OpenPair):
    """However items, windows and reads fall."""
    pair = await make_pair(stream_window_bytes=1024)
    for size in (0, 1, 3, 511, 512, 513, 1023, 1024, 1025, 5000):
        call = await pair.call()
        count = 4000 // (size // 100 + 1)

        async def write(call: Call = call, size: int = size, count: int = count) -> None:
            for _ in range(count):
                if not call.home.write(b"x" * size):
                    await call.home.ready()
            call.home.end()

        _, parts = await asyncio.gather(write(), call.rest())
        assert parts == [b"x" * size] * count + [End()]


@pytest.mark.parametrize("end", ["kill", "close", "loss"])
async def test_ready_returns_when_nobody_reads_any_more(make_pair: OpenPair, end: str):
    pair = await make_pair(stream_window_bytes=WINDOW)
    call = await pair.call()
    await call.pending.opened
    fill(call)
    ready = asyncio.create_task(call.home.ready())
    await a_turn()
    if end == "loss":
        pair.frontend_end._transport.abort()
    else:
        getattr(call.pending, end)()
    await asyncio.wait_for(ready, 5)
    assert call.told == [Control.GONE if end == "loss" else Control.KILL]
    assert call.home.write(b"x" * 5000)


async def test_stop_does_not_let_a_writer_go_on_without_credit(make_pair: OpenPair):
    pair = await make_pair(stream_window_bytes=WINDOW)
    call = await pair.call()
    await call.pending.opened
    fill(call)
    ready = asyncio.create_task(call.home.ready())
    call.pending.stop()
    await until(lambda: call.told)
    await a_turn()
    assert not ready.done()
    ready.cancel()


@pytest.mark.parametrize("size", [30_000, 200_000])
async def test_a_peer_that_does_not_read_stops_all_writers_until_it_does(transport, size: int):
    worker = await transport(stream_dead_after=60.0)
    item = b"x" * size
    async with RawFrontend.listening() as frontend:
        calls = [
            asyncio.create_task(worker.call_home(frontend.info(window=1 << 30), lambda control: None))
            for _ in range(2)
        ]
        peer = await frontend.welcome()
        one, other = await asyncio.gather(*calls)
        written = 1
        while one.write(item):
            written += 1
            await a_turn()
            assert written < 1000, "the socket never filled up"
        assert not other.write(b"small")
        waiting = [asyncio.create_task(home.ready()) for home in (one, other)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        got = 0
        while got < written:
            got += (await peer.next())[2] == item
        await asyncio.wait_for(asyncio.gather(*waiting), 5)
        assert one.write(b"goes on")


async def test_a_writer_that_the_full_socket_stopped_hears_of_the_loss(transport):
    worker = await transport()
    told: list[Control] = []
    async with RawFrontend.listening() as frontend:
        calling = asyncio.create_task(worker.call_home(frontend.info(window=1 << 30), told.append))
        peer = await frontend.welcome()
        home = await calling
        while home.write(b"x" * 200_000):
            await a_turn()
        ready = asyncio.create_task(home.ready())
        await a_turn()
        peer.writer.transport.abort()
        await asyncio.wait_for(ready, 5)
        assert told == [Control.GONE]
