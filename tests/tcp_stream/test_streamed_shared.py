"""Requests that are streams, on a shared connection, against peers that write its frames by hand."""

from __future__ import annotations

import asyncio

import pytest
from reqplane.errors import FrameTooLarge
from reqplane.model import Broken, Control, End, Prologue
from reqplane.wire import shared
from reqplane.wire.frame import take_first

from .conftest import OpenPair, OpenTransport, Pair, a_turn, rest, until
from .scripted import Raw, RawFrontend, RawWorker

WINDOW = 1000


class Home:
    """A worker's stream to a scripted frontend, for a request that is a stream."""

    def __init__(self, stream, peer: Raw, told: list[Control]) -> None:
        self.stream, self.peer, self.told = stream, peer, told

    @classmethod
    async def opened(cls, worker, frontend: RawFrontend, window: int = WINDOW) -> Home:
        told: list[Control] = []
        calling = asyncio.create_task(worker.call_home(frontend.info(window, sends=True), told.append))
        peer = await frontend.welcome()
        stream = await calling
        kind, number, _ = await peer.next()
        assert (kind, number) == (shared.OPEN, 1)
        return cls(stream, peer, told)


@pytest.fixture
async def raw():
    async with RawFrontend.listening() as one:
        yield one


# ── the frontend's end ──


async def test_items_and_the_end_are_written_as_frames(frontend):
    pending = frontend.expect("r", sends=True)
    async with RawWorker.welcomed(frontend) as peer:
        peer.open(1, pending)
        await pending.opened
        assert pending.write(b"one")
        assert pending.write(bytearray(b"two"))
        assert pending.write(memoryview(b""))
        pending.end()
        pending.end()
        assert not pending.write(b"after the end")
        assert [await peer.next() for _ in range(4)] == [
            (shared.ITEM, 1, b"one"),
            (shared.ITEM, 1, b"two"),
            (shared.ITEM, 1, b""),
            (shared.END, 1, b""),
        ]
        peer.send(shared.PROLOGUE, 1)
        peer.send(shared.END, 1)
        assert await rest(pending) == [Prologue(), End()]
        assert await peer.sync() == []


async def test_what_was_written_before_the_call_waits_for_it(frontend):
    pending = frontend.expect("r", sends=True)
    pending.write(b"one")
    pending.write(b"two")
    async with RawWorker.welcomed(frontend) as peer:
        peer.open(1, pending)
        assert (await peer.next())[2] == b"one"
        assert (await peer.next())[2] == b"two"
        assert await pending.ready()
    assert await rest(pending) == [Broken("the peer closed the connection")]


async def test_a_window_of_credit_and_one_item(transport: OpenTransport):
    frontend = await transport(stream_window_bytes=WINDOW)
    await frontend.listen()
    pending = frontend.expect("r", sends=True)
    async with RawWorker.welcomed(frontend) as peer:
        peer.open(1, pending)
        await pending.opened
        assert pending.write(b"x" * 999)
        assert not pending.write(b"y" * 5000)
        ready = asyncio.create_task(pending.ready())
        assert [len((await peer.next())[2]) for _ in range(2)] == [999, 5000]
        peer.send(shared.CREDIT, 1, shared.credit_body(4999))
        assert await peer.sync() == []
        assert not ready.done()
        peer.send(shared.CREDIT, 1, shared.credit_body(1))
        assert await asyncio.wait_for(ready, 5)
        assert not pending.write(b"z")
        pending.close()


async def test_the_larger_of_two_limits_is_the_workers(frontend):
    pending = frontend.expect("r", sends=True)
    async with RawWorker.welcomed(frontend, max_frame=1000) as peer:
        peer.open(1, pending)
        await pending.opened
        with pytest.raises(FrameTooLarge, match="1001 bytes, at most 1000 are allowed"):
            pending.write(b"x" * 1001)
        assert pending.write(b"x" * 1000)
        assert len((await peer.next())[2]) == 1000
        pending.close()


async def test_an_early_item_that_the_worker_does_not_take_ends_the_stream(frontend):
    pending = frontend.expect("r", sends=True)
    pending.write(b"x" * 2000)
    async with RawWorker.welcomed(frontend, max_frame=1000) as peer:
        peer.open(1, pending)
        assert (await peer.next())[:2] == (shared.KILL, 1)
    assert await rest(pending) == [Broken("an item of 2000 bytes was sent, the worker takes 1000")]


@pytest.mark.parametrize("how", ["stop", "kill", "close"])
async def test_whoever_ends_it_sends_no_more(frontend, how: str):
    pending = frontend.expect("r", sends=True)
    async with RawWorker.welcomed(frontend) as peer:
        peer.open(1, pending)
        await pending.opened
        getattr(pending, how)()
        assert not pending.write(b"late")
        assert not await pending.ready()
        pending.end()
        assert await peer.next() == (shared.STOP if how == "stop" else shared.KILL, 1, b"")
        assert await peer.sync() == []
        if how == "stop":
            peer.send(shared.ITEM, 1, b"so far")
            peer.send(shared.END, 1)
            assert await rest(pending) == [b"so far", End()]


