"""Peers that break rules: raw bytes over HTTP/1.1, and an h2 that checks nothing it sends."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import h2.config
import h2.connection
import h2.events
from reqplane_http.transport import HttpTransport

from .conftest import PATH, Worker, frame
from .scripted import until

BODY = frame().join()
AUTHORITY = [(":authority", "x"), (":scheme", "http")]


def post(length: int | None = len(BODY), *headers: str, path: str = PATH) -> bytes:
    """The head of a POST over HTTP/1.1."""
    lines = [f"POST {path} HTTP/1.1", "host: x", *headers]
    if length is not None:
        lines.append(f"content-length: {length}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


class Raw:
    """A connection of bytes."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """All that comes until the worker closes the connection, which it must."""
        found = bytearray()
        async with asyncio.timeout(10):
            while True:
                try:
                    data = await self.reader.read(65536)
                except ConnectionError:
                    break
                if not data:
                    break
                found += data
        return bytes(found)

    async def answer(self) -> tuple[int, bytes]:
        """The next response: its status and its body."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            assert length is not None
            return int(head.split()[1]), await self.reader.readexactly(int(length[1]))


class Raw2(Raw):
    """An HTTP/2 connection on which everything may be sent."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        config = h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding="latin-1"
        )
        self.h2 = h2.connection.H2Connection(config)
        self.events: list[Any] = []
        self.lost = False

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.h2.initiate_connection()
        await self.flush()
        return self

    async def flush(self) -> None:
        await self.send(self.h2.data_to_send())

    def ask(
        self, path: str = PATH, *headers: tuple[str, Any], method: str = "POST", ends: bool = False
    ) -> int:
        """Open a stream."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [(":method", method), (":path", path), *AUTHORITY, *headers], ends)
        return stream

    async def post(self, *headers: tuple[str, Any], body: bytes = BODY, path: str = PATH) -> Answer:
        """A whole request, and what it is answered."""
        stream = self.ask(path, *headers)
        for at in range(0, len(body), 16_000):
            self.h2.send_data(stream, body[at : at + 16_000])
        self.h2.end_stream(stream)
        return await self.answered(stream)

    async def answered(self, stream: int) -> Answer:
        """What a stream is answered.  Status 0: it was reset."""
        await self.flush()

        def ended() -> Any:
            return self._of(h2.events.StreamEnded, stream) or self._of(h2.events.StreamReset, stream)

        await self.until(ended)
        if self._of(h2.events.StreamReset, stream):
            return Answer(0, {}, b"")
        response = self._of(h2.events.ResponseReceived, stream)[0]
        body = b"".join(event.data for event in self._of(h2.events.DataReceived, stream))
        headers = dict(response.headers)
        return Answer(int(headers[":status"]), headers, body)

    def _of(self, kind: type[Any], stream: int) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind) and event.stream_id == stream]

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                assert not self.lost, self.events
                await self.receive()

    async def receive(self) -> None:
        try:
            data = await self.reader.read(65536)
        except ConnectionError:
            data = b""
        self.lost = not data
        self.events += self.h2.receive_data(data)

    async def ended(self) -> int | None:
        """Wait until the worker has closed the connection; the code of its GOAWAY, if there was one."""
        async with asyncio.timeout(10):
            while not self.lost:
                await self.receive()
        last = [event for event in self.events if isinstance(event, h2.events.ConnectionTerminated)]
        return last[0].error_code if last else None


class Answer:
    """An HTTP/2 response."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body


def inflight(here: Worker) -> int:
    """Bytes that the worker's process counts as unfinished."""
    host: Any = here.transport._host
    return host.inflight.used


def under_way(transport: HttpTransport) -> int:
    """Requests that are being read or answered."""
    assert transport._server is not None
    return len(transport._server._app._intakes.under_way)


async def check_as_good_as_new(here: Worker) -> None:
    """Nothing is left of what was done to the worker: it holds nothing, and serves."""
    await until(lambda: not under_way(here.transport) and not inflight(here))
    here.refuse = here.on_accept = None
    before = len(here.got)
    async with Raw(here.port) as http1, Raw2(here.port) as http2:
        await http1.send(post() + BODY)
        assert await http1.answer() == (202, b"")
        assert (await http2.post()).status == 202
    assert len(here.got) == before + 2
    assert inflight(here) == 0
