"""The response plane's two ends, fed with any bytes by transports that lead nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

from fuzz.invariants import LIMIT, shown, splits
from reqplane.errors import ReqplaneError
from reqplane.host import RuntimeHost
from reqplane.interfaces import PendingStream
from reqplane.model import ConnectionInfo, Control, Limits, Part, SharedOffer
from reqplane.wire import shared
from reqplane_tcp_stream.transport import TcpStreamTransport

PROCESS = "ab" * 16
STREAMS = 3
RANDOM = bytes(range(256))
"""What subjects are drawn from here, so that an input can hold the right ones."""

_OPENED, _ALONE = 0x80, 0x40
"""In the first byte: the shared connection is opened already; the frontend offers no shared connection."""
_TURNS = 8
"""Turns of the event loop in which everything that is under way here comes to its end."""
_WINDOW = 1000


def frontend(data: bytes) -> None:
    """A worker's bytes, as the frontend takes them."""
    _in_a_loop(lambda: _same(data, _frontend))


def worker(data: bytes) -> None:
    """A frontend's bytes, as the worker takes them."""
    _in_a_loop(lambda: _same(data, _worker))


async def _same(data: bytes, outcome: Callable[[Iterable[bytes], int], Awaitable[Any]]) -> None:
    flags = data[0] if data else 0
    first, *others = [await outcome(parts, flags) for parts in splits(data)]
    assert all(other == first for other in others)


def _in_a_loop(check: Callable[[], Awaitable[None]]) -> None:
    """Within an event loop of its own; whatever fails there unseen is a find."""
    loop = asyncio.new_event_loop()
    problems: list[Any] = []
    loop.set_exception_handler(lambda _, context: problems.append(context))

    async def work() -> None:
        await check()

    try:
        loop.run_until_complete(work())
    finally:
        loop.close()
    assert not problems, problems


async def _turns() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)


class _Socket:
    """Takes any option."""

    def setsockopt(self, *option: object) -> None:
        pass


class _Nowhere(asyncio.Transport):
    """Keeps what is written to it; closing it is closing it at once."""

    def __init__(self, make: Callable[[], Any]) -> None:
        super().__init__({"socket": _Socket()})
        self.written = b""
        self.closing = False
        self._protocol = make()
        self._protocol.connection_made(self)

    def feed(self, data: bytes) -> None:
        if not self.closing:
            self._protocol.data_received(data)

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_protocol(self) -> Any:
        return self._protocol

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def write_eof(self) -> None:
        self.abort()

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(lambda: self._protocol.connection_lost(None))

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """What was read already still comes, so it may."""

    def resume_reading(self) -> None:
        pass


class _Host(RuntimeHost):
    """A host that is always the same process."""

    def __init__(self) -> None:
        super().__init__({}, Limits(max_frame_bytes=LIMIT, stream_window_bytes=_WINDOW))
        self.process = PROCESS
        self.incarnation = 7


@asynccontextmanager
async def _opened() -> AsyncGenerator[TcpStreamTransport]:
    """A transport that draws known subjects; afterwards no timer may be left."""
    host = _Host()
    with mock.patch("os.urandom", lambda size: (RANDOM * (size // len(RANDOM) + 1))[:size]):
        transport = await TcpStreamTransport.open(host)
        yield transport
    await transport.aclose()
    assert not any(host.timers._buckets.values())
    await host.aclose()


async def _frontend(parts: Iterable[bytes], flags: int) -> object:
    async with _opened() as transport:
        streams = [transport.expect(f"r{number}") for number in range(STREAMS)]
        wire = _Nowhere(transport._accept)
        if flags & _OPENED:
            wire.feed(shared.opening(PROCESS, 7))
        for part in parts:
            wire.feed(part)
        await _turns()
        found = [await _read(stream) for stream in streams], wire.closing
        return found, None if wire.closing else wire.written


async def _read(stream: PendingStream) -> list[Part]:
    """What has come of a stream."""
    if not stream.opened.done():
        return []
    reading = asyncio.ensure_future(stream.receive())
    await _turns()
    if reading.done():
        return reading.result()
    reading.cancel()
    return []


async def _worker(parts: Iterable[bytes], flags: int) -> object:
    loop = asyncio.get_running_loop()
    wires: list[_Nowhere] = []

    async def create_connection(make: Callable[[], Any], host: str, port: int) -> tuple[_Nowhere, Any]:
        wires.append(_Nowhere(make))
        return wires[-1], wires[-1].get_protocol()

    loop.create_connection = create_connection  # type: ignore[method-assign]
    offer = None if flags & _ALONE else SharedOffer(PROCESS, _WINDOW)
    told: list[list[Control]] = [[] for _ in range(STREAMS)]
    async with _opened() as transport:
        infos = [ConnectionInfo("127.0.0.1:9000", f"{number:032x}", "r", offer) for number in range(STREAMS)]
        calls = [
            asyncio.ensure_future(transport.call_home(info, one.append))
            for info, one in zip(infos, told, strict=True)
        ]
        await _turns()
        if flags & _OPENED and offer is not None:
            wires[0].feed(shared.welcome(1000))
            await _turns()
        for part in parts:
            if wires:
                wires[0].feed(part)
        await _turns()
        found = told, [_write(call) for call in calls], [wire.closing for wire in wires]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        return found


def _write(call: asyncio.Future[Any]) -> object:
    """Where a call home stands: under way, failed, or a stream that takes an item, with credit or without."""
    if not call.done():
        return None
    error = call.exception()
    if error is None:
        return call.result().write(b"item")
    assert isinstance(error, ReqplaneError), repr(error)
    return shown(error)
