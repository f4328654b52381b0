"""Requests that are streams, in Dynamo's form: recorded bytes, written and read by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import reqplane_tcp_stream.single_request
from golden_frames import golden
from reqplane.errors import CannotConnect, FrameTooLarge
from reqplane.interfaces import PendingStream
from reqplane.model import Broken, ConnectionInfo, Control, End, Prologue, SharedOffer
from reqplane.wire import response
from reqplane.wire.frame import Frame
from reqplane_tcp_stream.transport import TcpStreamTransport

from .conftest import OpenTransport, a_turn, rest, until
from .scripted import RawFrontend, SingleRaw

RECORDED_SUBJECT = "909fb74b-cc24-41e8-8823-70f79961e81f"
ITEM = golden("item of a request, msgpack")[2]
SENTINEL, STOP, KILL = golden("sentinel")[1:], golden("stop")[1:], golden("kill")[1:]
ANSWER = b"".join(golden(name)[0] for name in ("prologue", "item, msgpack", "end, json", "sentinel"))
BODIES = [golden(name)[2] for name in ("item, msgpack", "end, json")]


# ── the frontend's end ──


class Dialled:
    """A scripted worker's two connections."""

    def __init__(self, pending: PendingStream, request: SingleRaw, answer: SingleRaw) -> None:
        self.pending, self.request, self.answer = pending, request, answer


@asynccontextmanager
async def dialled(
    frontend: TcpStreamTransport, pending: PendingStream | None = None
) -> AsyncGenerator[Dialled]:
    """As Dynamo dials: the request's connection first."""
    pending = pending or frontend.expect("r", sends=True)
    assert pending.info.request is not None
    hand = response.handshake(pending.info.request.subject, "request")
    async with (
        SingleRaw.calling(frontend, hand) as request,
        SingleRaw.calling(frontend, response.handshake(pending.info.subject)) as answer,
    ):
        await pending.opened
        yield Dialled(pending, request, answer)


@pytest.mark.parametrize("early", [True, False])
async def test_a_request_is_written_as_recorded(frontend: TcpStreamTransport, early: bool):
    pending = frontend.expect("r", sends=True)
    if early:
        pending.write(ITEM)
        pending.write(b"two")
        pending.end()
    async with dialled(frontend, pending) as worker:
        assert pending.enveloped
        if not early:
            assert await pending.ready()
            assert pending.write(ITEM)
            assert pending.write(bytearray(b"two"))
            pending.end()
        wanted = golden("item of a request, msgpack")[0] + b"".join(response.item(b"two"))
        wanted += golden("sentinel")[0]
        assert await worker.request.reader.readexactly(len(wanted)) == wanted
        assert not pending.write(b"after the end")
        worker.answer.raw(ANSWER)
        assert await rest(pending) == [Prologue(), *BODIES, End()]
        assert await worker.request.until_closed() == []
        assert await worker.answer.until_closed() == []


async def test_the_answers_connection_may_come_first(frontend: TcpStreamTransport):
    pending = frontend.expect("r", sends=True)
    assert pending.info.request is not None
    async with SingleRaw.calling(frontend, response.handshake(pending.info.subject)) as answer:
        await pending.opened
        ready = asyncio.create_task(pending.ready())
        await asyncio.sleep(0.01)
        assert not ready.done()
        hand = response.handshake(pending.info.request.subject, "request")
        async with SingleRaw.calling(frontend, hand) as request:
            assert await asyncio.wait_for(ready, 5)
            pending.write(ITEM)
            assert await request.frame() == (b"", ITEM)
            answer.raw(ANSWER)
            await rest(pending)


async def test_a_worker_that_never_opens_the_requests_connection(transport: OpenTransport):
    frontend = await transport(call_home_timeout=0.1)
    await frontend.listen()
    pending = frontend.expect("r", sends=True)
    async with SingleRaw.calling(frontend, response.handshake(pending.info.subject)) as answer:
        await pending.opened
        assert not await pending.ready()
        assert await rest(pending) == [
            Broken(
                "the worker opened the connection of the answer and not that of the request within 0.1 s "
                "(DYN_CALL_HOME_TIMEOUT)"
            )
        ]
        assert await answer.frame() == KILL


async def test_an_answer_without_a_requests_connection(frontend: TcpStreamTransport):
    """A handler that could not start, say: what the answer says counts."""
    pending = frontend.expect("r", sends=True)
    async with SingleRaw.calling(frontend, response.handshake(pending.info.subject)) as answer:
        answer.raw(golden("prologue with error")[0])
        assert await rest(pending) == [Prologue("text")]
        assert not await pending.ready()


