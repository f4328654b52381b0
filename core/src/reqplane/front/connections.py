"""The front's connections: hypercorn's, HTTP/1.1 and HTTP/2 without encryption on one port.

hypercorn's own `serve` has no bound for connections, and can't be closed under traffic, so we accept them
ourselves and hand each to its TCPServer.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from h2.utilities import SizeLimitDict
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from hypercorn.typing import ConnectionState

log = logging.getLogger("reqplane")

_IDLE_SECONDS = 75.0
"""For the head of a request to come, and between requests."""
_CLOSE_SECONDS = 2.0
"""For a client to read the last of what it was sent."""
_MOST_HEAD_BYTES = 64 * 1024
_CLOSED_STREAMS = 1000  # h2 remembers 65 536: up to 19 MiB a connection


def hypercorn_config() -> Config:
    """Its default of 1000 requests a connection drops those in flight; its queue of 10 messages lets one
    request that nobody reads block a whole connection."""
    config = Config()
    config.keep_alive_max_requests = 10**9
    config.keep_alive_timeout = _IDLE_SECONDS
    config.max_app_queue_size = 1000
    config.h2_max_concurrent_streams = 100
    config.h2_max_header_list_size = _MOST_HEAD_BYTES
    config.h11_max_incomplete_size = _MOST_HEAD_BYTES
    config.include_server_header = False
    config.errorlog = log.getChild("hypercorn")
    return config


class Connections:
    """The open ones, at most `most`."""

    def __init__(self, app: Any, most: int) -> None:
        self._app: Any = ASGIWrapper(app)
        self._most = most
        self._config = hypercorn_config()
        self._context = WorkerContext(None)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._open: set[Connection] = set()
        self._idle: dict[Connection, None] = {}  # the one that has been idle for longest is the first

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end.  Where it is one too many, one that is idle goes, or else it does."""
        connection = Connection(self._app, self._config, self._context, reader, writer, self)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(connection)
        if len(self._open) > self._most:
            self._drop(next(iter(self._idle), connection))
        self.is_idle(connection, True)
        try:
            await connection
        except asyncio.CancelledError:
            if not self._context.terminated.is_set():
                raise
        except Exception as error:  # clients that break the rules get hypercorn to raise
            log.debug("an HTTP connection ended badly: %r", error)
        finally:
            self._tasks.discard(task)
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)
        connection.abort()

    def is_idle(self, connection: Connection, idle: bool) -> None:
        """Whether a connection has no request."""
        self._idle.pop(connection, None)
        if idle and connection in self._open:
            self._idle[connection] = None

    async def close(self) -> None:
        """Close those that are idle, then the others; nothing that is whole gets lost on its way."""
        await self._context.terminated.set()  # the idle ones end by that, others when they are idle
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_CLOSE_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_CLOSE_SECONDS)


class Connection(TCPServer):
    """A connection from its accept to its end; await it."""

    def __init__(
        self,
        app: Any,
        config: Config,
        context: WorkerContext,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connections: Connections,
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(app, loop, config, context, ConnectionState({}), reader, writer)
        self._connections = connections

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated):
            self._connections.is_idle(self, event.idle)
            self._remember_less()
        await super().protocol_send(event)

    def _remember_less(self) -> None:
        h2: Any = getattr(self.protocol.protocol, "connection", None)
        remembered: Any = getattr(h2, "_closed_streams", None)
        if isinstance(remembered, SizeLimitDict) and not remembered:
            h2._closed_streams = SizeLimitDict(size_limit=_CLOSED_STREAMS)

    async def _close(self) -> None:
        """A client that doesn't read would have it wait for ever."""
        timer = self.loop.call_later(_CLOSE_SECONDS, self.abort)
        try:
            await super()._close()
        finally:
            timer.cancel()

    def abort(self) -> None:
        """End it now."""
        self.writer.transport.abort()
