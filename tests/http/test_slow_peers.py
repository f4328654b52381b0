"""Peers that take their time, and peers that come in numbers: every wait for them ends."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress

import h2.events
import h2.settings
import pytest
import reqplane_http.body
import reqplane_http.server
from reqplane.errors import WorkerBusy
from reqplane_http import inbound
from reqplane_http.server import HttpServer

from .conftest import StartVictim, StartWorker, Worker
from .hostile import BODY, Raw, Raw2, post, under_way
from .scripted import until

HEAD = post()
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04\x00" + bytes(4)
PING = b"\x00\x00\x08\x06\x00" + bytes(12)


def server_of(here: Worker) -> HttpServer:
    server = here.transport._server
    assert server is not None
    return server


@pytest.fixture
def impatient(victim: StartVictim, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with short times, until the victim is looked at."""
    monkeypatch.setattr(inbound, "IDLE_SECONDS", 0.4)
    monkeypatch.setattr(inbound, "SILENT_SECONDS", 0.3)
    monkeypatch.setattr(inbound, "WRITE_SECONDS", 0.3)
    monkeypatch.setattr(inbound, "CLOSE_SECONDS", 0.3)


async def keep_sending(peer: Raw, data: bytes) -> None:
    """As long as the connection lasts."""
    with suppress(ConnectionError):
        while True:
            await peer.send(data)
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "start",
    [b"", HEAD[:20], PREFACE, PREFACE[:20], PREFACE + b"\x00\x00\x05\x01\x00\x00\x00\x00\x01\x83"],
    ids=["nothing", "half a head", "a preface", "half a preface", "half a header block"],
)
async def test_a_silent_connection_is_closed(start: bytes, victim: StartVictim) -> None:
    here = await victim()
    async with Raw(here.port) as peer:
        await peer.send(start)
        await peer.rest()
    await until(lambda: not server_of(here)._connections.open)


# A header block that does not end: HEADERS without END_HEADERS, then CONTINUATION upon CONTINUATION.
BLOCK = b"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x83"
MORE = b"\x00\x00\x01\x09\x00\x00\x00\x00\x01\x84"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("start", "then"),
    [
        (HEAD[:-2], b"x"),
        (HEAD[:-2], b"x: y\r\n"),
        (PREFACE, PING),
        (PREFACE + BLOCK, MORE),
        (PREFACE + b"\x00\x40\x00\x01\x04\x00\x00\x00\x01", b"\x83"),
    ],
    ids=["a byte at a time", "header after header", "pings", "continuations", "a dribbled frame"],
)
async def test_a_connection_that_never_brings_a_request_is_closed(
    start: bytes, then: bytes, victim: StartVictim
) -> None:
    here = await victim()
    async with Raw(here.port) as peer:
        await peer.send(start)
        sending = asyncio.ensure_future(keep_sending(peer, then))
        await peer.rest()
        sending.cancel()
        await asyncio.wait({sending})


@pytest.mark.usefixtures("impatient")
async def test_a_second_head_has_no_more_time_than_the_first(victim: StartVictim) -> None:
    here = await victim()
    async with Raw(here.port) as peer:
        await peer.send(HEAD + BODY + HEAD[:-2])
        sending = asyncio.ensure_future(keep_sending(peer, b"x"))
        assert (await peer.rest()).startswith(b"HTTP/1.1 202 ")
        sending.cancel()
        await asyncio.wait({sending})
    assert len(here.got) == 1


@pytest.mark.usefixtures("impatient")
async def test_a_stream_that_was_reset_does_not_keep_its_connection(victim: StartVictim) -> None:
    here = await victim()
    async with Raw2(here.port) as peer:
        peer.h2.reset_stream(peer.ask())
        await peer.flush()
        sending = asyncio.ensure_future(keep_sending(peer, PING))
        await peer.ended()
        sending.cancel()
        await asyncio.wait({sending})


@pytest.mark.usefixtures("impatient")
async def test_who_does_not_read_is_cut_off(victim: StartVictim) -> None:
    here = await victim()
    async with Raw(here.port) as peer:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        request = b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n" * 1000
        with suppress(ConnectionError):
            async with asyncio.timeout(20):
                while True:
                    await peer.send(request)
    await until(lambda: not server_of(here)._connections.open)