async def test_an_answer_that_ends_first(frontend: TcpStreamTransport):
    async with dialled(frontend) as worker:
        worker.pending.write(ITEM)
        worker.answer.raw(ANSWER)
        assert await rest(worker.pending) == [Prologue(), *BODIES, End()]
        assert not await worker.pending.ready()
        assert await worker.request.until_closed() == [(b"", ITEM), KILL]


async def test_stop_is_said_on_both_connections(frontend: TcpStreamTransport):
    """As Dynamo's caller says it."""
    async with dialled(frontend) as worker:
        worker.pending.write(ITEM)
        worker.pending.stop()
        assert not worker.pending.write(b"late")
        worker.pending.end()
        assert await worker.request.until_closed() == [(b"", ITEM), STOP]
        assert await worker.answer.frame() == STOP
        worker.answer.raw(ANSWER)
        assert await rest(worker.pending) == [Prologue(), *BODIES, End()]


@pytest.mark.parametrize("how", ["kill", "close"])
async def test_kill_is_said_on_both_connections(frontend: TcpStreamTransport, how: str):
    async with dialled(frontend) as worker:
        worker.pending.write(ITEM)
        getattr(worker.pending, how)()
        assert await worker.request.until_closed() == [(b"", ITEM), KILL]
        assert await worker.answer.frame() == KILL


async def test_a_stop_after_the_end_leaves_the_request_whole(frontend: TcpStreamTransport):
    async with dialled(frontend) as worker:
        worker.pending.write(ITEM)
        worker.pending.end()
        worker.pending.stop()
        assert await worker.request.frame() == (b"", ITEM)
        assert await worker.request.frame() == SENTINEL
        assert await worker.answer.frame() == STOP
        worker.answer.raw(ANSWER)
        await rest(worker.pending)
        assert await worker.request.until_closed() == []


async def test_a_worker_that_closes_the_requests_connection_wants_no_more(frontend: TcpStreamTransport):
    """As Dynamo does when its handler is over and more comes: what that means, the answer says."""
    async with dialled(frontend) as worker:
        ready = asyncio.create_task(worker.pending.ready())
        await worker.request.aclose()
        await ready
        await until(lambda: not worker.pending.write(ITEM))
        assert not await worker.pending.ready()
        worker.answer.raw(ANSWER)
        assert await rest(worker.pending) == [Prologue(), *BODIES, End()]


async def test_what_a_worker_says_on_the_requests_connection_is_left_out(frontend: TcpStreamTransport):
    async with dialled(frontend) as worker:
        worker.request.raw(b"junk" * 1000)
        worker.pending.write(ITEM)
        assert await worker.request.frame() == (b"", ITEM)
        worker.answer.raw(ANSWER)
        await rest(worker.pending)


async def test_a_worker_that_does_not_read_stops_the_writer(frontend: TcpStreamTransport):
    async with dialled(frontend) as worker:
        written = 1
        while worker.pending.write(b"x" * 100_000):
            written += 1
            await a_turn()
            assert written < 1000, "the socket never filled up"
        ready = asyncio.create_task(worker.pending.ready())
        await asyncio.sleep(0.05)
        assert not ready.done()
        for _ in range(written):
            assert len((await worker.request.frame())[1]) == 100_000
        assert await asyncio.wait_for(ready, 5)
        with pytest.raises(FrameTooLarge):
            worker.pending.write(bytes((32 << 20) + 1))
        worker.pending.close()


async def test_a_worker_that_reads_nothing_more_is_cut_off(
    frontend: TcpStreamTransport, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reqplane_tcp_stream.single_request, "LINGER", 0.1)
    async with dialled(frontend) as worker:
        while worker.pending.write(b"x" * 100_000):
            await a_turn()
        worker.pending.close()
        await until(lambda: not frontend._connections)


@pytest.mark.parametrize("which", ["its answer's", "unknown", "used", "closed"])
async def test_a_request_is_given_out_once_and_only_by_its_own_subject(
    frontend: TcpStreamTransport, which: str
):
    pending = frontend.expect("r", sends=True)
    assert pending.info.request is not None
    subject = {"its answer's": pending.info.subject, "unknown": "0" * 32}.get(which)
    if which == "closed":
        pending.close()
    async with dialled(frontend) if which == "used" else SingleRaw.calling(frontend) as used:
        if isinstance(used, Dialled):
            assert used.pending.info.request is not None
            subject = used.pending.info.request.subject
        hand = response.handshake(subject or pending.info.request.subject, "request")
        async with SingleRaw.calling(frontend, hand) as peer:
            assert await peer.until_closed() == []
        if isinstance(used, Dialled):
            used.pending.close()
    pending.close()


