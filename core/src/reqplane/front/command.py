"""The front as a program: connect, listen, serve until SIGTERM or Ctrl-C, leave in order."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Sequence

import reqplane
from reqplane.front.app import Front
from reqplane.front.endpoints import Endpoints
from reqplane.front.metrics import Metrics
from reqplane.front.server import run
from reqplane.sockets import host_and_port, listening_socket

log = logging.getLogger("reqplane")

_BACKLOG = 4096


async def serve(host: str, port: int, patterns: Sequence[str]) -> int:
    """Exit status 0, or 1 if calls were cut off.  SettingsError if the address can't be used."""
    leaving = asyncio.Event()
    metrics = Metrics()
    async with reqplane.connect(signals=False, observers=[metrics.calls]) as runtime:
        listener = await listening_socket(
            host, port, host_variable="--http-host", port_variable="--http-port", backlog=_BACKLOG
        )
        _leave_on_signals(leaving)
        log.info(
            "HTTP front on %s, requests by %s, workers found by %s",
            _url(listener),
            ",".join(runtime.planes),
            runtime.settings.discovery,
        )
        settings, endpoints = runtime.settings, Endpoints(runtime, patterns)
        following = asyncio.ensure_future(endpoints.follow())
        try:
            if await run(Front(runtime, endpoints, metrics), listener, leaving, settings.drain_timeout):
                return 0
        finally:
            following.cancel()
    log.warning(
        "calls still ran after %g s (DYN_WORKER_GRACEFUL_SHUTDOWN_TIMEOUT) and were cut off",
        settings.drain_timeout,
    )
    return 1


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host_and_port(host, port)}"


def _leave_on_signals(leaving: asyncio.Event) -> None:
    """A second signal has its usual effect."""
    loop = asyncio.get_running_loop()

    def leave() -> None:
        leaving.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave)
