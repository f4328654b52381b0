"""The two ends of a shared connection, fed with any bytes through a transport that goes nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from fuzz.invariants import LIMIT, same_however_split
from reqplane.host import RuntimeHost
from reqplane.model import Control, Limits
from reqplane.wire import shared
from reqplane_tcp_stream.connection import Connection
from reqplane_tcp_stream.frontend import FrontendConnection, Subjects
from reqplane_tcp_stream.worker import WorkerConnection

PROCESS = "ab" * 16
STREAMS = 3
RANDOM = bytes(range(256))
"""What subjects are drawn from here, so that an input can hold the right ones."""

_OPENED = 0x80
"""In the first byte: the connection is opened already when the bytes begin."""


class _Nowhere(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted


class _Host(RuntimeHost):
    """A host that is always the same process."""

    def __init__(self) -> None:
        super().__init__({}, Limits(max_frame_bytes=LIMIT))
        self.process = PROCESS
        self.incarnation = 7


def frontend(data: bytes) -> None:
    """A worker's bytes, as the frontend takes them."""
    _in_a_loop(lambda: same_however_split(data, lambda parts: _frontend(parts, _is_opened(data))))


def worker(data: bytes) -> None:
    """A frontend's bytes, as the worker takes them."""
    _in_a_loop(lambda: same_however_split(data, lambda parts: _worker(parts, _is_opened(data))))


def _is_opened(data: bytes) -> bool:
    return bool(data) and bool(data[0] & _OPENED)


def _in_a_loop(check: Callable[[], object]) -> None:
    """Within an event loop of its own; whatever fails there unseen is a find."""
    loop = asyncio.new_event_loop()
    problems: list[Any] = []
    loop.set_exception_handler(lambda _, context: problems.append(context))

    async def work() -> None:
        check()
        await asyncio.sleep(0)

    try:
        loop.run_until_complete(work())
    finally:
        loop.close()
    assert not problems, problems


def _ignore(_: object) -> None:
    pass


def _frontend(parts: Iterable[bytes], opened: bool) -> object:
    host = _Host()
    subjects = Subjects(host)
    subjects._random = RANDOM
    streams = [subjects.expect(f"r{number}") for number in range(STREAMS)]
    gone: list[FrontendConnection] = []
    connection = FrontendConnection(host, subjects, _ignore, gone.append)
    transport = _Nowhere()
    connection.connection_made(transport)
    if opened:
        connection.data_received(shared.opening(PROCESS, 7))
    for part in parts:
        connection.data_received(part)
    assert connection.lost == bool(gone) == transport.aborted
    if connection.lost:
        assert not connection._streams
    elif not connection.proven:
        assert len(connection._first) < shared.OPENING_LIMIT
    found = [stream._parts for stream in streams], connection.lost, connection.proven
    return found, _end(connection, transport, host)


def _worker(parts: Iterable[bytes], opened: bool) -> object:
    host = _Host()
    gone: list[WorkerConnection] = []
    connection = WorkerConnection(host, ("127.0.0.1:9", PROCESS), gone.append)
    transport = _Nowhere()
    connection.connection_made(transport)
    told: list[list[Control]] = [[] for _ in range(STREAMS)]
    homes: list[Any] = []
    if opened:
        connection.data_received(shared.welcome(1000))
        homes = [connection.open_stream(RANDOM[:16], 100, one.append) for one in told]
    for part in parts:
        connection.data_received(part)
    assert connection.lost == bool(gone) == transport.aborted
    found = told, [home._credit for home in homes], connection.lost, connection.welcomed.done()
    return found, _end(connection, transport, host)


def _end(connection: Connection, transport: _Nowhere, host: _Host) -> bytes | None:
    """What was written while the connection stood; then lose it."""
    connection.flush()
    written = None if connection.lost else transport.written
    connection.connection_lost(None)
    assert connection.ended.done()
    host.timers.close()
    return written
