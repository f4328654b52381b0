"""Peers that write and read the plane's bytes by hand."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .conftest import PATH, frame

PATIENCE = 10.0
RECORDED = json.loads((Path(__file__).parent.parent / "golden" / "tcp.json").read_text())
ACK = bytes(4)


def recorded(name: str) -> dict[str, Any]:
    """One entry of golden/tcp.json, with its bytes as `message` and `frame`."""
    (entry,) = (one for one in RECORDED if one["name"] == name)
    found = {**entry, "message": bytes.fromhex(entry["message_hex"])}
    if "frame_hex" in entry:
        found["frame"] = bytes.fromhex(entry["frame_hex"])
    return found


def message(
    payload: bytes | None = None, *, path: bytes | str = PATH, headers: bytes = b"{}", size: int | None = None
) -> bytes:
    """A request; `size` is what it says of its payload, whatever that has."""
    payload = frame().join() if payload is None else payload
    encoded = path.encode() if isinstance(path, str) else path
    size = len(payload) if size is None else size
    head = struct.pack(">H", len(encoded)) + encoded + struct.pack(">H", len(headers)) + headers
    return head + struct.pack(">I", size) + payload


def old_message(payload: bytes | None = None, *, path: str = "generate", size: int | None = None) -> bytes:
    """The same as Dynamo 0.7 writes it."""
    payload = frame().join() if payload is None else payload
    size = len(payload) if size is None else size
    return struct.pack(">H", len(path)) + path.encode() + struct.pack(">I", size) + payload


def text(words: str) -> bytes:
    """An answer."""
    return struct.pack(">I", len(words.encode())) + words.encode()


class Raw:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def exactly(self, size: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(size), PATIENCE)

    async def rest(self) -> bytes:
        """All that comes until the other end closes, which it must."""
        found = b""
        with suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE):
                while data := await self.reader.read(65536):
                    found += data
        return found

    async def aclose(self) -> None:
        self.writer.transport.abort()
        with suppress(OSError):
            await self.writer.wait_closed()


class RawFrontend(Raw):
    """A frontend by hand."""

    @classmethod
    @asynccontextmanager
    async def connected(cls, port: int) -> AsyncGenerator[Self]:
        peer = cls(*await asyncio.open_connection("127.0.0.1", port))
        try:
            yield peer
        finally:
            await peer.aclose()

    async def answer(self) -> str:
        """The next answer; "" accepts."""
        (size,) = struct.unpack(">I", await self.exactly(4))
        return (await self.exactly(size)).decode()


@dataclass
class Request:
    """What a frontend sent."""

    path: str
    headers: dict[str, str]
    payload: bytes


class RawWorkerConnection(Raw):
    """A worker's end of a connection, by hand."""

    async def request(self, headers: bool = True) -> Request:
        """The next request, read whole."""
        path = (await self.exactly(struct.unpack(">H", await self.exactly(2))[0])).decode()
        block = await self.exactly(struct.unpack(">H", await self.exactly(2))[0]) if headers else b"{}"
        payload = await self.exactly(struct.unpack(">I", await self.exactly(4))[0])
        return Request(path, json.loads(block), payload)

    async def close(self) -> None:
        """In order."""
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


class RawWorker:
    """A listener; its connections come out of `connection`."""

    def __init__(self) -> None:
        self._accepted: asyncio.Queue[RawWorkerConnection] = asyncio.Queue()
        self._all: list[RawWorkerConnection] = []
        self._server: asyncio.Server
        self.address = ""

    @classmethod
    @asynccontextmanager
    async def listening(cls) -> AsyncGenerator[Self]:
        one = cls()
        one._server = await asyncio.start_server(one._connected, "127.0.0.1", 0)
        one.address = f"127.0.0.1:{one._server.sockets[0].getsockname()[1]}"
        try:
            yield one
        finally:
            one.stop()
            for peer in one._all:
                await peer.aclose()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._all.append(RawWorkerConnection(reader, writer))
        self._accepted.put_nowait(self._all[-1])

    def stop(self) -> None:
        """Accept no more connections."""
        self._server.close()

    @property
    def connections(self) -> int:
        """How many there have been."""
        return len(self._all)

    @property
    def record(self) -> str:
        return f"{self.address}/{PATH}"

    async def connection(self) -> RawWorkerConnection:
        """The next connection."""
        return await asyncio.wait_for(self._accepted.get(), PATIENCE)