async def test_a_stop_before_the_call(frontend):
    pending = frontend.expect("r", sends=True)
    pending.write(b"one")
    pending.stop()
    async with RawWorker.welcomed(frontend) as peer:
        peer.open(1, pending)
        assert sorted(kind for kind, *_ in [await peer.next(), await peer.next()]) == [
            shared.ITEM,
            shared.STOP,
        ]
        assert not await pending.ready()
        pending.close()


@pytest.mark.parametrize("end", ["END", "KILL", "PROLOGUE", "the connection"])
async def test_whoever_waits_to_write_hears_of_the_end(transport: OpenTransport, end: str):
    frontend = await transport(stream_window_bytes=WINDOW)
    await frontend.listen()
    pending = frontend.expect("r", sends=True)
    async with RawWorker.welcomed(frontend) as peer:
        peer.open(1, pending)
        await pending.opened
        assert not pending.write(b"x" * WINDOW)
        ready = asyncio.create_task(pending.ready())
        await a_turn()
        if end == "the connection":
            peer.writer.transport.abort()
        else:
            peer.send(getattr(shared, end), 1, b"no" if end == "PROLOGUE" else b"")
        assert not await asyncio.wait_for(ready, 5)
        assert not pending.write(b"more")


async def test_a_peer_that_does_not_read_stops_the_writer(transport: OpenTransport):
    frontend = await transport(stream_window_bytes=1 << 30, stream_dead_after=60.0)
    await frontend.listen()
    pending = frontend.expect("r", sends=True)
    async with RawWorker.welcomed(frontend) as peer:
        peer.open(1, pending)
        await pending.opened
        written = 1
        while pending.write(b"x" * 100_000):
            written += 1
            await a_turn()
            assert written < 1000, "the socket never filled up"
        ready = asyncio.create_task(pending.ready())
        await asyncio.sleep(0.05)
        assert not ready.done()
        got = 0
        while got < written:
            got += (await peer.next())[0] == shared.ITEM
        assert await asyncio.wait_for(ready, 5)
        pending.close()


async def test_credit_for_an_ordinary_stream_is_ignored(frontend):
    pending = frontend.expect("r")
    async with RawWorker.welcomed(frontend) as peer:
        peer.open(1, pending)
        peer.send(shared.CREDIT, 1, shared.credit_body(5))
        peer.send(shared.END, 1)
        assert await rest(pending) == [End()]


# ── the worker's end ──


async def test_the_worker_tells_the_largest_item_that_it_takes(transport: OpenTransport, raw: RawFrontend):
    worker = await transport(max_frame_bytes=5000)
    calling = asyncio.create_task(worker.call_home(raw.info(), lambda control: None))
    peer = await raw.accept()
    assert shared.read_opening(await peer.opening(), b"").max_frame == 5000
    peer.raw(shared.welcome(1000))
    await calling


async def test_what_the_frontend_sends_is_what_the_handler_reads(transport: OpenTransport, raw: RawFrontend):
    home = await Home.opened(await transport(), raw)
    for item in (b"one", b"", b"three"):
        home.peer.send(shared.ITEM, 1, item)
    home.peer.send(shared.END, 1)
    home.peer.send(shared.ITEM, 1, b"after the end")
    home.peer.send(shared.END, 1)
    await home.peer.sync()
    assert await home.stream.receive() == [b"one", b"", b"three", End()]
    assert await home.stream.receive() == [Broken("the stream has ended already")]
    home.stream.end()
    assert (await home.peer.next())[0] == shared.END
    home.peer.send(shared.ITEM, 1, b"after both ends")
    assert await home.peer.sync() == []
    assert home.told == []


async def test_credit_is_given_for_what_has_been_read(transport: OpenTransport, raw: RawFrontend):
    home = await Home.opened(await transport(), raw)
    home.peer.send(shared.ITEM, 1, b"x" * 400)
    assert len(await home.stream.receive()) == 1
    home.peer.send(shared.ITEM, 1, b"x" * 300)
    assert len(await home.stream.receive()) == 1
    assert await home.peer.sync() == []  # 400 of 1000 have been read: less than half the window
    waiting = asyncio.create_task(home.stream.receive())
    assert await home.peer.next() == (shared.CREDIT, 1, shared.credit_body(700))
    home.peer.send(shared.END, 1)
    assert await waiting == [End()]


