"""The baseline: the least that asyncio needs for the same work.

One TCP connection for everything, frames of (length, stream, kind) and msgpack, writes gathered for each
turn of the loop.  No discovery, headers, deadlines, cancellation, limits, flow control or errors.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from workloads import Call, handler

msgpack: Any = importlib.import_module("msgpack")  # it has no type information
ABOUT = "asyncio's protocols, {codec}, one multiplexed connection"
"""What the report says of it."""

_HEAD = struct.Struct(">IIB")
_REQUEST, _ITEM, _END = 0, 1, 2


class _Multiplexed(asyncio.Protocol):
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._in = b""
        self._out: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def send(self, stream: int, kind: int, body: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(_HEAD.pack(len(body), stream, kind) + body)

    def _flush(self) -> None:
        out, self._out = self._out, []
        self._transport.writelines(out)

    def data_received(self, data: bytes) -> None:
        data = self._in + data
        at = 0
        while len(data) - at >= _HEAD.size:
            length, stream, kind = _HEAD.unpack_from(data, at)
            end = at + _HEAD.size + length
            if end > len(data):
                break
            self.received(stream, kind, data[at + _HEAD.size : end])
            at = end
        self._in = data[at:]

    def received(self, stream: int, kind: int, body: bytes) -> None:
        raise NotImplementedError


class _Worker(_Multiplexed):
    def __init__(self) -> None:
        super().__init__()
        self._tasks: set[asyncio.Task[None]] = set()

    def received(self, stream: int, kind: int, body: bytes) -> None:
        task = self._loop.create_task(self._answer(stream, msgpack.unpackb(body)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, stream: int, request: Any) -> None:
        async for item in handler(request):
            self.send(stream, _ITEM, msgpack.packb(item))
        self.send(stream, _END, b"")


class _Frontend(_Multiplexed):
    def __init__(self) -> None:
        super().__init__()
        self._streams: dict[int, asyncio.Queue[bytes | None]] = {}
        self._last = 0

    def received(self, stream: int, kind: int, body: bytes) -> None:
        self._streams[stream].put_nowait(body if kind == _ITEM else None)

    async def call(self, request: Any) -> AsyncIterator[Any]:
        self._last += 1
        stream = self._last
        queue = self._streams[stream] = asyncio.Queue()
        self.send(stream, _REQUEST, msgpack.packb(request))
        while (body := await queue.get()) is not None:
            yield msgpack.unpackb(body)
        del self._streams[stream]


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(
        _Worker, "127.0.0.1", int(os.environ["BENCH_RAW_PORT"])
    )
    print("ready", flush=True)
    await server.serve_forever()


@asynccontextmanager
async def frontend() -> AsyncGenerator[Call]:
    transport, protocol = await asyncio.get_running_loop().create_connection(
        _Frontend, "127.0.0.1", int(os.environ["BENCH_RAW_PORT"])
    )
    try:
        yield protocol.call
    finally:
        transport.close()
