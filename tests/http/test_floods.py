"""HTTP/2 frames in numbers that no frontend sends: the connection ends, the others are served meanwhile."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest
from reqplane_http import strict

from .conftest import StartVictim
from .hostile import BODY, Raw, Raw2

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04\x00" + bytes(4)


def framed(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


POST = b"\x83\x84\x86\x01\x01x"
"""A header block: POST http://x/ in HPACK, which leaves nothing in the table."""


def rapid_resets() -> Iterator[bytes]:
    for stream in itertools.count(1, 2):
        yield framed(1, 5, stream, POST) + framed(3, 0, stream, bytes((0, 0, 0, 8)))


def unknown_settings() -> Iterator[bytes]:
    for first in itertools.count(100, 100):
        numbers = range(first % 60_000, first % 60_000 + 100)
        yield framed(4, 0, 0, b"".join(n.to_bytes(2, "big") + bytes(4) for n in numbers))


OPEN = framed(1, 4, 1, POST)

FLOODS = {
    "rapid reset": (b"", rapid_resets),
    "ping": (b"", lambda: itertools.repeat(framed(6, 0, 0, bytes(8)))),
    "ping answers": (b"", lambda: itertools.repeat(framed(6, 1, 0, bytes(8)))),
    "settings": (b"", lambda: itertools.repeat(framed(4, 0, 0, b"\0\4\0\0\xff\xff"))),
    "empty settings": (b"", lambda: itertools.repeat(framed(4, 0, 0))),
    "unknown settings": (b"", unknown_settings),
    "empty data": (OPEN, lambda: itertools.repeat(framed(0, 0, 1))),
    "padding": (OPEN, lambda: itertools.repeat(framed(0, 8, 1, b"\1\0"))),
    "window updates": (b"", lambda: itertools.repeat(framed(8, 0, 0, b"\0\0\0\1"))),
    "window updates of a stream": (OPEN, lambda: itertools.repeat(framed(8, 0, 1, b"\0\0\0\1"))),
    "priorities": (
        b"",
        lambda: (framed(2, 0, stream, b"\0\0\0\0\x10") for stream in itertools.count(1, 2)),
    ),
    "unknown frames": (b"", lambda: itertools.repeat(framed(99, 0, 0, b"x"))),
    "continuations": (framed(1, 0, 1, b"\x83"), lambda: itertools.repeat(framed(9, 0, 1))),
    "large continuations": (
        framed(1, 0, 1, b"\x83"),
        lambda: itertools.repeat(framed(9, 0, 1, b"\0\1a\x7f\x81\x7f" + b"a" * 16_000)),
    ),
    "a large frame": (b"\xff\xff\xff\0\0\0\0\0\1", lambda: itertools.repeat(b"x" * 10_000)),
}


CALM, PROTOCOL_ERROR, FRAME_SIZE_ERROR = 11, 1, 6
OTHER_ERRORS = {
    "continuations": PROTOCOL_ERROR,
    "a large frame": FRAME_SIZE_ERROR,
}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_ends_its_connection_and_hurts_no_other(name: str, victim: StartVictim) -> None:
    start, frames = FLOODS[name]
    here = await victim()
    before = psutil.Process().memory_info().rss
    async with Raw2(here.port) as other, Raw(here.port) as peer:
        flood = asyncio.ensure_future(_flood(peer, PREFACE + start, frames()))
        while not flood.done():
            assert (await other.post()).status == 202
            assert (await other.post(path="/health")).status == 200
        assert _goaway(await flood) in (None, OTHER_ERRORS.get(name, CALM))
    assert psutil.Process().memory_info().rss - before < 50_000_000


async def _flood(peer: Raw, start: bytes, frames: Iterator[bytes]) -> bytes:
    """Send until the connection is closed, which it must be before 20 MB; what it answered."""
    reading = asyncio.ensure_future(peer.rest())
    sent, data = 0, start
    with suppress(ConnectionError):
        while not reading.done():
            await peer.send(data)
            sent += len(data)
            assert sent < 20_000_000
            data = b"".join(itertools.islice(frames, 500))
    return await reading


def _goaway(answer: bytes) -> int | None:
    """The code of the GOAWAY in what a worker sent; None: a reset has overtaken it."""
    at = 0
    while at + 17 <= len(answer):
        if answer[at + 3] == 7:
            return int.from_bytes(answer[at + 13 : at + 17], "big")
        at += 9 + int.from_bytes(answer[at : at + 3], "big")
    return None


async def test_what_a_busy_frontend_sends_is_no_flood(
    victim: StartVictim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests restore what pings, window updates and resets take."""
    monkeypatch.setattr(strict, "CREDIT", 500)
    here = await victim()
    async with Raw2(here.port) as peer:
        for _ in range(60):
            peer.h2.ping(bytes(8))
            peer.h2.increment_flow_control_window(1)
            streams = [peer.ask() for _ in range(20)]
            for stream in streams[1:]:
                peer.h2.send_data(stream, BODY, end_stream=True)
            peer.h2.reset_stream(streams[0])
            assert (await peer.answered(streams[-1])).status == 202
            peer.events.clear()


async def test_many_resets_at_once_are_no_flood(victim: StartVictim) -> None:
    """A worker that was frozen gets all that its frontends have given up meanwhile in one piece."""
    here = await victim()
    async with Raw2(here.port) as peer:
        for _ in range(600):
            stream = peer.ask()
            peer.h2.send_data(stream, BODY, end_stream=True)
            peer.h2.reset_stream(stream)
        assert (await peer.post()).status == 202
