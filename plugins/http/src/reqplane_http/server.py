"""The worker's one HTTP server: hypercorn on a socket of ours, HTTP/1.1 and h2c on the same port.

hypercorn's own `serve` can't be closed under traffic: what arrives while it shuts down kills connections,
and then it hangs.  So we accept connections ourselves (see inbound.py); the close is
then in this order: accept no more connections, let everything accepted be acked, tell every HTTP/2 peer
that nothing else was looked at (so that it may be sent elsewhere), close.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Coroutine
from typing import Any

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from reqplane.interfaces import Accept, Host, Listener
from reqplane.model import Served
from reqplane.sockets import host_and_port, listening_socket, most_connections, told_address

from reqplane_http.app import Application, Route, path_of
from reqplane_http.head import MOST_HEAD_BYTES
from reqplane_http.inbound import Connection, Connections
from reqplane_http.settings import HttpSettings

_BACKLOG = 4096
_MOST_CONNECTIONS = 10_000
_SHARE = 0.75
"""Of the descriptors that this process may have; the others are for calling home."""
_CLOSE_LIMIT = 2.0  # seconds for each step of the close


def hypercorn_config(log: logging.Logger) -> Config:
    """hypercorn's settings; the odd ones are remedies.

    Its default of 1000 requests a connection drops those in flight; its queue of 10 messages lets one
    slow reader block a whole connection.  100 streams a connection are its default, and should stay so: each
    request costs it time in proportion to how many there are (4 times as much with 500), and at 1000 its
    connections die (see streams.py).
    """
    config = Config()
    config.keep_alive_max_requests = 10**9
    config.max_app_queue_size = 1000
    config.h2_max_concurrent_streams = 100
    config.h2_max_header_list_size = MOST_HEAD_BYTES
    config.include_server_header = False
    config.include_date_header = False
    config.errorlog = log.getChild("hypercorn")
    return config


class HttpServer:
    """Opened by the first listener, closed with the last."""

    def __init__(self, host: Host, settings: HttpSettings, port: int) -> None:
        self._host = host
        dynamos_root = settings.dynamos_root_path if host.dynamo else None
        self._app = Application(host, settings.root_path, dynamos_root)
        self._wrapped = ASGIWrapper(self._app)
        self._config = hypercorn_config(host.log)
        self._context = WorkerContext(None)
        self._connections = Connections(most_connections(_MOST_CONNECTIONS, _SHARE))
        self._tasks: set[asyncio.Task[Any]] = set()
        self._accepting: asyncio.Server | None = None
        self._closing: asyncio.Task[None] | None = None
        told = settings.advertise_host or host.advertise(settings.host)
        self.origin = f"http://{host_and_port(*told_address(told, port))}"
        self.root = settings.root_path

    @classmethod
    async def open(cls, host: Host, settings: HttpSettings) -> HttpServer:
        """Bind and serve.  SettingsError if the address can't be used."""
        listener = await listening_socket(
            settings.host,
            settings.port,
            host_variable="DYN_HTTP_RPC_HOST",
            port_variable="DYN_HTTP_RPC_PORT",
            backlog=_BACKLOG,
        )
        port: int = listener.getsockname()[1]
        try:
            server = cls(host, settings, port)
            await server._start(listener)
        except BaseException:
            listener.close()
            raise
        host.log.info("Starting HTTP endpoint server on %s", host_and_port(settings.host, port))
        return server

    async def _start(self, listener: socket.socket) -> None:
        self._accepting = await asyncio.start_server(self._serve, sock=listener, backlog=_BACKLOG)

    def listen(self, served: Served, accept: Accept) -> HttpEndpoint:
        """Serve one more endpoint."""
        route = Route(served.endpoint, accept)
        self._app.add(route)
        return HttpEndpoint(self, route, served)

    @property
    def closing(self) -> bool:
        return self._closing is not None

    async def leave(self, route: Route) -> None:
        """Serve one endpoint less; with the last one the server closes."""
        self._app.remove(route)
        await _within_limit(route.quiet())
        if self._app.serves_nothing:
            await self.close()

    async def close(self) -> None:
        """Free the address; idempotent.  A close that is cancelled goes on by itself."""
        if self._closing is None:
            self._closing = self._host.spawn(self._shut_down(), "http server's close")
        await asyncio.shield(self._closing)

    async def _shut_down(self) -> None:
        if self._accepting is not None:
            self._accepting.close()
        await _within_limit(self._app.finish(self._connections.go_away))
        await self._context.terminated.set()  # from here on connections end when they are idle
        self._connections.finish()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_CLOSE_LIMIT)
            for connection in late:
                connection.cancel()
            if late:
                await asyncio.wait(late, timeout=_CLOSE_LIMIT)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        timers = self._host.timers
        try:
            await Connection(
                self._wrapped, self._config, self._context, (reader, writer), timers, self._connections
            )
        except asyncio.CancelledError:
            if not self.closing:
                raise
        except Exception as error:
            # Peers that break the rules get hypercorn to raise.
            self._host.log.warning("an HTTP connection ended badly: %r", error)
        finally:
            self._tasks.discard(task)
            writer.close()


class HttpEndpoint(Listener):
    """One endpoint on the server."""

    def __init__(self, server: HttpServer, route: Route, served: Served) -> None:
        self._server, self._route, self._served = server, route, served

    def record(self, instance_id: int) -> dict[str, Any]:
        path = f"{self._server.root}{path_of(self._served.endpoint)}.instance.{instance_id}"
        member: dict[str, Any] = {"http_endpoint": self._server.origin + path, "h2c": True, "batch": 1}
        if self._served.response_address:
            member["tcp_endpoint"] = self._served.response_address
        if self._route.dynamos_path:
            return {"http_tcp": member, "http": self._server.origin + self._route.dynamos_path}
        return {"http_tcp": member}

    async def drain(self) -> None:
        self._route.draining = True
        await _within_limit(self._route.quiet())

    async def close(self) -> None:
        await self._server.leave(self._route)


async def _within_limit(work: Coroutine[Any, Any, None]) -> None:
    """Wait for it, but not for a peer that does not read what it is sent."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(work, _CLOSE_LIMIT)
