"""Calling home: a worker's connections to all frontends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from reqplane.errors import CannotConnect, describe
from reqplane.interfaces import HomeStream, Host
from reqplane.model import ConnectionInfo, Control, Load
from reqplane.sockets import most_connections
from reqplane.wire import shared

from reqplane_tcp_stream.connection import close_all
from reqplane_tcp_stream.dial import Dialler, Key
from reqplane_tcp_stream.single import SingleHomeStream
from reqplane_tcp_stream.single_request import RequestHome
from reqplane_tcp_stream.subjects import subject_key
from reqplane_tcp_stream.worker import WorkerConnection

T = TypeVar("T")

_MOST_CONNECTIONS = 1000
"""Shared connections.  Anybody may send a request that makes one more, and hold it open."""
_SHARE = 0.125
"""Of the descriptors that this process may have; most of the others are for requests."""


class HomeConnections:
    """One connection for each process of a frontend, or one for each stream where it knows no other form."""

    def __init__(self, host: Host, dialler: Dialler) -> None:
        self._host = host
        self._dialler = dialler
        self._most = most_connections(_MOST_CONNECTIONS, _SHARE)
        self._current: dict[Key, WorkerConnection] = {}  # where new streams go
        self._all: set[WorkerConnection] = set()  # those that take no new streams too
        self._singles: set[SingleHomeStream | RequestHome] = set()
        self._connecting: dict[Key, asyncio.Task[WorkerConnection]] = {}
        self._dialling: set[asyncio.Task[Any]] = set()
        self._reports: dict[str | None, bytes] = {}  # what was told last, by endpoint
        self._closed = False

    async def call_home(self, info: ConnectionInfo, control: Callable[[Control], None]) -> HomeStream:
        """A stream to the frontend that `info` names, in the form that it takes."""
        offer = info.shared
        if offer is None:
            return await self._single(info, control)
        subject = subject_key(info.subject)
        if subject is None:
            raise _cannot(info.address, f"the subject {info.subject!r:.60} is not a uuid")
        connection = self._current.get((info.address, offer.process))
        if connection is None or connection.leaving:
            connection = await self._connect((info.address, offer.process))
        return connection.open_stream(subject, offer, control, streamed=info.request is not None)

    # ── one connection for a process ──

    async def _connect(self, key: Key) -> WorkerConnection:
        """Connect, together with all who want the same connection at this moment."""
        task = self._connecting.get(key)
        if task is None:
            task = self._connecting[key] = self._start(self._dial(key), key)
            task.add_done_callback(lambda _: self._connecting.pop(key, None))
        connection = await _outcome(task, key)
        if connection.lost or connection.leaving:
            raise _cannot(key[0], "the frontend left as soon as it was reached")
        return connection

    async def _dial(self, key: Key) -> WorkerConnection:
        self._make_room()
        connection = WorkerConnection(self._host, key, self._gone)
        await self._dialler.dial(key, connection, connection.welcomed)
        if not connection.lost:
            self._all.add(connection)
            self._current[key] = connection
            for body in self._reports.values():  # a load that stays as it is would not be told again
                connection.send(shared.REPORT, 0, body)
        return connection

    def _make_room(self) -> None:
        """Close the connection that has been without a stream for longest, if there are too many.

        Its frontend loses nothing: its next request makes another.
        """
        if len(self._all) < self._most:
            return
        idle = min((one for one in self._all if one.idle), key=lambda one: one.last_used, default=None)
        if idle is None:
            raise ConnectionError(
                f"answers to {self._most} other frontends are under way; a higher limit of open files "
                f"(ulimit -n) allows more"
            )
        idle.hang_up("others need its place")

    def _gone(self, connection: WorkerConnection) -> None:
        self._all.discard(connection)
        if self._current.get(connection.key) is connection:
            del self._current[connection.key]

    # ── one connection for a stream ──

    async def _single(self, info: ConnectionInfo, control: Callable[[Control], None]) -> SingleHomeStream:
        """Connect; for a request that is a stream itself twice, its own connection first, as Dynamo does."""
        request = None
        if info.request is not None:
            request = RequestHome(self._host, info.request.subject, self._singles.discard)
            await self._reach(info.request.address, request)
        try:
            stream = SingleHomeStream(self._host, info.subject, self._singles.discard, request)
            await self._reach(info.address, stream)
        except BaseException:
            if request is not None:
                request.give_up("the answer's connection can't be made")
            raise
        stream.start(control)
        return stream

    async def _reach(self, address: str, connection: SingleHomeStream | RequestHome) -> None:
        key = (address, "")
        task = self._start(self._dialler.dial(key, connection), key)
        self._singles.add(connection)
        try:
            await _outcome(task, key)
        except BaseException:
            task.cancel()
            connection.give_up("it is not wanted any more")
            raise
        if connection.lost:
            raise _cannot(address, "the frontend closed the connection; it may have been restarted")

    # ── all of them ──

    def _start(self, work: Coroutine[Any, Any, T], key: Key) -> asyncio.Task[T]:
        """Dial in a task of its own: whoever wants the connection may be cancelled."""
        if self._closed:
            work.close()
            raise _cannot(key[0], "this process is leaving")
        task = asyncio.ensure_future(work)
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)
        task.add_done_callback(_retrieve)
        return task

    def report(self, load: Load) -> None:
        """Tell every frontend this worker's load."""
        body = self._reports[load.endpoint] = shared.load_body(load)
        for connection in self._all:
            connection.send(shared.REPORT, 0, body)

    async def close(self) -> None:
        """Send what was written, then close every connection."""
        self._closed = True
        dialling = list(self._dialling)
        for task in dialling:
            task.cancel()
        await asyncio.gather(*dialling, return_exceptions=True)
        self._dialler.close()
        await close_all([*self._all, *self._singles], "this process is leaving")


async def _outcome(task: asyncio.Task[T], key: Key) -> T:
    """What the dialling led to; each caller gets an error of its own, to write its request into."""
    await asyncio.wait([task])
    if task.cancelled():
        raise _cannot(key[0], "this process is leaving")
    error = task.exception()
    if error is not None:
        raise _cannot(key[0], describe(error)) from error
    return task.result()


def _cannot(address: str, problem: str) -> CannotConnect:
    return CannotConnect(problem, address=address, transport="tcp_stream")


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Its exception is known, even if nobody waits for it any more."""
    if not task.cancelled():
        task.exception()
