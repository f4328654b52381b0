"""Peers that write and read a shared connection's bytes by hand."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Self

from reqplane.interfaces import PendingStream
from reqplane.model import ConnectionInfo, SharedOffer
from reqplane.wire import shared
from reqplane.wire.frame import FrameDecoder, take_first
from reqplane_tcp_stream.transport import TcpStreamTransport

from .conftest import host_of

Received = tuple[int, int, bytes]
PATIENCE = 10.0


class Raw:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._decoder = shared.SharedDecoder(1 << 26)
        self._frames: list[Received] = []

    def raw(self, data: bytes) -> None:
        self.writer.write(data)

    def send(self, kind: int, stream: int, body: bytes = b"") -> None:
        self.raw(frame(kind, stream, body))

    async def next(self) -> Received:
        """The next frame."""
        while not self._frames:
            data = await asyncio.wait_for(self.reader.read(1 << 18), PATIENCE)
            if not data:
                raise EOFError("the connection was closed")
            self._take(data)
        return self._frames.pop(0)

    async def next_but(self, *kinds: int) -> Received:
        """The next frame of another kind."""
        while (received := await self.next())[0] in kinds:
            pass
        return received

    async def closed(self) -> list[Received]:
        """Wait until the other end closes; what came before that."""
        frames: list[Received] = []
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                frames.append(await self.next())
        return frames

    async def sync(self) -> list[Received]:
        """All that the other end has sent before it read what we have sent."""
        self.send(shared.PING, 0)
        seen: list[Received] = []
        while (received := await self.next())[0] != shared.PONG:
            seen.append(received)
        return seen

    def _take(self, data: bytes) -> None:
        self._frames += [(kind, number, bytes(body)) for kind, number, body in self._decoder.feed(data)]

    async def opening(self) -> bytes:
        """The first frame's header."""
        data = b""
        while (first := take_first(data, shared.OPENING_LIMIT)) is None:
            more = await asyncio.wait_for(self.reader.read(1 << 16), PATIENCE)
            if not more:
                raise EOFError("the connection was closed")
            data += more
        header, _, rest = first
        self._take(rest)
        return header

    async def aclose(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


def frame(kind: int, stream: int, body: bytes = b"") -> bytes:
    return shared.head(kind, stream, len(body)) + body


def subject_of(pending: PendingStream) -> bytes:
    return uuid.UUID(pending.info.subject).bytes


class RawWorker(Raw):
    """A worker that calls home by hand."""

    @classmethod
    @asynccontextmanager
    async def connected(cls, frontend: TcpStreamTransport) -> AsyncGenerator[Self]:
        """Connected, not a word said."""
        host, _, port = frontend.advertised.rpartition(":")
        peer = cls(*await asyncio.open_connection(host, int(port)))
        try:
            yield peer
        finally:
            await peer.aclose()

    @classmethod
    @asynccontextmanager
    async def welcomed(
        cls, frontend: TcpStreamTransport, worker: int = 7, max_frame: int | None = None
    ) -> AsyncGenerator[Self]:
        """Opened, and welcomed by the frontend."""
        async with cls.connected(frontend) as peer:
            peer.raw(shared.opening(host_of(frontend).process, worker, max_frame))
            shared.read_welcome(await peer.opening(), b"")
            yield peer

    def open(self, number: int, pending: PendingStream) -> None:
        self.send(shared.OPEN, number, subject_of(pending))


class RawFrontend:
    """A listener; its connections come out of `accepted`."""

    def __init__(self, process: str = "ab" * 16) -> None:
        self.process = process
        self.accepted: asyncio.Queue[Raw] = asyncio.Queue()
        self.all: list[Raw] = []
        self.address = ""

    @classmethod
    @asynccontextmanager
    async def listening(cls) -> AsyncGenerator[Self]:
        one = cls()
        server = await asyncio.start_server(one._connected, "127.0.0.1", 0)
        one.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield one
        finally:
            server.close()
            for peer in one.all:
                await peer.aclose()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.all.append(Raw(reader, writer))
        self.accepted.put_nowait(self.all[-1])

    def info(self, window: int = 1 << 18, sends: bool = False) -> ConnectionInfo:
        offer = SharedOffer(self.process, window)
        return ConnectionInfo(self.address, str(uuid.uuid4()), "r", offer, self._request(sends))

    def single(
        self, subject: str = "551d0fbf-0000-4000-8000-000000000000", sends: bool = False
    ) -> ConnectionInfo:
        """What a frontend says that offers no shared connection."""
        return ConnectionInfo(self.address, subject, "r", request=self._request(sends))

    def _request(self, sends: bool) -> ConnectionInfo | None:
        subject = "909fb74b-cc24-41e8-8823-70f79961e81f"  # as recorded
        return ConnectionInfo(self.address, subject, "r") if sends else None

    async def accept_single(self) -> SingleRaw:
        peer = await self.accept()
        return SingleRaw(peer.reader, peer.writer)

    async def accept(self) -> Raw:
        """The next connection, unanswered."""
        return await asyncio.wait_for(self.accepted.get(), PATIENCE)

    async def welcome(self, heartbeat_ms: int = 1000) -> Raw:
        """The next connection, welcomed."""
        peer = await self.accept()
        assert shared.read_opening(await peer.opening(), b"").process == self.process
        peer.raw(shared.welcome(heartbeat_ms))
        return peer


class SingleRaw(Raw):
    """One end of a connection in Dynamo's form: frames are (header, body)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self._cutter = FrameDecoder(1 << 26)
        self.frames: list[tuple[bytes, bytes]] = []

    async def frame(self) -> tuple[bytes, bytes]:
        """The next frame."""
        while not self.frames:
            data = await asyncio.wait_for(self.reader.read(1 << 18), PATIENCE)
            if not data:
                raise EOFError("the connection was closed")
            self.frames += [(header, bytes(body)) for header, body in self._cutter.feed(data)]
        return self.frames.pop(0)

    async def until_closed(self) -> list[tuple[bytes, bytes]]:
        """What comes until the other end closes."""
        frames: list[tuple[bytes, bytes]] = []
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                frames.append(await self.frame())
        return frames

    @classmethod
    @asynccontextmanager
    async def calling(cls, frontend: TcpStreamTransport, first: bytes = b"") -> AsyncGenerator[Self]:
        """A worker that has written `first` to the frontend's listener."""
        host, _, port = frontend.advertised.rpartition(":")
        peer = cls(*await asyncio.open_connection(host, int(port)))
        peer.raw(first)
        try:
            yield peer
        finally:
            await peer.aclose()
