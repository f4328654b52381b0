"""Dynamo's form, the worker: what it writes home, byte for byte, and what it hears."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest
import reqplane_tcp_stream.connection
import reqplane_tcp_stream.dial
import reqplane_tcp_stream.single
from golden_frames import golden
from reqplane.errors import CannotConnect, FrameTooLarge
from reqplane.model import Control
from reqplane.wire import response
from reqplane.wire.frame import Frame
from reqplane_tcp_stream.single import SingleHomeStream
from reqplane_tcp_stream.transport import TcpStreamTransport

from .conftest import OpenTransport, a_turn, until
from .scripted import RawFrontend, SingleRaw

RECORDED_SUBJECT = "d3b3f1a0-2b6c-4f0e-8a3d-1c4e5f607182"
ITEM, END = golden("item, json")[2], golden("end, json")[2]


class Home:
    """A worker that has called home to a scripted frontend."""

    def __init__(self, stream: Any, peer: SingleRaw, told: list[Control]) -> None:
        self.stream = stream
        self.peer = peer
        self.told = told

    @classmethod
    async def called(cls, worker: TcpStreamTransport, frontend: RawFrontend) -> Home:
        told: list[Control] = []
        stream = await worker.call_home(frontend.single(RECORDED_SUBJECT), told.append)
        home = cls(stream, await frontend.accept_single(), told)
        assert await home.peer.frame() == golden("handshake")[1:]
        return home


@pytest.fixture
async def worker(transport: OpenTransport) -> TcpStreamTransport:
    return await transport()


@pytest.fixture
async def frontend():
    async with RawFrontend.listening() as one:
        yield one


async def test_an_answer_is_written_as_recorded(worker: TcpStreamTransport, frontend: RawFrontend):
    told: list[Control] = []
    stream = await worker.call_home(frontend.single(RECORDED_SUBJECT), told.append)
    assert stream.enveloped
    stream.prologue(None)
    assert stream.write(ITEM)
    assert stream.write(golden("error item, Dynamo 1.6.1")[2], annotated=True)
    stream.end(END)
    stream.end(END)
    assert stream.write(b"after the end")
    wanted = b"".join(
        golden(name)[0]
        for name in (
            "handshake",
            "prologue",
            "item, json",
            "error item, Dynamo 1.6.1",
            "end, json",
            "sentinel",
        )
    )
    peer = await frontend.accept()
    assert await peer.reader.readexactly(len(wanted)) == wanted
    await peer.aclose()
    await until(lambda: not worker._homes._singles)
    assert told == []


async def test_the_socket_waits_for_nothing(worker: TcpStreamTransport, frontend: RawFrontend):
    home = await Home.called(worker, frontend)
    sock = home.stream._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def test_every_stream_has_its_connection(worker: TcpStreamTransport, frontend: RawFrontend):
    homes = [await Home.called(worker, frontend) for _ in range(3)]
    assert len(frontend.all) == 3
    homes[0].stream.abort()
    homes[1].stream.write(ITEM)
    assert await homes[0].peer.until_closed() == []
    assert await homes[1].peer.frame() == (b"", ITEM)


async def test_a_subject_need_not_be_a_uuid(worker: TcpStreamTransport, frontend: RawFrontend):
    await worker.call_home(frontend.single("anything"), lambda control: None)
    peer = await frontend.accept_single()
    assert await peer.frame() == (b'{"subject":"anything","stream_type":"response"}', b"")


async def test_a_frontend_that_forgets_to_close(
    worker: TcpStreamTransport, frontend: RawFrontend, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reqplane_tcp_stream.single, "LINGER", 0.1)
    home = await Home.called(worker, frontend)
    home.stream.end(END)
    assert await home.peer.until_closed() == [(b"", END), (response.SENTINEL, b"")]
    assert home.told == []


@pytest.mark.parametrize("text", ["no \udcff such model", ""])
async def test_a_handler_that_could_not_start(worker: TcpStreamTransport, frontend: RawFrontend, text: str):
    home = await Home.called(worker, frontend)
    home.stream.prologue(text)
    home.stream.write(b"ignored")
    home.stream.end(END)
    reader = response.ResponseReader(4096)
    (header, body) = await home.peer.frame()
    (prologue,) = reader.feed(Frame(header, body).join())
    assert prologue.error  # type: ignore[union-attr]
    await home.peer.aclose()
    assert home.told == []


async def test_an_aborted_answer_closes_without_the_end(worker: TcpStreamTransport, frontend: RawFrontend):
    home = await Home.called(worker, frontend)
    home.stream.prologue(None)
    home.stream.write(ITEM)
    home.stream.abort()
    home.stream.abort()
    home.stream.end(END)
    assert await home.peer.until_closed() == [golden("prologue")[1:], (b"", ITEM)]
    assert home.told == []


async def test_an_item_above_the_limit_is_not_taken(transport: OpenTransport, frontend: RawFrontend):
    home = await Home.called(await transport(max_frame_bytes=100_000), frontend)
    with pytest.raises(FrameTooLarge, match=r"100001.*100000.*DYN_MAX_FRAME_BYTES"):
        home.stream.write(b"x" * 100_001)
    home.stream.write(b"x" * 100_000)
    home.stream.end(END)
    assert await home.peer.frame() == (b"", b"x" * 100_000)
    assert await home.peer.frame() == (b"", END)


# ── what the frontend says ──


async def test_stop_is_told_and_the_answer_goes_on(worker: TcpStreamTransport, frontend: RawFrontend):
    home = await Home.called(worker, frontend)
    for byte in golden("stop")[0]:
        home.peer.raw(bytes([byte]))
        await a_turn()
    await until(lambda: home.told)
    home.stream.write(ITEM)
    home.stream.end(END)
    assert await home.peer.frame() == (b"", ITEM)
    assert home.told == [Control.STOP]


async def test_stop_and_kill_in_one_segment(worker: TcpStreamTransport, frontend: RawFrontend):
    home = await Home.called(worker, frontend)
    home.peer.raw(golden("stop")[0] + golden("kill")[0])
    assert await home.peer.until_closed() == []
    assert home.told == [Control.STOP, Control.KILL]
    assert home.stream.write(b"nowhere")
    home.stream.end(END)
    home.stream.abort()


async def test_stop_that_comes_before_anybody_listens(worker: TcpStreamTransport):
    told: list[Control] = []
    stream = SingleHomeStream(worker._host, "subject", lambda one: None)
    stream.data_received(golden("stop")[0])
    stream.start(told.append)
    assert told == [Control.STOP]


@pytest.mark.parametrize("end", ["close", "reset", "junk", "an item", "too long"])
async def test_a_frontend_that_goes_is_told(worker: TcpStreamTransport, frontend: RawFrontend, end: str):
    home = await Home.called(worker, frontend)
    if end == "close":
        await home.peer.aclose()
    elif end == "reset":
        home.peer.writer.transport.abort()
    elif end == "junk":
        home.peer.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    elif end == "an item":
        home.peer.raw(golden("item, json")[0])
    else:
        home.peer.raw((1 << 20).to_bytes(8, "big") + bytes(16))
    await until(lambda: home.told)
    assert home.told == [Control.GONE]
    assert home.stream.write(b"nowhere")
    await asyncio.wait_for(home.stream.ready(), 5)
    home.stream.end(END)
    await until(lambda: not worker._homes._singles)


async def test_a_control_callback_that_raises(
    worker: TcpStreamTransport, frontend: RawFrontend, caplog: pytest.LogCaptureFixture
):
    def broken(control: Control) -> None:
        raise RuntimeError("a defect")

    await worker.call_home(frontend.single(), broken)
    await (await frontend.accept_single()).aclose()
    await until(lambda: not worker._homes._singles)
    assert "a defect" in caplog.text


# ── a frontend that reads slowly ──


async def fill(home: Home) -> int:
    written = 1
    while home.stream.write(b"x" * 50_000):
        written += 1
        await a_turn()
        assert written < 2000, "the socket never filled up"
    return written


async def test_a_frontend_that_does_not_read_stops_its_writer(
    worker: TcpStreamTransport, frontend: RawFrontend
):
    home, other = await Home.called(worker, frontend), await Home.called(worker, frontend)
    written = await fill(home)
    ready = asyncio.create_task(home.stream.ready())
    assert other.stream.write(ITEM)  # nobody else waits for it
    await asyncio.sleep(0.02)
    assert not ready.done()
    for _ in range(written):
        assert len((await home.peer.frame())[1]) == 50_000
    await asyncio.wait_for(ready, 5)
    assert home.stream.write(b"goes on")


@pytest.mark.parametrize("end", ["kill", "loss"])
async def test_a_waiting_writer_hears_of_the_end(worker: TcpStreamTransport, frontend: RawFrontend, end: str):
    home = await Home.called(worker, frontend)
    await fill(home)
    ready = asyncio.create_task(home.stream.ready())
    await a_turn()
    if end == "kill":
        home.peer.raw(golden("kill")[0])
    else:
        home.peer.writer.transport.abort()
    await asyncio.wait_for(ready, 5)
    assert home.told == [Control.KILL if end == "kill" else Control.GONE]


@pytest.mark.parametrize("half", [True, False])
async def test_what_was_written_before_the_end_arrives_however_late_it_is_read(
    worker: TcpStreamTransport, frontend: RawFrontend, monkeypatch: pytest.MonkeyPatch, half: bool
):
    """Also when the frontend closes its own direction first."""
    monkeypatch.setattr(reqplane_tcp_stream.single, "LINGER", 0.05)
    home = await Home.called(worker, frontend)
    written = await fill(home)
    home.stream.end(END)
    if half:
        home.peer.writer.write_eof()
    await asyncio.sleep(0.2)
    frames = await home.peer.until_closed()
    assert len(frames) == written + 2
    assert frames[-2:] == [(b"", END), (response.SENTINEL, b"")]


async def test_a_frontend_that_never_reads_is_not_waited_for_for_ever(
    worker: TcpStreamTransport, frontend: RawFrontend, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reqplane_tcp_stream.single, "LINGER", 0.05)
    monkeypatch.setattr(reqplane_tcp_stream.single, "_TAIL_TIME", 0.1)
    home = await Home.called(worker, frontend)
    await fill(home)
    home.stream.end(END)
    await until(lambda: not worker._homes._singles)


# ── calling, and leaving ──


async def test_nobody_listens(worker: TcpStreamTransport):
    with socket.create_server(("127.0.0.1", 0)) as server:
        frontend = RawFrontend()
        frontend.address = f"127.0.0.1:{server.getsockname()[1]}"
    told: list[Control] = []
    with pytest.raises(CannotConnect) as caught:
        await worker.call_home(frontend.single(), told.append)
    assert caught.value.address == frontend.address
    assert told == []  # the error says it


@pytest.mark.parametrize("end", ["time", "cancel", "leave"])
async def test_a_call_home_that_does_not_get_through(
    worker: TcpStreamTransport, monkeypatch: pytest.MonkeyPatch, end: str
):
    """A listener whose backlog is full answers nothing at all."""
    monkeypatch.setattr(reqplane_tcp_stream.dial, "CONNECT_TIME", 0.3 if end == "time" else 30.0)
    told: list[Control] = []
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        frontend = RawFrontend()
        frontend.address = "{}:{}".format(*server.getsockname())
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        await asyncio.sleep(0.05)
        calling = asyncio.create_task(worker.call_home(frontend.single(), told.append))
        await until(lambda: worker._homes._singles)
        if end == "cancel":
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
        else:
            if end == "leave":
                await worker.aclose()
            with pytest.raises(CannotConnect, match="leaving" if end == "leave" else "no answer within"):
                await calling
        for filler in fillers:
            filler.close()
    await until(lambda: not worker._homes._dialling)
    assert told == []
    assert not worker._homes._singles


async def test_a_worker_that_leaves(worker: TcpStreamTransport, frontend: RawFrontend):
    open_one, ended = await Home.called(worker, frontend), await Home.called(worker, frontend)
    open_one.stream.write(ITEM)
    ended.stream.write(ITEM)
    ended.stream.end(END)
    leaving = asyncio.create_task(worker.aclose())
    assert await open_one.peer.until_closed() == [(b"", ITEM)]
    assert await ended.peer.until_closed() == [(b"", ITEM), (b"", END), (response.SENTINEL, b"")]
    for home in (open_one, ended):
        await home.peer.aclose()
    await leaving
    assert open_one.told == [Control.GONE]
    assert ended.told == []
    with pytest.raises(CannotConnect, match="leaving"):
        await worker.call_home(frontend.single(), lambda control: None)


async def test_a_frontend_that_does_not_read_does_not_hold_a_worker_that_leaves(
    worker: TcpStreamTransport, frontend: RawFrontend, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reqplane_tcp_stream.connection, "LINGER", 0.2)
    home = await Home.called(worker, frontend)
    await fill(home)
    start = time.monotonic()
    await worker.aclose()
    assert time.monotonic() - start < 10
    assert home.told == [Control.GONE]