async def test_an_ordinary_call_has_no_request_to_be_had(frontend: TcpStreamTransport):
    pending = frontend.expect("r")
    async with SingleRaw.calling(frontend, response.handshake(pending.info.subject, "request")) as peer:
        assert await peer.until_closed() == []
    async with SingleRaw.calling(frontend, response.handshake(pending.info.subject)):
        await pending.opened
        pending.close()


async def test_a_frontend_that_leaves(transport: OpenTransport):
    frontend = await transport()
    await frontend.listen()
    async with dialled(frontend) as worker:
        worker.pending.write(ITEM)
        await frontend.aclose()
        assert await worker.request.until_closed() == [(b"", ITEM), KILL]
        assert await worker.answer.until_closed() == [KILL]


# ── the worker's end ──


class Home:
    """A worker that has called home to a scripted frontend, by two connections."""

    def __init__(self, stream, request: SingleRaw, answer: SingleRaw, told: list[Control]) -> None:
        self.stream, self.request, self.answer, self.told = stream, request, answer, told

    @classmethod
    async def called(cls, worker: TcpStreamTransport, frontend: RawFrontend) -> Home:
        told: list[Control] = []
        stream = await worker.call_home(frontend.single(sends=True), told.append)
        request, answer = await frontend.accept_single(), await frontend.accept_single()
        assert await request.frame() == golden("handshake of a request")[1:]
        header, _ = await answer.frame()
        assert response.read_handshake(header, b"").stream_type == "response"
        return cls(stream, request, answer, told)


@pytest.fixture
async def worker(transport: OpenTransport) -> TcpStreamTransport:
    return await transport(stream_window_bytes=1000)


@pytest.fixture
async def raw():
    async with RawFrontend.listening() as one:
        yield one


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_recorded_request_in_any_segments(worker: TcpStreamTransport, raw: RawFrontend, size: int):
    home = await Home.called(worker, raw)
    assert home.stream.enveloped
    data = golden("item of a request, msgpack")[0] * 3 + golden("sentinel")[0]
    for at in range(0, len(data), size):
        home.request.raw(data[at : at + size])
        await a_turn()
    parts = []
    while not parts or not isinstance(parts[-1], End):
        parts += await home.stream.receive()
    assert parts == [ITEM, ITEM, ITEM, End()]
    assert await home.request.until_closed() == []  # the worker closes
    assert (await home.stream.receive())[0] == Broken("the stream has ended already")
    home.stream.prologue(None)
    home.stream.end(golden("end, json")[2])
    assert [await home.answer.frame() for _ in range(3)] == [
        golden(name)[1:] for name in ("prologue", "end, json", "sentinel")
    ]
    assert home.told == []


@pytest.mark.parametrize("said", ["stop", "kill"])
@pytest.mark.parametrize("where", ["request", "answer", "both"])
async def test_stop_and_kill_on_either_connection(
    worker: TcpStreamTransport, raw: RawFrontend, said: str, where: str
):
    home = await Home.called(worker, raw)
    home.request.raw(golden("item of a request, msgpack")[0])
    assert await home.stream.receive() == [ITEM]
    waiting = asyncio.create_task(home.stream.receive())
    for peer in ("request", "answer") if where == "both" else (where,):
        getattr(home, peer).raw(golden(said)[0])
    (broken,) = await asyncio.wait_for(waiting, 5)
    assert isinstance(broken, Broken)
    await until(lambda: home.told)
    assert set(home.told) == {Control[said.upper()]}
    assert await home.request.until_closed() == []
    if said == "stop":
        assert home.stream.write(b"so far")
        home.stream.end()
        assert await home.answer.until_closed() == [(b"", b"so far"), SENTINEL]
    else:
        assert await home.answer.until_closed() == []


@pytest.mark.parametrize("how", ["closed", "reset", "junk", "too large", "a body", "half an item"])
async def test_a_request_that_is_cut_never_ends_regularly(
    worker: TcpStreamTransport, raw: RawFrontend, how: str
):
    home = await Home.called(worker, raw)
    home.request.raw(golden("item of a request, msgpack")[0])
    assert await home.stream.receive() == [ITEM]
    waiting = asyncio.create_task(home.stream.receive())
    await a_turn()
    match how:
        case "closed":
            home.request.writer.close()
        case "reset":
            home.request.writer.transport.abort()
        case "junk":
            home.request.raw(Frame(b'"bogus"').join())
        case "too large":
            home.request.raw(bytes(8) + (1 << 40).to_bytes(8, "big") + bytes(8))
        case "a body":
            home.request.raw(Frame(b'"sentinel"', b"x").join())
        case _:
            home.request.raw(golden("item of a request, msgpack")[0][:-1])
            home.request.writer.close()
    (broken,) = await asyncio.wait_for(waiting, 5)
    assert isinstance(broken, Broken)
    assert broken.reason.startswith("the request broke off: ")
    assert home.told == []  # the answer goes on
    assert home.stream.write(b"so far")
    assert await home.answer.frame() == (b"", b"so far")


