"""Peers that mean no good: refused in words where they can be, and bounded."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from reqplane_tcp import incoming
from reqplane_tcp.answers import verdict
from reqplane_tcp.intake import FIRST_BYTES

from .conftest import PATH, StartWorker, Worker, frame, until
from .scripted import RawFrontend, message, old_message

MIB = 1 << 20
LIMIT = 100_000
StartVictim = Callable[..., Awaitable[Worker]]


def server(here: Worker) -> Any:
    return here.transport._server


def code(answer: str) -> str:
    return answer and verdict(answer.encode(), 1, "here").code  # type: ignore[union-attr]


@pytest.fixture
async def victim(worker: StartWorker) -> AsyncIterator[StartVictim]:
    """Starts a worker that must be as good as new after the test."""
    started: list[Worker] = []

    async def start(**limits: int) -> Worker:
        started.append(await worker(**{"max_frame_bytes": LIMIT, **limits}))
        return started[-1]

    yield start
    for here in started:
        here.refuse = None
        before = len(here.got)
        async with RawFrontend.connected(here.port) as peer:
            await peer.send(message())
            assert await peer.answer() == ""
        assert len(here.got) == before + 1
        await until(lambda here=here: not here.inflight)
        await until(lambda here=here: len(server(here)._connections) == 0)


# ── frames ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [LIMIT + 1, 2 * LIMIT])
async def test_a_frame_that_is_too_large_is_refused_and_the_connection_goes_on(
    size: int, victim: StartVictim
):
    here = await victim()
    async with RawFrontend.connected(here.port) as peer:
        await peer.send(message(bytes(size)) + message())
        answer = await peer.answer()
        assert code(answer) == "invalid_frame"
        assert f"the frame has {size} bytes, at most {LIMIT} are allowed here (DYN_MAX_FRAME_BYTES)" in answer
        assert await peer.answer() == ""


async def test_a_small_limit_holds_for_what_comes_whole(victim: StartVictim):
    here = await victim(max_frame_bytes=5000)
    async with RawFrontend.connected(here.port) as peer:
        await peer.send(message(bytes(5001)) + message())
        assert [code(await peer.answer()) for _ in range(2)] == ["invalid_frame", ""]


@pytest.mark.parametrize("size", [2 * LIMIT + 1, 2**31, 2**32 - 1])
async def test_a_frame_that_is_far_too_large_ends_its_connection(size: int, victim: StartVictim):
    here = await victim()
    async with RawFrontend.connected(here.port) as peer:
        await peer.send(message() + message(b"x" * 1000, size=size))
        assert await peer.answer() == ""
        answer = await peer.answer()
        assert code(answer) == "invalid_frame"
        assert f"the frame has {size} bytes" in answer
        assert await peer.rest() == b""
        assert here.inflight == 0


@pytest.mark.parametrize(
    "payload",
    [b"", b"x", bytes(23), b"\xff" * 24, b"\xff" * 1000, frame().join() + b"x", frame().join()[:-1]],
)
async def test_a_payload_that_is_no_frame(payload: bytes, victim: StartVictim):
    here = await victim()
    async with RawFrontend.connected(here.port) as peer:
        await peer.send(message(payload, headers=b'{"a":"b"}') + message())
        answer = await peer.answer()
        assert code(answer) == "invalid_frame"
        assert "Two Part Codec Error: Invalid message" in answer
        assert await peer.answer() == ""


@pytest.mark.parametrize("path", [b"", b"\xff\xfe", b"\0", b"../..", PATH.upper().encode(), b"x" * 1024])
async def test_a_path_that_nobody_has(path: bytes, victim: StartVictim):
    here = await victim()
    async with RawFrontend.connected(here.port) as peer:
        await peer.send(message(path=path) + message(bytes(90_000), path=path) + message())
        assert [code(await peer.answer()) for _ in range(3)] == ["unknown_endpoint", "unknown_endpoint", ""]
        assert here.inflight == 0


@pytest.mark.parametrize("headers", [b'{"a"', b"{]", b'{"a":\xff}', b"{" + b"[" * 60_000])
async def test_headers_that_are_none(headers: bytes, victim: StartVictim):
    here = await victim()
    async with RawFrontend.connected(here.port) as peer:
        await peer.send(message(headers=headers) * 2 + message())
        assert [code(await peer.answer()) for _ in range(3)] == ["invalid_frame", "invalid_frame", ""]


async def test_headers_that_are_no_texts(victim: StartVictim):
    """They are left out, as are those that are too long or have no plain text."""
    here = await victim()
    odd = b'{"traceparent":1,"x-request-id":null,"tracestate":"%s","request-id":"\\n"}' % (b"x" * 2000)
    async with RawFrontend.connected(here.port) as peer:
        await peer.send(message(headers=odd))
        assert await peer.answer() == ""
    assert here.got[0].headers == {}


@pytest.mark.parametrize(
    "junk",
    [
        b"\xff" * 65536,
        os.urandom(65536),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100,
        b"a" * MIB,
        bytes(65536),
    ],
    ids=["ones", "random", "http", "line", "zeros"],
)
async def test_junk(junk: bytes, victim: StartVictim):
    here = await victim()
    async with RawFrontend.connected(here.port) as peer:
        peer.writer.write(junk)
        await asyncio.sleep(0.05)
        assert here.got == []
        assert here.inflight <= LIMIT


async def test_a_path_of_64_kib_is_refused_in_words(victim: StartVictim):
    here = await victim()
    async with RawFrontend.connected(here.port) as peer:
        await peer.send(b"\xff\xff")
        assert "a path of 65535 bytes, at most 1024 are allowed" in await peer.answer()
        assert await peer.rest() == b""


# ── memory ──────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_announced_costs_little(victim: StartVictim):
    here = await victim(max_frame_bytes=32 * MIB, max_inflight_bytes=64 * MIB)
    peers: list[RawFrontend] = []
    for _ in range(20):
        peer = RawFrontend(*await asyncio.open_connection("127.0.0.1", here.port))
        await peer.send(message(b"x", size=32 * MIB))
        peers.append(peer)
    await until(lambda: here.inflight == 20 * FIRST_BYTES)
    async with RawFrontend.connected(here.port) as innocent:
        await innocent.send(message(frame(bytes(MIB)).join()))
        assert await innocent.answer() == ""
    for peer in peers:
        await peer.aclose()
    await until(lambda: here.inflight == 0)


async def test_a_frame_that_does_not_fit_in_is_refused_as_busy(victim: StartVictim):
    here = await victim(max_frame_bytes=8 * MIB, max_inflight_bytes=2 * MIB)
    async with RawFrontend.connected(here.port) as first, RawFrontend.connected(here.port) as second:
        data = message(frame(bytes(2 * MIB)).join())
        await first.send(data[: MIB + 2000])
        await until(lambda: here.inflight >= MIB)
        await second.send(data + message())
        answer = await second.answer()
        assert code(answer) == "busy"
        assert "DYN_MAX_INFLIGHT_BYTES" in answer
        assert await second.answer() == ""
        await first.send(data[MIB + 2000 :])
        assert await first.answer() == ""


async def test_who_reads_no_answers_is_read_no_more(victim: StartVictim):
    here = await victim()
    async with RawFrontend.connected(here.port) as peer:
        peer.writer.get_extra_info("socket").setsockopt(6, 1, 1)
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        filling = asyncio.ensure_future(_fill(peer, message(path="nope" * 200) * 100))
        await until(lambda: any(one.written for one in server(here)._connections))
        assert not filling.done()
        filling.cancel()
        (connection,) = server(here)._connections
        assert connection.written is not None
        assert connection._transport.get_write_buffer_size() < MIB


async def _fill(peer: RawFrontend, data: bytes) -> None:
    """Write for as long as something is taken."""
    for _ in range(200 * MIB // len(data)):
        await peer.send(data)


# ── time ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a minute is a tenth of a second."""
    monkeypatch.setattr(incoming, "_LOOKS", 0.05)


