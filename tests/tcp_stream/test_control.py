"""Stop, kill, close, and connections that are lost: who is told what."""

from __future__ import annotations

import asyncio

import pytest
import reqplane_tcp_stream.shared
from reqplane.model import Broken, Control, End, Prologue
from reqplane.wire import shared

from .conftest import OpenPair, Pair, is_last, until
from .scripted import RawFrontend, RawWorker, frame


async def test_stop_asks_and_the_answer_still_ends_in_order(pair: Pair):
    call = await pair.call()
    await call.pending.opened
    call.pending.stop()
    await until(lambda: call.told)
    call.home.write(b"last words")
    call.home.end()
    assert await call.rest() == [b"last words", End()]
    assert call.told == [Control.STOP]
    call.pending.stop()
    call.pending.close()
    await (await pair.call()).pending.opened  # the connection has carried whatever came after the end
    assert call.told == [Control.STOP]


async def test_stop_before_the_worker_called_home_reaches_it_then(pair: Pair):
    pending = pair.frontend.expect("r")
    pending.stop()
    told: list[Control] = []
    home = await pair.worker.call_home(pending.info, told.append)
    await until(lambda: told)
    assert told == [Control.STOP]
    home.end()
    assert await pending.receive() == [End()]


@pytest.mark.parametrize("end", ["kill", "close"])
async def test_kill_and_close_make_the_worker_give_up(pair: Pair, end: str):
    call, other = await pair.call(), await pair.call()
    call.home.prologue(None)
    call.home.write(b"one")
    await call.pending.opened
    getattr(call.pending, end)()
    getattr(call.pending, end)()
    *_, last = await call.rest()
    assert isinstance(last, Broken)
    await until(lambda: call.told)
    assert call.home.write(b"nowhere")
    call.home.end()
    other.home.write(b"unharmed")
    other.home.end()
    assert await other.rest() == [b"unharmed", End()]
    assert call.told == [Control.KILL]
    assert other.told == []
    assert not pair.worker_end._streams
    assert not pair.frontend_end._streams


@pytest.mark.parametrize("end", ["kill", "close"])
async def test_a_worker_that_calls_home_after_kill_or_close_is_killed(pair: Pair, end: str):
    other = await pair.call()
    pending = pair.frontend.expect("r")
    getattr(pending, end)()
    getattr(pending, end)()
    told: list[Control] = []
    home = await pair.worker.call_home(pending.info, told.append)
    home.prologue(None)
    home.write(b"nobody reads this")
    await until(lambda: told)
    home.end()
    other.home.end()
    assert await other.rest() == [End()]
    assert told == [Control.KILL]
    assert other.told == []
    assert not pending.opened.done() or pending.opened.cancelled()
    assert all(isinstance(part, Broken) for part in await pending.receive())


async def test_a_waiting_receive_gets_broken_at_close(pair: Pair):
    for call_home in (False, True):
        pending = pair.frontend.expect("r")
        if call_home:
            await pair.worker.call_home(pending.info, lambda control: None)
            await pending.opened
        waiting = asyncio.create_task(pending.receive())
        await asyncio.sleep(0)
        pending.close()
        (last,) = await asyncio.wait_for(waiting, 5)
        assert isinstance(last, Broken)


async def test_a_cancelled_receive_loses_nothing(pair: Pair):
    call = await pair.call()
    waiting = asyncio.create_task(call.pending.receive())
    await asyncio.sleep(0)
    waiting.cancel()
    call.home.write(b"kept")
    call.home.end()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await call.rest() == [b"kept", End()]


async def test_a_subject_is_good_for_one_stream(pair: Pair):
    call = await pair.call()
    told: list[Control] = []
    await pair.worker.call_home(call.pending.info, told.append)
    await until(lambda: told)
    call.home.end()
    assert await call.rest() == [End()]
    assert told == [Control.KILL]
    assert call.told == []


