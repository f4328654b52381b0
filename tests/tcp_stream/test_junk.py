"""Whatever bytes come, a connection takes them or closes; it never raises."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reqplane.model import Control, Limits, SharedOffer
from reqplane.wire import response, shared
from reqplane_tcp_stream.single import SingleHomeStream
from reqplane_tcp_stream.transport import TcpStreamTransport
from reqplane_tcp_stream.worker import WorkerConnection

from .conftest import Host, host_of, is_last
from .scripted import frame, subject_of

SUBJECT = b"\x00" * 16
PROCESS = "ab" * 16


class Nowhere:
    """A socket's transport that sends nothing; `protocol` gets what is fed."""

    def __init__(self, protocol: Any) -> None:
        self.closed = False
        self.protocol = protocol
        self._socket = socket.socket()
        self._socket.close()
        protocol.connection_made(self)

    def write(self, data: bytes) -> None:
        assert not self.closed

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str) -> socket.socket:
        return self._socket

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading
    write_eof = close = abort

    def feed(self, chunks: list[bytes]) -> None:
        """All of it, then the end."""
        for chunk in chunks:
            if self.closed:
                break
            self.protocol.data_received(chunk)
        self.protocol.eof_received()
        self.protocol.connection_lost(None)
        assert self.protocol.lost


FRAMES = st.builds(
    frame,
    st.integers(0, 15),
    st.integers(0, 3) | st.integers(0, 2**32 - 1),
    st.just(b"") | st.just(SUBJECT) | st.binary(max_size=20),
)
SINGLE = st.sampled_from(
    [
        response.prologue(None),
        response.prologue("failed"),
        b"".join(response.item(b"item")),
        response.sentinel(),
        response.control(Control.STOP),
        response.control(Control.KILL),
    ]
)
CHUNKS = st.lists(FRAMES | SINGLE | st.binary(max_size=60), max_size=30)
FIRST = {"nothing": b"", "shared": shared.opening(PROCESS, 7), "single": response.handshake(SUBJECT.hex())}


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


async def listener(limit: int) -> TcpStreamTransport:
    host = Host({}, Limits(max_frame_bytes=limit))
    host.process = PROCESS
    return await TcpStreamTransport.open(host)


@given(chunks=CHUNKS, first=st.sampled_from([*FIRST]), size=st.integers(1, 200))
@settings(max_examples=300, deadline=None)
def test_a_frontend_takes_any_bytes(chunks: list[bytes], first: str, size: int):
    async def main() -> None:
        frontend = await listener(4096)
        pending = frontend.expect("r")
        frontend._subjects._waiting = {SUBJECT: pending}
        Nowhere(frontend._accept()).feed(cut(FIRST[first] + b"".join(chunks), size))
        assert not frontend._connections
        assert not frontend._unproven
        if pending.opened.done():
            assert is_last((await pending.receive())[-1])
        assert first != "single" or pending.opened.done()
        await host_of(frontend).aclose()

    asyncio.run(main())


@given(chunks=CHUNKS, welcomed=st.booleans(), size=st.integers(1, 200))
@settings(max_examples=200, deadline=None)
def test_a_worker_takes_any_bytes(chunks: list[bytes], welcomed: bool, size: int):
    async def main() -> None:
        host = Host({}, Limits(max_frame_bytes=4096))
        told: list[Control] = []
        connection = WorkerConnection(host, ("127.0.0.1:9000", PROCESS), lambda one: None)
        transport = Nowhere(connection)
        if welcomed:
            connection.data_received(shared.welcome(1000))
            for _ in range(3):
                connection.open_stream(SUBJECT, SharedOffer(PROCESS, 1000), told.append)
        transport.feed(cut(b"".join(chunks), size))
        assert not connection._streams
        last = [control for control in told if control is not Control.STOP]
        assert len(last) == (3 if welcomed else 0)  # each stream is told its end, once
        await host.aclose()

    asyncio.run(main())


@given(chunks=CHUNKS, size=st.integers(1, 200))
@settings(max_examples=200, deadline=None)
def test_a_worker_of_one_stream_takes_any_bytes(chunks: list[bytes], size: int):
    async def main() -> None:
        host = Host({}, Limits(max_frame_bytes=4096))
        told: list[Control] = []
        stream = SingleHomeStream(host, "subject", lambda one: None)
        transport = Nowhere(stream)
        stream.start(told.append)
        transport.feed(cut(b"".join(chunks), size))
        assert [control for control in told if control is not Control.STOP] in (
            [Control.KILL],
            [Control.GONE],
        )
        await host.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("kind", range(16))
async def test_every_kind_with_any_body_on_an_open_stream(kind: int):
    for body in (b"", b"\xff", b"null", b"[" * 5000, b"\x00" * 4, b'{"running":-1}', b'{"running":1e999}'):
        frontend = await listener(1 << 16)
        pending = frontend.expect("r")
        data = FIRST["shared"] + frame(shared.OPEN, 1, subject_of(pending))
        Nowhere(frontend._accept()).feed([data, frame(kind, 1, body), frame(kind, 0, body)])
        assert pending._over
        await host_of(frontend).aclose()