@pytest.mark.parametrize("cut", [1, 20, 60, 80])
async def test_half_a_request_is_not_waited_for(cut: int, victim: StartVictim, quick: None):
    here = await victim()
    async with RawFrontend.connected(here.port) as peer, RawFrontend.connected(here.port) as old:
        await peer.send(message()[:cut])
        await old.send(old_message(path=PATH)[:cut])
        words = b"the request did not come whole within 30 s [refused]"
        assert words in await peer.rest()
        assert (words in await old.rest()) == (cut < 50)  # later it is known that it would not hear them
    assert here.got == []


async def test_a_large_one_neither(victim: StartVictim, quick: None):
    here = await victim()
    async with RawFrontend.connected(here.port) as peer:
        await peer.send(message() + message(bytes(90_000))[:50_000])
        assert await peer.answer() == ""
        assert code(await peer.answer()) == "refused"
        assert await peer.rest() == b""
        assert here.inflight == 0


async def test_a_byte_now_and_then_does_not_help(victim: StartVictim, quick: None):
    here = await victim()
    async with RawFrontend.connected(here.port) as peer:
        said = asyncio.ensure_future(peer.rest())
        for byte in message():
            peer.writer.write(bytes([byte]))
            await asyncio.sleep(0.01)
            if said.done():
                break
        assert b"did not come whole" in await said


