"""Dynamo's form, the frontend: what workers write by hand is what the core reads."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest
import reqplane_tcp_stream.arrival
import reqplane_tcp_stream.single
from golden_frames import golden
from reqplane.interfaces import PendingStream
from reqplane.model import Broken, Control, End, Prologue
from reqplane.wire import response, shared
from reqplane_tcp_stream.transport import TcpStreamTransport

from .conftest import OpenTransport, host_of, rest, until
from .scripted import RawWorker, SingleRaw, subject_of

ITEMS = ("prologue", "item, json", "error item, Dynamo 0.7.1", "end, json", "sentinel")
RECORDED = b"".join(golden(name)[0] for name in ITEMS)
BODIES = [golden(name)[2] for name in ITEMS[1:-1]]
STOP, KILL = golden("stop")[1], golden("kill")[1]


def hand(pending: PendingStream) -> bytes:
    return response.handshake(pending.info.subject)


def item(body: bytes) -> bytes:
    return b"".join(response.item(body))


@pytest.fixture(params=["to the listener", "after another connection"])
async def listening(request: pytest.FixtureRequest, frontend: TcpStreamTransport):
    """Alone, or beside a shared connection."""
    if request.param == "to the listener":
        yield frontend
        return
    async with RawWorker.welcomed(frontend) as peer:
        yield frontend
        assert await peer.sync() == []


@pytest.mark.parametrize("size", [1, 7, 100, 100_000])
async def test_a_recorded_answer_in_any_segments(listening: TcpStreamTransport, size: int):
    pending = listening.expect("r")
    data = hand(pending) + RECORDED
    async with SingleRaw.calling(listening) as peer:
        for at in range(0, len(data), size):
            peer.raw(data[at : at + size])
            await asyncio.sleep(0)
        assert await rest(pending) == [Prologue(), *BODIES, End()]
        assert pending.enveloped
        assert pending.opened.done()
        assert await peer.until_closed() == []  # the frontend closes, and has written nothing
    assert not [one for one in listening._connections if not hasattr(one, "worker")]


async def test_the_listeners_socket_waits_for_nothing(frontend: TcpStreamTransport):
    pending = frontend.expect("r")
    async with SingleRaw.calling(frontend, hand(pending)):
        await pending.opened
        (connection,) = frontend._connections
        assert connection._transport is not None
        sock = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def test_a_handler_that_could_not_start(frontend: TcpStreamTransport):
    pending = frontend.expect("r")
    async with SingleRaw.calling(frontend, hand(pending) + golden("prologue with error")[0]) as peer:
        assert await rest(pending) == [Prologue("text")]
        assert await peer.until_closed() == []


@pytest.mark.parametrize("before", [0, 1, 2, 3, 4])
async def test_a_connection_that_closes_before_the_sentinel_is_broken(
    frontend: TcpStreamTransport, before: int
):
    pending = frontend.expect("r")
    data = hand(pending) + b"".join(golden(name)[0] for name in ITEMS[:before])
    async with SingleRaw.calling(frontend, data) as peer:
        await pending.opened
        peer.writer.write_eof()
        *came, last = await rest(pending)
    assert isinstance(last, Broken)
    assert came == [Prologue(), *BODIES][:before]


async def test_half_a_frame_is_broken(frontend: TcpStreamTransport):
    pending = frontend.expect("r")
    async with SingleRaw.calling(frontend, hand(pending) + RECORDED[:-3]) as peer:
        peer.writer.write_eof()
        assert isinstance((await rest(pending))[-1], Broken)


BAD = {
    "an item first": item(b"x"),
    "the sentinel first": response.sentinel(),
    "junk": response.prologue(None) + b"GET / HTTP/1.1\r\nHost: example\r\n\r\n",
    "an unknown header": response.prologue(None) + response.handshake("x"),
    "more than the limit": response.prologue(None) + bytes(8) + (1 << 40).to_bytes(8, "big") + bytes(8),
    "a prologue that is none": response.sentinel(),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
async def test_bytes_against_the_rules_break_that_stream_only(frontend: TcpStreamTransport, data: bytes):
    pending, other = frontend.expect("r"), frontend.expect("other")
    async with SingleRaw.calling(frontend, hand(other)) as good, SingleRaw.calling(frontend) as peer:
        peer.raw(hand(pending) + data)
        last = (await rest(pending))[-1]
        assert isinstance(last, Broken)
        assert "rules of the wire" in last.reason
        await peer.until_closed()
        good.raw(RECORDED)
        assert (await rest(other))[-1] == End()


async def test_an_answer_is_whole_whatever_follows_its_sentinel(frontend: TcpStreamTransport):
    pending = frontend.expect("r")
    async with SingleRaw.calling(frontend, hand(pending) + RECORDED + b"?" * 100) as peer:
        assert await rest(pending) == [Prologue(), *BODIES, End()]
        await peer.until_closed()


# ── stop, kill, close ──


async def test_stop_is_a_frame_and_the_answer_goes_on(frontend: TcpStreamTransport):
    pending = frontend.expect("r")
    async with SingleRaw.calling(frontend, hand(pending)) as peer:
        await pending.opened
        pending.stop()
        assert await peer.frame() == (STOP, b"")
        peer.raw(RECORDED)
        assert (await rest(pending))[-1] == End()


async def test_stop_before_the_worker_called_home(frontend: TcpStreamTransport):
    pending = frontend.expect("r")
    pending.stop()
    async with SingleRaw.calling(frontend, hand(pending)) as peer:
        assert await peer.frame() == (STOP, b"")
        peer.writer.write_eof()  # as Dynamo does: no end marker, no sentinel
        assert isinstance((await rest(pending))[-1], Broken)  # the core knows that it has stopped it


@pytest.mark.parametrize("end", ["kill", "close"])
async def test_kill_and_close_are_a_frame(frontend: TcpStreamTransport, end: str):
    pending = frontend.expect("r")
    async with SingleRaw.calling(frontend, hand(pending) + response.prologue(None) + item(b"1")) as peer:
        await pending.opened
        getattr(pending, end)()
        getattr(pending, end)()
        assert isinstance((await rest(pending))[-1], Broken)
        assert await peer.frame() == (KILL, b"")
        peer.raw(item(b"nobody reads this") * 1000)
        peer.writer.write_eof()
        assert await peer.until_closed() == []
    await until(lambda: not frontend._connections)


async def test_a_killed_worker_that_does_not_close_is_cut_off(
    frontend: TcpStreamTransport, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reqplane_tcp_stream.single, "LINGER", 0.1)
    pending = frontend.expect("r")
    async with SingleRaw.calling(frontend, hand(pending)) as peer:
        await pending.opened
        pending.kill()
        assert await peer.until_closed() == [(KILL, b"")]


async def test_a_frontend_that_leaves_says_so(transport: OpenTransport):
    frontend = await transport()
    await frontend.listen()
    pending = frontend.expect("r")
    async with SingleRaw.calling(frontend, hand(pending)) as peer:
        await pending.opened
        leaving = asyncio.create_task(frontend.aclose())
        assert await peer.until_closed() == [(KILL, b"")]
        await leaving
        assert isinstance((await rest(pending))[-1], Broken)


# ── a slow reader ──


async def connections(frontend: TcpStreamTransport, pending: PendingStream) -> set[Any]:
    await pending.opened
    return {*frontend._connections}


async def test_a_slow_reader_holds_a_window_and_what_the_socket_gave_at_once(transport: OpenTransport):
    window, size, count = 100_000, 10_000, 3000
    frontend = await transport(stream_window_bytes=window)
    await frontend.listen()
    pending = frontend.expect("r")
    async with SingleRaw.calling(frontend, hand(pending) + response.prologue(None)) as peer:

        async def write() -> None:
            for number in range(count):
                peer.raw(item(number.to_bytes(4, "big") * (size // 4)))
                await peer.writer.drain()
            peer.raw(response.sentinel())

        writing = asyncio.create_task(write())
        (connection,) = await connections(frontend, pending)
        await until(lambda: connection._paused)
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert not writing.done()
        seen, most, parts = 0, 0, [Prologue()]
        while parts[-1] != End():
            parts = await pending.receive()
            bodies = [part for part in parts if isinstance(part, bytes | bytearray)]
            assert [int.from_bytes(body[:4], "big") for body in bodies] == [*range(seen, seen + len(bodies))]
            seen, most = seen + len(bodies), max(most, len(bodies) * size)
            await asyncio.sleep(0)
        await writing
        assert seen == count
        assert most <= window + (1 << 18) + size


async def test_a_paused_worker_that_is_killed_is_let_go(
    transport: OpenTransport, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reqplane_tcp_stream.single, "LINGER", 0.2)
    frontend = await transport(stream_window_bytes=1024)
    await frontend.listen()
    pending = frontend.expect("r")
    async with SingleRaw.calling(
        frontend, hand(pending) + response.prologue(None) + item(b"x" * 5000)
    ) as peer:
        (connection,) = await connections(frontend, pending)
        await until(lambda: connection._paused)
        pending.close()
        assert await peer.until_closed() == [(KILL, b"")]
    await until(lambda: not frontend._connections)


# ── who is let in, in either form ──


def first_frames(frontend: TcpStreamTransport, form: str, pending: PendingStream) -> bytes:
    if form == "single":
        return hand(pending)
    opening = shared.opening(host_of(frontend).process, 7)
    return opening + shared.head(shared.OPEN, 1, 16) + subject_of(pending)


async def refused(frontend: TcpStreamTransport, form: str, pending: PendingStream) -> None:
    """This worker is told to go away."""
    if form == "single":
        async with SingleRaw.calling(frontend, hand(pending)) as peer:
            assert await peer.until_closed() == []
    else:
        async with RawWorker.welcomed(frontend) as peer:
            peer.open(1, pending)
            assert await peer.sync() == [(shared.KILL, 1, b"")]


FORMS = ["single", "shared"]


@pytest.mark.parametrize("second", FORMS)
@pytest.mark.parametrize("first", FORMS)
async def test_a_subject_is_good_once_whatever_the_form(
    frontend: TcpStreamTransport, first: str, second: str
):
    pending = frontend.expect("r")
    async with SingleRaw.calling(frontend, first_frames(frontend, first, pending)):
        await pending.opened
        await refused(frontend, second, pending)
        assert pending.enveloped == (first == "single")
        assert not pending._over  # type: ignore[attr-defined]


@pytest.mark.parametrize("form", FORMS)
async def test_a_closed_or_unknown_subject_is_refused(
    frontend: TcpStreamTransport, transport: OpenTransport, form: str
):
    closed, killed = frontend.expect("r"), frontend.expect("r")
    closed.close()
    killed.kill()
    stranger = (await transport()).expect("of another frontend")
    for pending in (closed, killed, stranger):
        await refused(frontend, form, pending)
        assert not pending.opened.done() or pending.opened.cancelled()


@pytest.mark.parametrize("subject", ["", "d3b3", "x" * 32, "0" * 31 + "é"])
async def test_a_subject_that_is_none_is_refused(frontend: TcpStreamTransport, subject: str):
    async with SingleRaw.calling(frontend, response.handshake(subject)) as peer:
        assert await peer.until_closed() == []


async def test_a_request_stream_is_refused_and_spends_no_subject(frontend: TcpStreamTransport):
    pending = frontend.expect("r")
    async with SingleRaw.calling(frontend, response.handshake(pending.info.subject, "request")) as peer:
        assert await peer.until_closed() == []
    async with SingleRaw.calling(frontend, hand(pending)):
        await pending.opened


@pytest.mark.parametrize("form", FORMS)
async def test_a_worker_that_dribbles_is_cut_off_in_time(
    transport: OpenTransport, monkeypatch: pytest.MonkeyPatch, form: str
):
    monkeypatch.setattr(reqplane_tcp_stream.arrival, "_TIME", 0.3)
    frontend = await transport()
    await frontend.listen()
    pending = frontend.expect("r")
    data = first_frames(frontend, form, pending)
    async with SingleRaw.calling(frontend) as peer:
        closing = asyncio.create_task(peer.until_closed())
        with contextlib.suppress(ConnectionError):
            for byte in data:
                peer.raw(bytes([byte]))
                await asyncio.wait([closing], timeout=0.05)
                if closing.done():
                    break
        assert await closing == []
    assert not pending.opened.done()


async def test_a_handshake_of_more_than_4_kib_is_refused_at_once(
    frontend: TcpStreamTransport, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reqplane_tcp_stream.arrival, "_TIME", 60.0)
    pending = frontend.expect("r")
    long = response.handshake(pending.info.subject, "response" + " " * 4096)
    async with SingleRaw.calling(frontend, long[:24]) as peer:  # the announced length is enough
        assert await peer.until_closed() == []


async def test_a_control_frame_is_never_a_first_frame(frontend: TcpStreamTransport):
    async with SingleRaw.calling(frontend, response.control(Control.STOP)) as peer:
        assert await peer.until_closed() == []