@pytest.mark.parametrize("how", ["end", "abort", "error", "frontend gone"])
async def test_an_answer_that_is_over_ends_the_request(
    worker: TcpStreamTransport, raw: RawFrontend, how: str
):
    home = await Home.called(worker, raw)
    waiting = asyncio.create_task(home.stream.receive())
    await a_turn()
    match how:
        case "end":
            home.stream.end()
        case "abort":
            home.stream.abort()
        case "error":
            home.stream.prologue("could not start")
        case _:
            home.answer.writer.transport.abort()
    (broken,) = await asyncio.wait_for(waiting, 5)
    assert isinstance(broken, Broken)
    assert await home.request.until_closed() == []


async def test_a_handler_that_does_not_read_stops_the_frontend(worker: TcpStreamTransport, raw: RawFrontend):
    home = await Home.called(worker, raw)
    item = b"".join(response.item(b"x" * 10_000))
    written = 0
    while home.request.writer.transport.get_write_buffer_size() == 0:
        home.request.raw(item)
        written += 1
        await asyncio.sleep(0.001)
        assert written < 5000, "the worker reads on and on"
    home.request.raw(golden("sentinel")[0])
    parts = await home.stream.receive()
    assert len(parts) < 20  # a window, and what came in the same read
    while not isinstance(parts[-1], End):
        parts += await asyncio.wait_for(home.stream.receive(), 5)
    assert parts == [b"x" * 10_000] * written + [End()]


async def test_the_requests_connection_is_opened_first_and_closed_if_the_other_fails(
    worker: TcpStreamTransport, raw: RawFrontend
):
    info = raw.single(sends=True)
    nowhere = ConnectionInfo("127.0.0.1:1024", info.subject, "r", request=info.request)
    with pytest.raises(CannotConnect):
        await worker.call_home(nowhere, lambda control: None)
    request = await raw.accept_single()
    assert await request.frame() == golden("handshake of a request")[1:]
    assert await request.until_closed() == []
    nowhere = ConnectionInfo(info.address, info.subject, "r", request=nowhere)
    with pytest.raises(CannotConnect):
        await worker.call_home(nowhere, lambda control: None)
    assert raw.accepted.empty()


async def test_a_worker_that_leaves(transport: OpenTransport, raw: RawFrontend):
    worker = await transport()
    home = await Home.called(worker, raw)
    closing = asyncio.create_task(worker.aclose())
    assert await home.request.until_closed() == []
    assert await home.answer.until_closed() == []
    await closing
    assert isinstance((await home.stream.receive())[0], Broken)


# ── where to ──


async def test_both_addresses_are_held_to_what_is_allowed(transport: OpenTransport):
    worker = await transport({"DYN_RESPONSE_ALLOW": "127.0.0.0/8"})
    inside = ConnectionInfo("127.0.0.1:9000", "x", "r")
    outside = ConnectionInfo("10.0.0.1:9000", "x", "r")
    assert worker.objection(inside) is None
    for info, request in ((inside, outside), (outside, inside)):
        streamed = ConnectionInfo(info.address, "x", "r", request=request)
        assert "may not call home to 10.0.0.1" in (worker.objection(streamed) or "")
        if info is inside:
            with pytest.raises(CannotConnect):
                await worker.call_home(streamed, lambda control: None)


async def test_a_window_that_would_fill_the_worker(transport: OpenTransport):
    worker = await transport(max_frame_bytes=1 << 20)
    request = ConnectionInfo("127.0.0.1:9000", "y", "r")
    for window, allowed in ((1 << 20, True), ((1 << 20) + 1, False)):
        info = ConnectionInfo("127.0.0.1:9000", "x", "r", SharedOffer("ab" * 16, window), request)
        objection = worker.objection(info)
        assert (objection is None) == allowed
        if objection:
            assert "a window of 1048577 bytes" in objection
            assert "allows 1048576" in objection
        ordinary = ConnectionInfo("127.0.0.1:9000", "x", "r", SharedOffer("ab" * 16, window))
        assert worker.objection(ordinary) is None
