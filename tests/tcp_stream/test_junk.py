"""Whatever bytes come, a connection takes them or closes; it never raises."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reqplane.model import Control, Limits
from reqplane.wire import shared
from reqplane_tcp_stream.frontend import FrontendConnection, Subjects
from reqplane_tcp_stream.worker import WorkerConnection

from .conftest import Host
from .scripted import frame

SUBJECT = b"\x00" * 16


class Nowhere:
    """A transport that sends nothing."""

    def __init__(self) -> None:
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    write_eof = close = abort


FRAMES = st.builds(
    frame,
    st.integers(0, 15),
    st.integers(0, 3) | st.integers(0, 2**32 - 1),
    st.just(b"") | st.just(SUBJECT) | st.binary(max_size=20),
)
CHUNKS = st.lists(FRAMES | st.binary(max_size=60), max_size=30)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def feed(connection: Any, chunks: list[bytes]) -> None:
    connection.connection_made(Nowhere())
    for chunk in chunks:
        if connection._transport.closed:
            break
        connection.data_received(chunk)
    connection.eof_received()
    connection.connection_lost(None)
    assert connection.lost
    assert not connection._streams


@given(chunks=CHUNKS, proven=st.booleans(), size=st.integers(1, 200))
@settings(max_examples=200, deadline=None)
def test_a_frontend_takes_any_bytes(chunks: list[bytes], proven: bool, size: int):
    async def main() -> None:
        host = Host({}, Limits(max_frame_bytes=4096))
        subjects = Subjects(host)
        pending = subjects.expect("r")
        subjects._waiting = {SUBJECT: pending}
        connection = FrontendConnection(host, subjects, lambda one: None, lambda one: None)
        data = (shared.opening(host.process, 7) if proven else b"") + b"".join(chunks)
        feed(connection, cut(data, size))
        await host.aclose()

    asyncio.run(main())


@given(chunks=CHUNKS, welcomed=st.booleans(), size=st.integers(1, 200))
@settings(max_examples=200, deadline=None)
def test_a_worker_takes_any_bytes(chunks: list[bytes], welcomed: bool, size: int):
    async def main() -> None:
        host = Host({}, Limits(max_frame_bytes=4096))
        told: list[Control] = []
        connection = WorkerConnection(host, ("127.0.0.1:9000", "0" * 32), lambda one: None)
        if welcomed:
            feed_start = Nowhere()
            connection.connection_made(feed_start)  # type: ignore[arg-type]
            connection.data_received(shared.welcome(1000))
            for _ in range(3):
                connection.open_stream(SUBJECT, 1000, told.append)
        feed(connection, cut(b"".join(chunks), size))
        last = [control for control in told if control is not Control.STOP]
        assert len(last) == (3 if welcomed else 0)  # each stream is told its end, once
        await host.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("kind", range(16))
async def test_every_kind_with_any_body_on_an_open_stream(kind: int):
    for body in (b"", b"\xff", b"null", b"[" * 5000, b"\x00" * 4, b'{"running":-1}', b'{"running":1e999}'):
        host = Host({}, Limits(max_frame_bytes=1 << 16))
        subjects = Subjects(host)
        pending = subjects.expect("r")
        connection = FrontendConnection(host, subjects, lambda one: None, lambda one: None)
        (key,) = subjects._waiting
        data = shared.opening(host.process, 7) + frame(shared.OPEN, 1, key)
        feed(connection, [data, frame(kind, 1, body), frame(kind, 0, body)])
        assert pending._over
        await host.aclose()