async def test_an_answer_that_is_not_taken_ends_its_stream(
    victim: StartVictim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window of 0: a refusal can't be sent, and a drain waits for it."""
    monkeypatch.setattr(reqplane_http.body, "BODY_SECONDS", 1.0)
    here = await victim()
    here.refuse = WorkerBusy("full")
    async with Raw2(here.port) as peer:
        peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
        await peer.flush()
        streams = [peer.ask() for _ in range(20)]
        for stream in streams:
            peer.h2.send_data(stream, BODY, end_stream=True)
        await peer.flush()
        await until(lambda: under_way(here.transport) == 20)
        async with asyncio.timeout(5):
            await here.listener.drain()
        for stream in streams:
            assert (await peer.answered(stream)).status == 0
        here.refuse = None
        assert (await peer.post()).status == 202


async def test_an_answer_that_is_not_taken_does_not_hold_a_drain_up(
    worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is its sender told that the request was not looked at, when the worker closes."""
    monkeypatch.setattr(reqplane_http.server, "_CLOSE_LIMIT", 0.2)
    here = await worker()
    async with Raw2(here.port) as peer, Raw2(here.port) as other:
        peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
        await peer.flush()
        peer.h2.send_data(peer.ask(), b"junk", end_stream=True)
        await peer.flush()
        await until(lambda: under_way(here.transport) == 1)
        other.ask()
        await other.flush()
        await until(lambda: under_way(here.transport) == 2)
        async with asyncio.timeout(5):
            await here.listener.drain()
            await here.listener.close()
        for who, last in ((peer, 1), (other, 0)):
            await who.ended()
            told = [one for one in who.events if isinstance(one, h2.events.ConnectionTerminated)]
            assert told[0].last_stream_id == last


async def test_a_peer_that_leaves_without_taking_its_answer(victim: StartVictim) -> None:
    here = await victim()
    async with Raw2(here.port) as peer:
        peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
        peer.h2.send_data(peer.ask("/nothing"), BODY, end_stream=True)
        await peer.flush()
        await until(lambda: under_way(here.transport) == 1)
        await peer.receive()
    await until(lambda: not server_of(here)._connections.open)


async def test_the_connection_that_is_idle_for_longest_makes_room(victim: StartVictim) -> None:
    here = await victim()
    server_of(here)._connections.most = 20
    async with AsyncExitStack() as stack:
        busy = await stack.enter_async_context(Raw(here.port))
        await busy.send(HEAD + BODY[:5])
        await until(lambda: under_way(here.transport) == 1)
        silent = [await stack.enter_async_context(Raw(here.port)) for _ in range(50)]
        for early in silent[:31]:
            assert await early.rest() == b""
        assert len(server_of(here)._connections.open) <= 20
        await silent[-1].send(HEAD + BODY)
        assert (await silent[-1].answer())[0] == 202
        await busy.send(BODY[5:])
        assert (await busy.answer())[0] == 202


async def test_with_every_connection_busy_a_new_one_is_closed(
    victim: StartVictim, caplog: pytest.LogCaptureFixture
) -> None:
    here = await victim()
    server_of(here)._connections.most = 3
    async with AsyncExitStack() as stack:
        busy = [await stack.enter_async_context(Raw(here.port)) for _ in range(3)]
        for one in busy:
            await one.send(HEAD + BODY[:5])
        await until(lambda: under_way(here.transport) == 3)
        async with Raw(here.port) as late:
            assert await late.rest() == b""
        assert "ended badly" not in caplog.text
        await until(lambda: len(server_of(here)._connections.open) == 3)
        for one in busy:
            await one.send(BODY[5:])
            assert (await one.answer())[0] == 202


async def test_many_silent_connections_cost_little(victim: StartVictim) -> None:
    here = await victim()
    async with AsyncExitStack() as stack:
        for _ in range(300):
            await stack.enter_async_context(Raw(here.port))
        async with Raw2(here.port) as peer:
            assert (await peer.post()).status == 202
        assert (await _health(here))[0] == 200


async def _health(here: Worker) -> tuple[int, bytes]:
    async with Raw(here.port) as peer:
        await peer.send(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        return await peer.answer()