async def test_a_lost_connection_breaks_every_stream_at_once(pair: Pair):
    calls = [await pair.call(str(index)) for index in range(5)]
    for call in calls[1:]:
        call.home.prologue(None)
    calls[2].home.write(b"one")
    calls[4].home.end()
    await until(lambda: calls[4].pending._over)  # type: ignore[attr-defined]
    waiting = asyncio.create_task(calls[0].pending.receive())  # opened, and nothing has come yet
    await asyncio.sleep(0)
    pair.worker_end._transport.abort()
    (broken,) = await asyncio.wait_for(waiting, 5)
    assert isinstance(broken, Broken)
    for call in calls[1:4]:
        parts = await call.rest()
        assert parts[0] == Prologue()
        assert isinstance(parts[-1], Broken)
    assert (await calls[4].rest())[-1] == End()
    assert [call.told for call in calls] == [[Control.GONE]] * 4 + [[]]
    for call in calls:
        assert call.home.write(b"nowhere")
        await asyncio.wait_for(call.home.ready(), 5)
        call.home.end()


async def test_the_next_call_after_a_loss_connects_anew(pair: Pair):
    call = await pair.call()
    pair.frontend_end._transport.abort()
    await until(lambda: call.told)
    again = await pair.call()
    again.home.end()
    assert await again.rest() == [End()]


async def test_a_control_callback_that_raises_harms_nobody(pair: Pair, caplog: pytest.LogCaptureFixture):
    told: list[Control] = []

    def broken(control: Control) -> None:
        told.append(control)
        raise RuntimeError("a defect")

    pendings = [pair.frontend.expect(str(index)) for index in range(3)]
    for pending in pendings:
        await pair.worker.call_home(pending.info, broken)
    call = await pair.call()
    await call.pending.opened
    pendings[0].stop()
    await until(lambda: told)
    assert not pair.worker_end.lost
    pair.worker_end._transport.abort()
    await until(lambda: call.told)
    assert sorted(control.name for control in told) == ["GONE", "GONE", "GONE", "STOP"]
    assert call.told == [Control.GONE]
    assert "a defect" in caplog.text


async def test_a_frontend_that_leaves_leaves_nobody_waiting(make_pair: OpenPair):
    pair = await make_pair()
    call = await pair.call()
    await call.pending.opened
    never = pair.frontend.expect("nobody calls home")
    waiting = [asyncio.create_task(one.receive()) for one in (call.pending, never)]
    await asyncio.sleep(0)
    await pair.frontend.aclose()
    for task in waiting:
        assert is_last((await asyncio.wait_for(task, 5))[-1])
    await until(lambda: call.told)
    assert call.told == [Control.GONE]


async def test_what_a_leaving_worker_wrote_arrives(make_pair: OpenPair):
    """Even when the frontend's frames reach the socket that the worker is closing."""
    pair = await make_pair(stream_window_bytes=1 << 30)
    call = await pair.call()
    reading = asyncio.create_task(call.rest())
    items = [bytes([index]) * 60_000 for index in range(100)]
    for item in items:
        call.home.write(item)
    call.home.end()
    for _ in range(20):
        pair.frontend_end.send(shared.PING, 0)
    await pair.worker.aclose()
    assert await reading == [*items, End()]


# ── frames by hand ──


async def test_unknown_subjects_are_killed_one_by_one(frontend):
    pending = frontend.expect("r")
    async with RawWorker.welcomed(frontend) as peer:
        peer.send(shared.OPEN, 1, b"?" * 16)
        peer.send(shared.OPEN, 2, b"short")
        peer.send(shared.PROLOGUE, 2)
        peer.open(3, pending)
        peer.open(4, pending)
        peer.send(shared.ITEM, 3, b"item")
        peer.send(shared.ITEM, 1, b"ignored: once opened, not known any more")
        peer.send(shared.END, 3)
        assert await peer.sync() == [(shared.KILL, number, b"") for number in (1, 2, 4)]
        assert await pending.receive() == [b"item", End()]


async def test_a_stream_above_the_highest_is_answered_with_kill(frontend):
    async with RawWorker.welcomed(frontend) as peer:
        for kind in (shared.ITEM, shared.ANNOTATED, shared.PROLOGUE, shared.END):
            peer.send(kind, 9, b"")
        peer.send(shared.KILL, 9)  # not this one, or two sides could go on for ever
        assert await peer.sync() == [(shared.KILL, 9, b"")] * 4