async def test_many_small_requests_are_no_half_one(victim: StartVictim, quick: None):
    """A connection that always is within some request, but comes to the end of each."""
    here = await victim()
    data = message() * 60
    async with RawFrontend.connected(here.port) as peer:
        for at in range(0, len(data), 70):
            await peer.send(data[at : at + 70])
            await asyncio.sleep(0.003)
        assert [await peer.answer() for _ in range(60)] == [""] * 60


async def test_a_silent_connection_is_closed_at_last(
    victim: StartVictim, quick: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(incoming, "IDLE_SECONDS", 0.2)
    here = await victim()
    async with RawFrontend.connected(here.port) as silent, RawFrontend.connected(here.port) as idle:
        await idle.send(message())
        assert await idle.answer() == ""
        assert await silent.rest() == b""
        assert (await idle.rest()).endswith(b"[goodbye]")


# ── many of them ────────────────────────────────────────────────────────────────────────────────────


async def test_too_many_connections(victim: StartVictim):
    """Those on which nothing was accepted go first."""
    here = await victim()
    server(here)._most = 10
    peers: list[RawFrontend] = []
    async with RawFrontend.connected(here.port) as good:
        await good.send(message())
        assert await good.answer() == ""
        for _ in range(50):
            peers.append(RawFrontend(*await asyncio.open_connection("127.0.0.1", here.port)))
        await until(lambda: len(server(here)._connections) >= 10)
        await good.send(message())
        assert await good.answer() == ""
        async with RawFrontend.connected(here.port) as another:
            await another.send(message())
            assert await another.answer() == ""
    for peer in peers:
        await peer.aclose()


async def test_good_ones_that_are_too_many_lose_nothing(victim: StartVictim):
    here = await victim()
    server(here)._most = 3
    peers: list[RawFrontend] = []
    for _ in range(4):
        peers.append(RawFrontend(*await asyncio.open_connection("127.0.0.1", here.port)))
        await peers[-1].send(message())
        assert await peers[-1].answer() == ""
    assert (await peers[0].rest()).endswith(b"[goodbye]")
    await peers[1].send(message())
    assert await peers[1].answer() == ""
    for peer in peers:
        await peer.aclose()


async def test_a_hundred_connections_come_and_go(victim: StartVictim):
    here = await victim()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(100):
        async with RawFrontend.connected(here.port) as peer:
            await peer.send(message()[:40])
    await until(lambda: len(server(here)._connections) == 0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