async def test_who_sends_more_than_its_credit_is_killed(transport: OpenTransport, raw: RawFrontend):
    home = await Home.opened(await transport(), raw)
    home.peer.send(shared.ITEM, 1, b"x" * WINDOW)
    home.peer.send(shared.ITEM, 1, b"y")
    home.peer.send(shared.ITEM, 1, b"z")
    assert await home.peer.next() == (shared.KILL, 1, b"")
    assert home.told == [Control.KILL]
    parts = await home.stream.receive()
    assert parts == [
        b"x" * WINDOW,
        Broken("the frontend sent more than the 1000 bytes that may be unread"),
    ]
    assert await home.peer.sync() == []


@pytest.mark.parametrize("end", ["STOP", "KILL", "the connection", "the answer", "abort"])
async def test_a_request_that_is_cut_never_ends_regularly(
    transport: OpenTransport, raw: RawFrontend, end: str
):
    home = await Home.opened(await transport(), raw)
    home.peer.send(shared.ITEM, 1, b"one")
    assert await home.stream.receive() == [b"one"]
    waiting = asyncio.create_task(home.stream.receive())
    await a_turn()
    if end == "the connection":
        home.peer.writer.transport.abort()
    elif end == "the answer":
        home.stream.end()
    elif end == "abort":
        home.stream.abort()
    else:
        home.peer.send(getattr(shared, end), 1)
    (broken,) = await asyncio.wait_for(waiting, 5)
    assert isinstance(broken, Broken)
    assert isinstance((await home.stream.receive())[0], Broken)
    told = {"STOP": [Control.STOP], "KILL": [Control.KILL], "the connection": [Control.GONE]}
    assert home.told == told.get(end, [])
    if end == "STOP":
        home.peer.send(shared.ITEM, 1, b"late")
        home.peer.send(shared.END, 1)
        await home.peer.sync()
        assert isinstance((await home.stream.receive())[0], Broken)
        assert home.stream.write(b"so far")
        assert await home.peer.next() == (shared.ITEM, 1, b"so far")


async def test_items_for_an_ordinary_stream_are_ignored(transport: OpenTransport, raw: RawFrontend):
    worker = await transport()
    told: list[Control] = []
    calling = asyncio.create_task(worker.call_home(raw.info(), told.append))
    peer = await raw.welcome()
    home = await calling
    await peer.next()
    peer.send(shared.ITEM, 1, b"x" * 1_000_000)
    peer.send(shared.END, 1)
    await peer.sync()
    home.end()
    assert (await peer.next())[0] == shared.END
    assert told == []


def test_the_opening_is_what_the_description_says():
    frame = take_first(shared.opening("ab" * 16, 3, 4096), shared.OPENING_LIMIT)
    assert frame is not None
    assert frame[0] == b'{"shared":1,"process":"' + b"ab" * 16 + b'","worker":"3","max_frame":4096}'


# ── both ──


async def test_both_directions_under_load(make_pair: OpenPair):
    pair = await make_pair(stream_window_bytes=3000)

    async def one(size: int) -> None:
        call = await pair.call(sends=True)
        await call.pending.opened
        sent = [bytes([number % 256]) * (size + number % 7) for number in range(300)]

        async def ask() -> None:
            for item in sent:
                if not call.pending.write(item):
                    assert await call.pending.ready()
            call.pending.end()

        async def echo() -> None:
            call.home.prologue(None)
            while True:
                for part in await call.home.receive():
                    if isinstance(part, End):
                        call.home.end()
                        return
                    assert isinstance(part, bytes | bytearray)
                    if not call.home.write(bytes(part)):
                        await call.home.ready()

        _, _, parts = await asyncio.gather(ask(), echo(), rest(call.pending))
        assert parts == [Prologue(), *sent, End()]

    await asyncio.gather(*(one(size) for size in (0, 10, 1000, 5000, 70_000)))


async def test_a_slow_reader_of_a_request_holds_nobody_else_up(make_pair: OpenPair):
    pair: Pair = await make_pair(stream_window_bytes=WINDOW)
    slow = await pair.call(sends=True)
    await slow.pending.opened
    while slow.pending.write(b"x" * 300):
        pass
    other = await pair.call(sends=True)
    await other.pending.opened

    async def read() -> None:
        while not isinstance((await other.home.receive())[-1], End):
            pass

    reading = asyncio.create_task(read())
    for _ in range(20):
        if not other.pending.write(b"y" * 900):
            assert await asyncio.wait_for(other.pending.ready(), 5)
    other.pending.end()
    await asyncio.wait_for(reading, 5)
    assert not slow.home.write(b"z" * WINDOW)  # the other way has a window of its own
    assert b"z" * WINDOW in await slow.pending.receive()
    for call in (slow, other):
        call.home.end()
        await until(lambda call=call: call.pending._over)  # type: ignore[attr-defined]