@pytest.mark.parametrize("kind", [shared.OPEN, shared.ITEM])
async def test_a_worker_that_wants_answers_and_reads_none_is_given_up(
    frontend, kind: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reqplane_tcp_stream.shared, "_MOST_UNREAD", 100_000)
    async with RawWorker.welcomed(frontend) as peer:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        (connection,) = frontend._connections
        number = 1
        while not connection.lost:
            peer.raw(b"".join(frame(kind, number + n, b"?" * 16) for n in range(5000)))
            await asyncio.sleep(0)
            number += 5000 if kind == shared.OPEN else 0
            assert number < 10_000_000
    await until(lambda: not frontend._connections)


async def test_a_number_used_again_ends_the_connection(frontend):
    first, second = frontend.expect("1"), frontend.expect("2")
    async with RawWorker.welcomed(frontend) as peer:
        peer.open(2, first)
        peer.open(2, second)
        await peer.closed()
        (last,) = await first.receive()
        assert isinstance(last, Broken)
        assert "2" in last.reason
        assert not second.opened.done()


async def test_numbers_may_leave_gaps_and_not_go_back(frontend):
    pending = frontend.expect("r")
    async with RawWorker.welcomed(frontend) as peer:
        peer.open(2**32 - 1, pending)
        peer.send(shared.END, 2**32 - 1)
        assert await peer.sync() == []
        peer.open(5, pending)
        await peer.closed()


async def test_kinds_that_nobody_knows_are_ignored(frontend):
    pending = frontend.expect("r")
    async with RawWorker.welcomed(frontend) as peer:
        peer.open(1, pending)
        peer.send(99, 1, b"?")
        peer.send(99, 0, b"?")
        peer.send(0, 0)
        for kind in (shared.OPEN, shared.ITEM, shared.PROLOGUE, shared.END, shared.KILL, shared.CREDIT):
            peer.send(kind, 0)  # 0 is no stream
        peer.send(shared.STOP, 1)
        peer.send(shared.CREDIT, 1, shared.credit_body(5))
        peer.send(shared.END, 1)
        assert await peer.sync() == []
        assert await pending.receive() == [End()]


async def test_a_worker_hears_stop_kill_and_nothing_for_strangers(transport):
    worker = await transport()
    told: list[Control] = []
    async with RawFrontend.listening() as frontend:
        info = frontend.info()
        calling = asyncio.create_task(worker.call_home(info, told.append))
        peer = await frontend.welcome()
        home = await calling
        assert (await peer.next())[:2] == (shared.OPEN, 1)
        peer.send(shared.STOP, 1)
        peer.send(shared.STOP, 1)
        peer.send(99, 1)
        peer.send(shared.KILL, 0)
        peer.send(shared.ITEM, 7, b"")
        peer.send(shared.KILL, 7)
        assert await peer.sync() == [(shared.KILL, 7, b"")]
        assert told == [Control.STOP, Control.STOP]
        peer.send(shared.KILL, 1)
        peer.send(shared.STOP, 1)
        assert await peer.sync() == []
        assert told == [Control.STOP, Control.STOP, Control.KILL]
        home.write(b"nowhere")
        home.end()
        assert await peer.sync() == []


async def test_after_bye_new_streams_get_a_new_connection(transport):
    worker = await transport()
    told: list[Control] = []
    async with RawFrontend.listening() as frontend:
        calling = asyncio.create_task(worker.call_home(frontend.info(), told.append))
        old = await frontend.welcome()
        home = await calling
        await old.next()
        old.send(shared.BYE, 0)
        await old.sync()
        calling = asyncio.create_task(worker.call_home(frontend.info(), told.append))
        new = await frontend.welcome()
        second = await calling
        assert (await new.next())[:2] == (shared.OPEN, 1)
        home.write(b"goes on")
        second.write(b"goes too")
        assert await old.next() == (shared.ITEM, 1, b"goes on")
        assert await new.next() == (shared.ITEM, 1, b"goes too")
        leaving = asyncio.create_task(worker.aclose())
        for peer in (old, new):
            await peer.closed()
            await peer.aclose()
        await leaving
        assert told == [Control.GONE, Control.GONE]
