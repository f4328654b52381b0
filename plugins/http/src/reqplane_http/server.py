"""The worker's one HTTP server: hypercorn on a socket of ours, HTTP/1.1 and h2c on the same port."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from hypercorn.asyncio import serve  # pyright: ignore[reportUnknownVariableType]
from hypercorn.config import Config
from reqplane.interfaces import Accept, Host, Listener
from reqplane.model import Served

from reqplane_http.app import Application, Route, path_of
from reqplane_http.bind import BACKLOG, bind
from reqplane_http.settings import HttpSettings

_PATIENCE = 1.0  # what requests without a whole body get at the close, once everything accepted is answered
_GRACE = 2  # what hypercorn then gives its connections
_STOP_LIMIT = 5.0  # and what we give hypercorn


def hypercorn_config(descriptor: int, log: logging.Logger) -> Config:
    """hypercorn's settings; the odd ones are remedies.

    Its default of 1000 requests a connection drops those in flight; its queue of 10 messages lets one
    slow reader block a whole connection; its default backlog makes 5000 connections wait 27 s.
    """
    config = Config()
    config.bind = f"fd://{descriptor}"
    config.backlog = BACKLOG
    config.keep_alive_max_requests = 10**9
    config.max_app_queue_size = 1000
    config.h2_max_concurrent_streams = 1000
    config.keep_alive_timeout = 75
    config.read_timeout = 60
    config.graceful_timeout = _GRACE
    config.include_server_header = False
    config.include_date_header = False
    own = log.getChild("hypercorn")
    own.setLevel(logging.WARNING)  # hypercorn says "Running on … (CTRL + C to quit)" at INFO
    config.errorlog = own
    return config


class HttpServer:
    """Opened by the first listener, closed with the last."""

    def __init__(self, host: Host, settings: HttpSettings, descriptor: int, port: int) -> None:
        self._app = Application(host, settings.root_path)
        self._stop = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._host = host
        self.origin = f"http://{_bracketed(settings.advertise_host or host.advertise(settings.host))}:{port}"
        self.root = settings.root_path
        self._serving = host.spawn(self._serve(descriptor), f"http server on port {port}")

    async def _serve(self, descriptor: int) -> None:
        config = hypercorn_config(descriptor, self._host.log)
        app: Any = self._app
        try:
            await serve(app, config, shutdown_trigger=self._stop.wait, mode="asgi")
        except Exception:
            if not self.closing:
                raise
            # A connection that ended badly while hypercorn shut down is raised there as an error.
            self._host.log.debug("the HTTP server's end", exc_info=True)

    @classmethod
    async def open(cls, host: Host, settings: HttpSettings) -> HttpServer:
        """Bind and serve.  SettingsError if the address can't be used."""
        listener = await bind(settings.host, settings.port)
        port: int = listener.getsockname()[1]
        host.log.info("Starting HTTP endpoint server on %s:%s", _bracketed(settings.host), port)
        return cls(host, settings, listener.detach(), port)  # hypercorn owns the socket from here on

    def listen(self, served: Served, accept: Accept) -> HttpListener:
        """Serve one more endpoint."""
        route = Route(served.endpoint, accept)
        self._app.add(route)
        return HttpListener(self, route, served)

    @property
    def closing(self) -> bool:
        return self._closing is not None

    async def leave(self, route: Route) -> None:
        """Serve one endpoint less; with the last one the server closes."""
        self._app.remove(route)
        await route.quiet()
        if self._app.serves_nothing:
            await self.close()

    async def close(self) -> None:
        """Free the address; idempotent.  A close that is cancelled goes on by itself."""
        if self._closing is None:
            self._closing = self._host.spawn(self._shut_down(), "http server's close")
        await asyncio.shield(self._closing)

    async def _shut_down(self) -> None:
        # hypercorn's graceful stop loses requests in flight on HTTP/2, so they are waited for before it.
        await self._app.finish(_PATIENCE)
        self._stop.set()
        _, running = await asyncio.wait({self._serving}, timeout=_STOP_LIMIT)
        if running:
            self._host.log.warning("the HTTP server did not stop within %s s", _STOP_LIMIT)
            self._serving.cancel()
            await asyncio.wait(running, timeout=1)


class HttpListener(Listener):
    """One endpoint on the server."""

    def __init__(self, server: HttpServer, route: Route, served: Served) -> None:
        self._server, self._route, self._served = server, route, served

    def record(self, instance_id: int) -> dict[str, Any]:
        path = f"{self._server.root}{path_of(self._served.endpoint)}.instance.{instance_id}"
        member: dict[str, Any] = {"http_endpoint": self._server.origin + path, "h2c": True}
        if self._served.response_address:
            member["tcp_endpoint"] = self._served.response_address
        return {"http_tcp": member}

    async def drain(self) -> None:
        self._route.draining = True
        await self._route.quiet()

    async def close(self) -> None:
        await self._server.leave(self._route)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
